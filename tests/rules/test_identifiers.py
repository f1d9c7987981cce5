"""Ids of one process: valid, and in the order in which they were made."""

import time
import uuid

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


def read_millis(made: str) -> int:
    return uuid.UUID(made).int >> 80


def test_ids_go_by_the_databases_clock(monkeypatch):
    """Where this machine's clock is an hour off, or jumps, ids have the database's time; small differences are nobody's."""
    monkeypatch.setattr(identifiers._Clock, "last", 0)
    monkeypatch.setattr(identifiers._Clock, "behind", 0)
    now = 1_700_000_000
    monkeypatch.setattr(time, "time_ns", lambda: now * 10**9)
    for off in (0, 3600, -3600, 0, 0.5):
        make_id()
        follow_clock(now + off)
        assert read_millis(make_id()) == (now + int(off)) * 1000
