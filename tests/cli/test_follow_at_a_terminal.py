"""Following a run in a real pseudo-terminal: what is seen, and how one leaves and comes back."""

import fcntl
import re
import signal
import struct
import termios
from pathlib import Path

import pytest

from tests.support.runs import start, start_endless
from tests.support.terminal import CTRL_C, Terminal
from tests.support.waits import wait_until

SLOW = '{"demo": {"delay_ms": 3600000}}'
STATUS = re.compile(r"^ \d+:\d\d · .*Ctrl-C leaves, the run goes on$")


def has_status(rows):
    """Whether the last row is the status line."""
    return bool(rows) and STATUS.match(rows[-1]) is not None


def read_way_back(rows):
    """The command line that the last rows tell."""
    said = "".join(rows[-2:])
    found = re.search(r"return with: (outlive tail [0-9a-f]{8})", said)
    assert found is not None, rows
    return found.group(1)


def test_text_comes_with_time_below_it(open_terminal):
    """An open line is shown as it is, with a status line below; at the end the line is closed and the status gone."""
    terminal = open_terminal(
        "run", "--agent", "demo", "--metadata", '{"demo":{"delay_ms":400}}', "one two three"
    )
    terminal.wait_shown(lambda rows: has_status(rows) and rows[-2:-1] == ["one two"])
    assert terminal.wait_end() == 0
    head, text, end = terminal.screen.rows()
    assert re.fullmatch(r"outlive: run ([0-9a-f]{8}) in chat [0-9a-f-]{36}", head)
    assert text == "one two three"
    assert end == f"{head.partition(' in ')[0]} succeeded"


def test_text_ends_with_a_line_feed(open_terminal):
    """Without a status line too, the prompt that follows does not stick to the text."""
    terminal = open_terminal("run", "--agent", "demo", "hello", TERM="dumb")
    assert terminal.wait_end() == 0
    assert "hello\r\noutlive: run " in terminal.screen.raw
    assert "\x1b" not in terminal.screen.raw


def test_tools_and_logs_are_dimmed(open_terminal):
    """What an agent thinks, calls, gets and logs is dimmed, each on lines of its own; what it says is not."""
    terminal = open_terminal("run", "--agent", "outspoken")
    assert terminal.wait_end() == 0
    raw = terminal.screen.raw
    for aside in (
        "it should be said",
        'outlive: calls look {"where":"there"}',
        'outlive: got ["it",1,null,true]',
    ):
        assert f"\x1b[2m{aside}" in raw
    assert "\x1b[2mall well" in raw
    rows = terminal.screen.rows()
    assert "said:" in rows
    assert any(row.startswith("outlive: got an error: xxx") for row in rows)
    assert max(map(len, rows)) <= 80


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_turned_off(open_terminal, environment):
    """With NO_COLOR, and at a terminal that has none, nothing is coloured or dimmed."""
    terminal = open_terminal("run", "--agent", "outspoken", **environment)
    assert terminal.wait_end() == 0
    assert "calls look" in terminal.screen.raw
    assert not re.findall(r"\x1b\[[0-9;]*[1-9]m", terminal.screen.raw)


def test_leaving_tells_the_way_back(outlive, wire):
    """Ctrl-C leaves with status 0, the run goes on, and the line that is printed shows it again when it is typed."""
    shell = ["bash", "--norc", "--noprofile", "-i"]
    with Terminal(shell, {**outlive.environment, "PS1": "$ "}) as terminal:
        terminal.type(f"outlive run --agent demo --metadata '{SLOW}' 'first second'; echo status $?\n")
        terminal.wait_shown(has_status)
        terminal.type(CTRL_C)
        rows = terminal.wait_shown(lambda rows: "status 0" in rows)
        way_back = read_way_back(rows[: rows.index("status 0")])
        run_id = wire.call("run/list", limit=1)["runs"][0]["id"]
        assert run_id.endswith(way_back.split()[-1])
        terminal.type(f"clear; {way_back}\n")
        terminal.wait_shown(lambda rows: has_status(rows) and rows[-2:-1] == ["first"])
        assert wire.call("run/stop", run_id=run_id)["outcome"] != "already_settled"
        terminal.wait_shown(lambda rows: f"outlive: run {run_id[-8:]} was stopped" in rows)


def test_leaving_twice_is_at_once(outlive, wire):
    """A second Ctrl-C ends a command that the first one could not, here because nobody takes its output."""
    run = start(wire, input="x" * 20_000)
    with outlive.start("tail", run["id"]) as process:
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        wait_until(lambda: count_unread(process.stdout) == 4096, what="the pipe is full")
        process.send_signal(signal.SIGINT)
        wait_until(lambda: not is_caught(process.pid, signal.SIGINT), what="the first Ctrl-C was seen")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == -signal.SIGINT


def count_unread(pipe):
    """How many bytes wait in a pipe."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def is_caught(pid, number):
    """Whether a process has a handler for this signal."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return bool(int(re.search(r"SigCgt:\s+(\w+)", status).group(1), 16) >> (number - 1) & 1)


def test_way_back_names_a_socket_that_was_named(outlive, open_terminal, wire):
    """Where --socket was given, the line that returns has it too."""
    run = start_endless(wire)
    socket = outlive.environment["OUTLIVE_SOCKET"]
    terminal = open_terminal("tail", run["id"], "--socket", socket, columns=200, OUTLIVE_SOCKET="/nowhere")
    terminal.wait_shown(has_status)
    terminal.type(CTRL_C)
    assert terminal.wait_end() == 0
    assert f"return with: outlive tail {run['id'][-8:]} --socket {socket}" in terminal.screen.raw
    wire.call("run/stop", run_id=run["id"])


def test_attached_run_ends_with_its_client(open_terminal, wire):
    """With --attached Ctrl-C stops the run, and says so before and after."""
    terminal = open_terminal("run", "--attached", "--agent", "demo", "--metadata", SLOW, "first second")
    terminal.wait_shown(lambda rows: bool(rows) and rows[-1].endswith("Ctrl-C stops the run"))
    terminal.type(CTRL_C)
    assert terminal.wait_end() == 3
    assert "is being stopped, as --attached asks" in terminal.screen.raw
    run = wire.call("run/list", limit=1)["runs"][0]
    assert wire.call("run/wait", run_id=run["id"])["run"]["stop_reason"] == "client_disconnected"


def test_waiting_shows_for_how_long(open_terminal, wire):
    """``wait`` and ``stop --wait`` show a status line too; what they say of a run stays."""
    run = start_endless(wire)
    terminal = open_terminal("wait", run["id"])
    terminal.wait_shown(
        lambda rows: bool(rows) and re.match(r" waiting for the run · \d:\d\d", rows[-1]) is not None
    )
    assert wire.call("run/stop", run_id=run["id"], wait_seconds=10)["outcome"] == "stopped"
    assert terminal.wait_end() == 3
    assert terminal.screen.rows() == [f"{run['id']} aborted"]


def test_pipe_gets_plain_text(outlive):
    """Where stdout and stderr are no terminals there is neither colour nor status line nor a line feed added."""
    done = outlive.run("run", "--agent", "outspoken")
    assert (done.returncode, done.stdout) == (0, "said: everything")
    assert "\x1b" not in done.stderr
    assert "it should be said" in done.stderr
