"""``--json``: one JSON value per line on stdout and nothing else, from every command, whatever is shown beside it."""

import json
import subprocess

import pytest

from tests.support.runs import perform, start_endless

STRANGE = 'line\nline "quoted" \u2028 \x1b[31m\t你好'


def read(text):
    """The values of the lines; a line that is none fails."""
    *lines, end = text.split("\n")
    assert end == "", "the last line is open"
    return [json.loads(line) for line in lines]


@pytest.fixture
def run(wire):
    """A settled run whose chat and text are strange."""
    return perform(wire, agent="demo", input=STRANGE, chat_id="a:b@c/d")


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["run", "--agent", "demo", STRANGE], {"run", "created"}),
        (["run", "--detach", "--agent", "demo", STRANGE], {"run", "created"}),
        (["run", "--", "sh", "-c", "echo out; echo err >&2"], {"run", "created"}),
        (["tail", "RUN"], {"run_id", "seq", "at", "type", "data"}),
        (["stop", "RUN", "@last"], {"outcome", "run"}),
        (["wait", "RUN"], {"run", "message", "settled"}),
        (["wait", "RUN", "RUN", "--any"], {"run", "message", "settled"}),
        (["show", "RUN"], {"run", "message"}),
        (["list"], {"id", "status", "usage"}),
        (["chats"], {"id", "active_run_id"}),
        (["messages", "a:b@c/d"], {"id", "role", "content"}),
        (["info"], {"name", "agents"}),
        (["info", "--stats"], {"uptime_seconds", "commits_total"}),
        (["describe", "run/get"], set()),
        (["daemon", "status"], {"name", "pid"}),
        (["daemon", "start"], {"name", "pid"}),
        (["completion", "bash"], {"shell", "script"}),
    ],
)
def test_every_line_is_a_value(outlive, run, arguments, keys):
    """Each command prints objects, a line each."""
    name, *operands = [run["id"] if word == "RUN" else word for word in arguments]
    verb = [operands.pop(0)] if name == "daemon" else []
    done = outlive.run(name, *verb, "--json", *operands)
    assert done.returncode == 0, done.stderr
    values = read(done.stdout)
    assert values
    assert keys <= set(values[0])
    assert all(isinstance(value, dict) for value in values)


def test_terminal_gets_values_alone_too(outlive, open_terminal):
    """At a terminal there is no status line and no colour among the values."""
    terminal = open_terminal("run", "--json", "--agent", "demo", "one two three", columns=500)
    assert terminal.wait_end() == 0
    *values, end = terminal.screen.raw.splitlines()
    assert end.startswith("outlive: run ")
    assert [json.loads(line).get("type") for line in values][-1] == "run.settled"


def test_failure_leaves_stdout_alone(outlive, wire):
    """What went wrong is said on stderr; stdout holds what was known before."""
    failed = outlive.run("run", "--json", "--", "sh", "-c", "exit 3")
    assert failed.returncode == 1
    assert read(failed.stdout)[-1]["data"]["error"]["exit_status"] == 3
    nobody = outlive.run("show", "--json", "ffffffff")
    assert (nobody.returncode, nobody.stdout) == (2, "")
    assert nobody.stderr.count("\n") == 1


def test_log_is_values_too(outlive):
    """``daemon logs`` prints a log's objects as they are, and what is no object as a text."""
    state = outlive.home / "state"
    state.mkdir()
    (state / "outlived.log").write_text('{"event": "serving"}\nplain words\n', "utf-8")
    assert read(outlive.run("daemon", "logs", "--json").stdout) == [{"event": "serving"}, "plain words"]
    assert outlive.run("daemon", "logs").stdout == '{"event": "serving"}\nplain words\n'


def test_daemon_that_ends_is_a_value(outlive, make_daemon):
    """``daemon stop`` prints which process it stopped, and what that left running."""
    daemon = make_daemon()
    daemon.start()
    outlive.environment["OUTLIVE_SOCKET"] = str(daemon.socket)
    assert read(outlive.run("daemon", "stop", "--json").stdout) == [{"pid": daemon.process.pid, "left": []}]


def test_detached_id_goes_into_a_variable(outlive, wire):
    """A shell script keeps the id that --detach prints, waits for it, and stops another."""
    endless = start_endless(wire)["id"]
    script = (
        f"set -e; id=$(outlive run -d -- echo done); outlive wait $id {endless[-8:]} --any; outlive tail $id; "
        f"outlive stop {endless} --wait 20"
    )
    done = subprocess.run(
        ["sh", "-c", script], env=outlive.environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    waited, text, stopped = done.stdout.splitlines()
    assert (waited.split()[1], text, stopped) == ("succeeded", "done", f"{endless} stopped")
