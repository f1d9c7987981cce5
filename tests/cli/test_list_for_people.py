"""Tables and sheets for people: they fit the terminal, are coloured only there, and are readable."""

import re

import pytest

from tests.support.runs import perform, settle, start, start_endless

WIDE = "写一首关于海的诗"


@pytest.fixture(scope="module")
def runs(shared_daemon):
    """One run of each kind, the last one still active."""
    with shared_daemon.connect() as wire:
        done = perform(wire, input="hello", chat_id="greeting")
        failed = settle(wire, start(wire, command=["sh", "-c", f"echo {WIDE}; exit 3", "😀" * 40])["id"])
        used = perform(wire, agent="outspoken", metadata={"purpose": "a test"})
        active = start_endless(wire)
        yield {"done": done, "failed": failed, "used": used, "active": active}
        wire.call("run/stop", run_id=active["id"])


@pytest.mark.parametrize("columns", [30, 60, 120])
def test_table_fits_the_terminal(open_terminal, runs, columns):
    """No row of a list is broken at any width from thirty columns on; CJK and emoji are counted as what they take."""
    terminal = open_terminal("list", "--limit", "4", columns=columns)
    assert terminal.wait_end() == 0
    head, *rows = terminal.screen.rows()[:5]
    assert head.split()[:2] == ["RUN", "STATUS"]
    assert [row.split()[0] for row in rows] == [run["id"][-8:] for run in reversed(runs.values())]


def test_columns_can_be_set(open_terminal, runs):
    """COLUMNS says how wide the table may be, as it does everywhere."""
    for environment, least, most in (({}, 100, 200), ({"COLUMNS": "60"}, 50, 60)):
        terminal = open_terminal("list", "--limit", "4", columns=200, **environment)
        assert terminal.wait_end() == 0
        assert least < max(map(len, terminal.screen.rows())) <= most


def test_statuses_are_coloured(open_terminal, runs):
    """At a terminal a status has its colour."""
    terminal = open_terminal("list")
    assert terminal.wait_end() == 0
    for status, code in (("succeeded", 32), ("failed", 31), ("running", 36)):
        assert re.search(rf"\x1b\[{code}m{status} *\x1b\[0m", terminal.screen.raw)


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("list", {"NO_COLOR": "1"}),
        ("show", {"NO_COLOR": "1"}),
        ("list", {"TERM": "dumb"}),
        ("info", {"TERM": "dumb"}),
        ("info", {"NO_COLOR": "1"}),
    ],
)
def test_colours_can_be_turned_off(open_terminal, runs, command, environment):
    """With NO_COLOR, and where the terminal has none, there is not one escape sequence."""
    operands = [runs["failed"]["id"]] if command == "show" else []
    terminal = open_terminal(command, *operands, **environment)
    assert terminal.wait_end() == 0
    assert "\x1b" not in terminal.screen.raw


@pytest.mark.parametrize("command", ["list", "chats", "info", "show"])
def test_pipe_gets_whole_plain_lines(outlive, runs, command):
    """In a pipe nothing is coloured and nothing shortened, whatever COLUMNS says."""
    operands = [runs["failed"]["id"]] if command == "show" else []
    outlive.environment["COLUMNS"] = "30"
    done = outlive.run(command, *operands)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    if command == "list":
        assert "😀" * 40 in done.stdout
        assert runs["failed"]["chat_id"] in done.stdout


def test_times_are_relative(outlive, runs):
    """A list says how long ago a run began and how long it took."""
    row = outlive.run("list", "--chat", "greeting").stdout.splitlines()[1]
    assert re.search(r"\d+ (s|min) ago  \d+ (s|min) ", row)


def test_run_is_shown_for_people(outlive, runs):
    """``show`` says everything about a run in words: what went wrong, what was used; JSON only where a user wrote it."""
    failed = outlive.run("show", runs["failed"]["id"]).stdout
    assert "error                 the command exited with status 3 (exit_status, exit_status 3)" in failed
    assert f"command               sh -c 'echo {WIDE}; exit 3'" in failed
    assert "if its owner dies     its command goes on with the next daemon, else it is aborted" in failed
    assert failed.endswith(f"\n{WIDE}\n\n")
    used = outlive.run("show", runs["used"]["id"]).stdout
    assert "usage                 3 tokens in (1 of them cached), 2 tokens out, $0.0000" in used
    assert 'metadata              {"purpose":"a test"}' in used
    assert "if its owner dies     it is aborted" in used
    assert re.search(r"created +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(\d+ (s|min) ago\)", used)


def test_daemon_is_shown_for_people(outlive, shared_daemon):
    """``info`` shows limits with their units and agents with what they are for."""
    shown = outlive.run("info").stdout
    assert "{" not in shown
    assert re.search(r"^limits +client line +1 MiB$", shown, re.MULTILINE)
    assert re.search(r"^outspoken +python +Says everything once$", shown, re.MULTILINE)
    assert f"socket      {shared_daemon.socket}" in shown


def test_figures_are_shown_for_people(outlive, runs):
    """``info`` ends with how the daemon is doing, and with --stats that is all it shows."""
    shown = outlive.run("info").stdout
    assert re.search(r"^runs now +.*1 running$", shown, re.MULTILINE)
    figures = outlive.run("info", "--stats").stdout
    assert [line.split("  ")[0] for line in figures.splitlines()] == [
        line.split("  ")[0] for line in shown.rpartition("\n\n")[2].splitlines()
    ]
    assert re.search(r"^runs so far +\d+ started, .*\(in \d+ (s|min)\)$", figures, re.MULTILINE)
    assert re.search(
        r"^commits +\d+; lately \d.* ms each \(p99 .*\), \d+ items? each \(p99 \d+\)$", figures, re.MULTILINE
    )


def test_more_and_none_are_said(outlive, open_terminal, runs):
    """At a terminal a list that was cut says how to see more, and an empty one that it is empty; a pipe gets neither."""
    terminal = open_terminal("list", "--limit", "1")
    assert terminal.wait_end() == 0
    assert terminal.screen.rows()[-1] == "outlive: there are more; see: outlive list --limit 10"
    empty = open_terminal("list", "--agent", "nobody")
    assert empty.wait_end() == 0
    assert empty.screen.rows()[-1] == "outlive: no such runs"
    assert outlive.run("list", "--limit", "1").stderr == ""
