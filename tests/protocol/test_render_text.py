"""Objects as text: tables that fit, ages, cells without control characters."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlive import wire
from outlive.cli.figures import figures
from outlive.cli.layout import ago, brief, cells, clock, fit, seconds_between, sheet, span, table
from outlive.cli.render import info_page, message_page, run_page, runs_table
from tests.support.scripted_daemon import AT, RUN_ID, a_message, a_run, an_info, some_stats

texts = st.one_of(st.text(max_size=30), st.text("a你😀é", max_size=20))
tables = st.lists(st.lists(texts, min_size=3, max_size=3), max_size=5)


def underline(text, style):
    """A paint that can be seen through."""
    return f"<{text}>" if style else text


@given(tables, st.integers(40, 100))
def test_table_fits_its_width(rows, width):
    """A table with room for its fixed column takes no more cells than asked, and each row is one printable line."""
    rows = [[row[0][:5], *row[1:]] for row in rows]
    lines = table(("A", "B", "C"), rows, width, flexible=(1, 2))
    assert len(lines) == len(rows) + 1
    assert all(cells(line) <= width and line.isprintable() for line in lines)


@given(texts.filter(str.isprintable), st.integers(1, 40))
def test_cell_has_its_size(text, size):
    """A text is cut or filled to exactly as many cells as asked, and begins as it began."""
    cut = fit(text, size)
    assert cells(cut) == size
    assert cut.rstrip() == text.rstrip() or cut.endswith("…")


def test_wide_characters_take_two_cells():
    """Columns behind CJK and emoji stand below one another on the screen."""
    lines = table(("A", "B"), [("你好", "x"), ("😀", "x"), ("ab", "x")], None)
    assert [cells(line[: line.index("x")]) for line in lines[1:]] == [6, 6, 6]


def test_columns_are_left_out_where_nothing_else_helps():
    """On a narrow terminal the spare columns go, one after the other, and only as many as needed."""
    row = ("12345678", "succeeded", "3 min ago", "a long command")
    head = ("RUN", "STATUS", "CREATED", "WHAT")
    options = {"flexible": (3,), "spare": (2, 1)}
    assert table(head, [row], 43, **options)[1] == "12345678  succeeded  3 min ago  a long com…"
    assert table(head, [row], 30, **options)[1] == "12345678  succeeded  a long c…"
    assert table(head, [row], 20, **options)[1] == "12345678  a long co…"


def test_colours_stand_around_cells():
    """A style changes nothing about widths and texts; the head has one of its own."""
    lines = table(
        ("A", "B"),
        [("x", "y"), ("longer", "z")],
        None,
        paint=underline,
        style=lambda column, cell: "red" if (column, cell) == (0, "x") else "",
    )
    assert lines == ["<A     >  <B>", "<x     >  y", "longer  z"]
    assert sheet({"a": [1, 2], "bc": None}, paint=underline, styles={"a": "red"}) == ["<a>  <1>", "< >  <2>"]


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
    """A run's page shows every field that has a value, in words, and what was said."""
    usage = wire.Usage(input_tokens=12_345, cached_tokens=1_000, output_tokens=7, cost_micro_usd=1_234_500)
    error = {"code": "signal", "message": "ended by SIGKILL", "signal": "SIGKILL"}
    run = a_run(metadata={"k": 1}, stop_reason="enough", usage=usage, error=error, finished_at=AT)
    page = "\n".join(run_page(run, a_message(truncated=True)))
    for part in (
        *(RUN_ID, "running", "demo", "c1", '{"k":1}', "enough", "hello", "cut"),
        "12,345 tokens in (1,000 of them cached), 7 tokens out, $1.2345",
        "ended by SIGKILL (signal, signal SIGKILL)",
    ):
        assert part in page
    assert "null" not in page


@pytest.mark.parametrize(
    ("first", "events", "cut"),
    [
        (1, "1 to 9", "(cut: the run's events hold all, see outlive tail)"),
        (5, "5 to 9 (earlier ones are no longer kept)", "(cut)"),
        (10, "9, no longer kept", "(cut)"),
    ],
)
def test_run_page_says_which_events_are_kept(first, events, cut):
    """A page says which of the run's events there are still, and sends nobody to events that are gone."""
    page = run_page(a_run(first_seq=first, last_seq=9), a_message(truncated=True))
    [line] = [line for line in page if line.startswith("events ")]
    assert line.split(maxsplit=1)[1] == events
    assert f"it said {cut}" in page


def test_limits_have_units():
    """A daemon's limits are shown in words, each with its unit."""
    limits = {"client_line_bytes": 1 << 20, "linger_seconds": 10, "subscriptions": 1024, "tiny_bytes": 10}
    lines = info_page(attrs.evolve(an_info(), limits=limits), "/s", None)
    assert [" ".join(line.split()) for line in lines if line.endswith(("MiB", "10 s", "1,024", "10 B"))] == [
        "limits client line 1 MiB",
        "linger 10 s",
        "subscriptions 1,024",
        "tiny 10 B",
    ]


def test_figures_of_a_daemon_at_rest_are_few():
    """What is at rest is not mentioned: no commits, no queue, no subscribers, no blocks."""
    lines = figures(some_stats(rss_bytes=50 << 20, connections=1))
    assert [line.split("  ", 1) for line in lines] == [
        ["runs now", "none"],
        ["database", "ok"],
        ["clients", " 1 connection"],
        ["loop", "    0% busy, 0 ms at the longest"],
        ["memory", "  50 MiB (CPU time 0 s)"],
    ]


def test_figures_have_units():
    """What goes on is said in words and units, and what asks for attention is coloured."""
    stats = some_stats(
        uptime_seconds=12_000, database="degraded", rss_bytes=57 << 20, cpu_seconds=12.3, connections=12, subscribers=8,
        subscriber_lag_events=1, runs_pending=1, runs_running=2, runs_started_total=1204, runs_taken_total=1,
        runs_succeeded_total=1190, runs_aborted_total=11, commits_total=12_345, commit_items_p50=4, commit_items_p99=17,
        commit_p50_seconds=0.00182, commit_p99_seconds=0.0996, queue_items=3, queue_bytes=12_288,
        queue_oldest_seconds=3.21, loop_busy_ratio=0.12, loop_longest_seconds=0.31, loop_blocks_total=2,
        replaced_characters_total=3,
    )  # fmt: skip
    assert [" ".join(line.split()) for line in figures(stats, underline)] == [
        "<runs now > 1 pending, 2 running",
        "<runs so far> 1,204 started, 1 taken over, 1,190 succeeded, 11 aborted (in 3 h)",
        "<database > <degraded>",
        "<commits > 12,345; lately 1.8 ms each (p99 100 ms), 4 items each (p99 17)",
        "<queue > 3 items, 12 KiB; the oldest waits 3.2 s",
        "<clients > 12 connections, 8 subscribers; the slowest is 1 event behind",
        "<loop > <12% busy, 310 ms at the longest; blocked 2 times (the log names who)>",
        "<memory > 57 MiB (CPU time 12 s)",
        "<replaced > 3 characters that cannot be stored",
    ]


@given(st.floats(0, 1e7))
def test_brief_times_are_short_and_nearly_right(seconds):
    """A length of time is a number of few digits and its unit, and is off by a twentieth at most."""
    number, unit = brief(seconds).split()
    assert len(number) <= 4
    size = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}[unit]
    assert abs(float(number) * size - seconds) <= max(seconds * 0.26, 5e-6)


def test_message_page_has_its_heading():
    """A message stands under its role, state and run."""
    head, text = message_page(a_message())
    at = datetime.fromisoformat(AT).astimezone()
    assert head.startswith(f"--- assistant (completed, run {RUN_ID[-8:]}, {at:%Y-%m-%d %H:%M:%S %Z} (")
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
    assert seconds_between(AT, "2026-01-02T03:04:04.000006Z") == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9, "0:00"), (67, "1:07"), (3599, "59:59"), (3723, "1:02:03")]
)
def test_clock_counts_up(seconds, text):
    """Time that passes is shown as a clock shows it."""
    assert clock(seconds) == text
