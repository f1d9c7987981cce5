"""Objects as text: tables that fit, ages, cells without control characters."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlive.cli.render import ago, message_page, run_page, runs_table, span, table
from tests.support.scripted_daemon import AT, RUN_ID, a_message, a_run

cells = st.lists(st.lists(st.text(max_size=30), min_size=3, max_size=3), max_size=5)


@given(cells, st.integers(40, 100))
def test_table_fits_its_width(rows, width):
    """A table with room for its fixed column is never wider than asked, and each row is one printable line."""
    rows = [[row[0][:5], *row[1:]] for row in rows]
    lines = table(("A", "B", "C"), rows, width, flexible=(1, 2))
    assert len(lines) == len(rows) + 1
    assert all(len(line) <= width and line.isprintable() for line in lines)


def test_table_without_a_width_is_whole():
    """Where nobody looks, nothing is shortened."""
    long = "x" * 500
    assert table(("A", "B"), [(long, "1")], None, flexible=(0,))[1] == f"{long}  1"


def test_widest_column_gives_way_first():
    """The widest flexible column is shortened, and says so."""
    assert table(("A", "B"), [("short", "x" * 40)], 20, flexible=(0, 1))[1] == "short  " + "x" * 12 + "…"


def test_run_is_one_row():
    """A run's row names its end, status, chat and what runs; a command is shown as one would type it."""
    run = a_run(agent=None, command=["sh", "-c", "echo 'a\nb'\x1b[2J"])
    row = runs_table([run], None)[1]
    assert row.startswith(RUN_ID[-8:])
    assert row.isprintable()
    assert row.endswith("""c1    sh -c 'echo '"'"'a b'"'"' [2J'""")


def test_run_page_has_everything():
    """A run's page shows every field that has a value, and what was said."""
    page = "\n".join(run_page(a_run(metadata={"k": 1}, stop_reason="enough"), a_message(truncated=True)))
    for part in (RUN_ID, "running", "demo", "c1", '{"k":1}', "enough", "hello", "cut"):
        assert part in page


def test_message_page_has_its_heading():
    """A message stands under its role, state and run."""
    head, text = message_page(a_message())
    assert head.startswith(f"--- assistant (completed, run {RUN_ID[-8:]}, {AT}")
    assert text == "hello"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_spans_are_short(seconds, text):
    """A span is a whole number of the largest unit of which there are two."""
    assert span(seconds) == text


def test_ago_never_lies_in_the_future():
    """A clock that is a little behind shows zero; no time shows a dash."""
    now = datetime(2026, 1, 2, 3, 4, 0, tzinfo=UTC)
    assert ago(AT, now) == "0 s"
    assert ago(None) == "-"
