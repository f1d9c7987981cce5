"""Ids of one process: valid, and in the order in which they were made."""

import time
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlived import identifiers
from outlived.identifiers import follow_clock, make_id


def test_an_id_is_a_uuid_version_7():
    """Version and variant bits are those of RFC 9562, and the id is written in lower case."""
    for _ in range(100):
        made = make_id()
        parsed = uuid.UUID(made)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert str(parsed) == made == made.lower()


def test_an_id_begins_with_its_time():
    """The first 48 bits are the milliseconds at which it was made."""
    before = time.time_ns() // 1_000_000
    millis = uuid.UUID(make_id()).int >> 80
    assert before <= millis <= time.time_ns() // 1_000_000 + 100


def test_ids_rise_however_fast_they_are_made():
    """More ids than one millisecond can count still rise strictly, as text and as numbers."""
    made = [make_id() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert [uuid.UUID(each).int for each in made] == sorted(uuid.UUID(each).int for each in made)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.integers(-5_000_000_000, 5_000_000), min_size=1, max_size=50))
def test_ids_rise_when_the_clock_goes_back(monkeypatch, steps: list[int]):
    """A clock that stands still or is set back does not disorder ids."""
    monkeypatch.setattr(identifiers._Clock, "last", 0)
    now = 1_700_000_000_000_000_000
    made = []
    for step in steps:
        now += step
        monkeypatch.setattr(time, "time_ns", lambda now=now: now)
        made.append(make_id())
        assert uuid.UUID(made[-1]).version == 7
    assert made == sorted(set(made))


def read_time(made: str) -> int:
    """Milliseconds since 1970."""
    return uuid.UUID(made).int >> 80


def set_clock(monkeypatch, millis: int) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: millis * 10**6)


@pytest.fixture
def _new_clock(monkeypatch):
    monkeypatch.setattr(identifiers._Clock, "last", 0)
    monkeypatch.setattr(identifiers._Clock, "behind", 0)


@pytest.mark.usefixtures("_new_clock")
def test_ids_go_by_the_databases_clock(monkeypatch):
    """Where this machine's clock is an hour off, or jumps, ids have the database's time; small differences are nobody's."""
    now = 1_700_000_000_000
    set_clock(monkeypatch, now)
    for off in (0, 3_600_000, -3_600_000, 0, 500):
        make_id()
        follow_clock((now + off) / 1000, asked=now)
        assert read_time(make_id()) == now + (off if abs(off) > 1000 else 0)


@pytest.mark.usefixtures("_new_clock")
@pytest.mark.parametrize("off", [0, 3_600_000, -3_600_000])
def test_an_answer_that_takes_long_moves_no_clock(monkeypatch, off: int):
    """Whenever between question and answer the database looked at its clock, what was known of ours stays known."""
    now = 1_700_000_000_000
    set_clock(monkeypatch, now)
    follow_clock((now + off) / 1000, asked=now)
    first = make_id()
    for looked in (0, 2_500, 5_000):
        set_clock(monkeypatch, now + 5_000)
        follow_clock((now + off + looked) / 1000, asked=now)
        assert identifiers._Clock.behind == off
    assert read_time(make_id()) == read_time(first) + 5_000
