"""Coding agents as they are shipped, in a real daemon: ``codex`` and ``opencode`` as commands, ``opencode`` over ACP.

They work against the model server of the tests. What each kind promises is asked of each: an answer, a tool, usage, a
failure, a death, a stop, a second turn, many at once, and the death of the daemon.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.coding import EXAMPLES, Home, need_program, open_home
from tests.support.daemon import FAST, Daemon
from tests.support.effort import Effort
from tests.support.history import assert_history
from tests.support.models import USAGE
from tests.support.processes import find_run_processes
from tests.support.programs import list_pids
from tests.support.runs import perform, read_text, settle, start, stop, wait_text
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire

SLOW = 110.0
"""Seconds: two cores, and programs of a hundred megabytes."""
CONFIG = (
    FAST
    + """
[agents.opencode-acp]
kind = "acp"
command = ["opencode", "acp"]
permissions = "{permissions}"
""".format(permissions="allow")
)
KINDS = ("codex", "opencode", "opencode-acp")
TOOLS = {
    "codex": ('[call exec_command {"cmd": "echo from-the-shell"}]', "command_execution"),
    "opencode": ('[call read {"filePath": "opencode.json"}]', "read"),
    "opencode-acp": ('[call bash {"command": "echo from-the-shell", "description": "d"}]', "execute"),
}
COMMANDS = ("codex", "opencode")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def home(short_dir: Path) -> Iterator[Home]:
    for name in ("codex", "opencode"):
        need_program(name)
    with open_home(short_dir / "coder") as home:
        yield home


def open_daemon(daemon: Daemon, home: Home) -> Daemon:
    """Start a daemon as the one whose home that is would."""
    daemon.before = ["env", *(f"{name}={value}" for name, value in home.environment.items())]
    return daemon.start()


@pytest.fixture(scope="module")
def daemon(home: Home, short_dir: Path, postgres) -> Iterator[Daemon]:
    daemon = Daemon(short_dir / "coding", database=postgres.create_database(), config=CONFIG)
    yield open_daemon(daemon, home)
    assert daemon.stop() == 0, daemon.read_log()
    assert "Traceback" not in daemon.read_log()
    assert_history(daemon.dsn, settled=True)


@pytest.fixture
def wire(daemon: Daemon) -> Iterator[Wire]:
    with daemon.connect(SLOW) as wire:
        yield wire


@pytest.fixture
def ask(wire: Wire, home: Home) -> Callable[..., tuple[Json, list[Json], Json]]:
    """Have a turn in the home's directory; the run, its log, its message."""

    def ask(agent: str, text: str, **params: object) -> tuple[Json, list[Json], Json]:
        run = perform(wire, agent=agent, input=text, cwd=str(home.work), **params)
        return run, wire.tail(run["id"])[0], wire.call("run/get", run_id=run["id"])["message"]

    return ask


def test_what_is_on_path_can_be_named(daemon: Daemon, wire: Wire):
    """Coding agents that are found are listed without a configuration; one that is not there says so when it is named."""
    agents = {agent["name"]: agent for agent in wire.call("server/info")["agents"]}
    assert {"codex", "opencode", "opencode-acp"} <= agents.keys()
    assert (agents["codex"]["kind"], agents["codex"]["in_cwd"]) == ("command", True)
    assert not agents["opencode-acp"]["in_cwd"]
    if "claude" not in agents:
        refused = wire.refuse("run/start", agent="claude")
        assert (refused.code, refused.type) == (422, "agent_unavailable")


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_answer_with_its_usage(ask, kind: str):
    """The answer is the message's content, in parts; what it cost is on the run."""
    run, log, message = ask(kind, "good morning")
    assert (run["status"], run["error"]) == ("succeeded", None)
    assert read_text(log) == message["content"] == "You said: good morning"
    assert [part["type"] for part in message["parts"] if part["type"] != "step-start"] == ["text"]
    read, written, cached = USAGE
    cost = 44 if kind == "opencode" else None
    assert run["usage"] == {
        "input_tokens": read, "output_tokens": written, "cached_tokens": cached, "cost_micro_usd": cost,
    }  # fmt: skip
    assert run["step_count"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_tool_call_and_its_result(ask, kind: str):
    """A tool is a call and its result in the log, and one part of the message with both."""
    text, name = TOOLS[kind]
    run, log, message = ask(kind, text)
    assert run["status"] == "succeeded", run["error"]
    types = [event["type"] for event in log if event["type"].startswith("tool.")]
    assert types == ["tool.call", "tool.result"]
    [part] = [part for part in message["parts"] if part["type"].startswith("tool-")]
    assert (part["type"], part["state"]) == (f"tool-{name}", "output-available")
    assert part["input"]
    assert ("mock" if kind == "opencode" else "from-the-shell") in str(part["output"])
    assert message["content"].startswith("It said: ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_key_is_a_failure(ask, kind: str):
    """A model server that refuses fails the run, with its own words."""
    run, _, message = ask(kind, "[fail 401]")
    assert run["status"] == "failed"
    assert run["error"]["code"] == "exception"
    assert "no, says the model server (401)" in run["error"]["message"]
    assert message["status"] == "failed"


def test_a_stream_that_breaks_off_is_a_failure(ask):
    """A model server that hangs up in the middle of its answer fails the turn."""
    run, _, _ = ask("codex", "[cut]")
    assert run["status"] == "failed"
    assert "stream" in run["error"]["message"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_turn_knows_the_first(ask, kind: str):
    """The second turn of a chat goes on with the program's own conversation, and is charged for itself alone."""
    chat = f"two-{kind}"
    first, _, _ = ask(kind, "my name is Ada", chat_id=chat)
    second, _, message = ask(kind, "[recall]", chat_id=chat)
    assert second["status"] == "succeeded", second["error"]
    assert "my name is Ada" in message["content"]
    assert second["usage"] == first["usage"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_in_the_middle_of_a_stream(wire: Wire, home: Home, kind: str):
    """A stop ends the turn within its grace and leaves no process; what was said before stays."""
    before = len(home.server.requests)
    run = start(wire, agent=kind, input="[stall] it", cwd=str(home.work))
    wait_until(lambda: any("[stall] it" in str(body) for _, body in home.server.requests[before:]), SLOW)
    if kind == "opencode-acp":
        wait_text(wire, run["id"], "You said: ")
    stopped = stop(wire, run["id"])
    assert (stopped["status"], stopped["error"]) == ("aborted", None)
    message = wire.call("run/get", run_id=run["id"])["message"]
    assert message["status"] == "aborted"
    assert message["content"] == ("You said: " if kind == "opencode-acp" else "")
    assert not find_run_processes({run["id"]})


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_dies_in_the_middle(wire: Wire, home: Home, kind: str):
    """A program that is killed in the middle of its turn fails the run, by the signal's name."""
    before = len(home.server.requests)
    run = start(wire, agent=kind, input="[stall] and die", cwd=str(home.work))
    wait_until(lambda: any("[stall] and die" in str(body) for _, body in home.server.requests[before:]), SLOW)
    program = "opencode" if kind.startswith("opencode") else "codex"
    for pid in find_run_processes({run["id"]}):
        if pid in list_pids(program) and "outlive" not in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    settled = settle(wire, run["id"])
    assert (settled["status"], settled["error"]["code"]) == ("failed", "signal"), settled["error"]
    assert not find_run_processes({run["id"]})


@pytest.mark.parametrize("kind", KINDS)
def test_many_at_once(wire: Wire, home: Home, effort: Effort, kind: str):
    """Twenty turns at once, each in its own chat, all get their own answer. (opencode: three, but for the long form.)"""
    count = 20 if kind == "codex" or effort.seed is not None else 3
    runs = {
        number: start(wire, agent=kind, input=f"number {number}", cwd=str(home.work))
        for number in range(count)
    }
    for number, run in runs.items():
        assert settle(wire, run["id"])["status"] == "succeeded"
        assert read_text(wire.tail(run["id"])[0]) == f"You said: number {number}"


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_turn_survives_its_daemon(make_daemon, home: Home, kind: str):
    """kill -9 of the daemon costs a coding agent nothing: the next daemon adopts it, and it answers once."""
    daemon, before = open_daemon(make_daemon(config=CONFIG), home), len(home.server.requests)
    with daemon.connect(SLOW) as wire:
        run = start(wire, agent=kind, input="[wait 4]", cwd=str(home.work))
        wait_until(lambda: any("[wait 4]" in str(body) for _, body in home.server.requests[before:]), SLOW)
    daemon.kill()
    daemon.start()
    with daemon.connect(SLOW) as wire:
        settled = settle(wire, run["id"])
        assert (settled["status"], settled["attempt"], settled["epoch"]) == ("succeeded", 1, 2)
        assert read_text(wire.tail(run["id"])[0]) == "You said: [wait 4]"
        assert settled["usage"]["input_tokens"] == USAGE[0]
    assert_history(daemon.dsn, settled=True)


@pytest.mark.parametrize("on_owner_loss", ["abort", "resume"])
def test_an_acp_turn_does_not(make_daemon, home: Home, on_owner_loss: str):
    """After kill -9 of the daemon an ACP agent's process is killed; then its run ends, or is prompted again."""
    daemon = open_daemon(make_daemon(config=CONFIG), home)
    text = f"[once] {on_owner_loss}"
    with daemon.connect(SLOW) as wire:
        run = start(wire, agent="opencode-acp", input=text, cwd=str(home.work), on_owner_loss=on_owner_loss)
        wait_text(wire, run["id"], "You said: ")
        before = find_run_processes({run["id"]})
        assert before
    daemon.kill()
    daemon.start()
    with daemon.connect(SLOW) as wire:
        settled = settle(wire, run["id"])
        if on_owner_loss == "abort":
            assert (settled["status"], settled["error"]["code"]) == ("aborted", "owner_lost")
        else:
            assert (settled["status"], settled["attempt"]) == ("succeeded", 2)
            assert read_text(wire.tail(run["id"])[0]).endswith(f"You said: {text}")
    assert not find_run_processes({run["id"]}) & before.keys()
    assert_history(daemon.dsn, settled=True)


@pytest.mark.parametrize("name", ["echo_agent.py", "agent.py"])
def test_the_protocols_own_example_agents(make_daemon, name: str):
    """The example agents of the official library, which are not ours, have a turn over stdio."""
    pytest.importorskip(
        "acp", reason="there is no agent-client-protocol here: pip install agent-client-protocol"
    )
    if not (EXAMPLES / name).exists():
        pytest.skip("its examples are not here: .ci/run gets them")
    command = f'["{sys.executable}", "{EXAMPLES / name}"]'
    daemon = make_daemon(config=FAST + f'[agents.example]\nkind = "acp"\ncommand = {command}\n').start()
    with daemon.connect(SLOW) as wire:
        for text in ("hello", "again"):
            run = perform(wire, agent="example", input=text, chat_id="c")
            assert (run["status"], run["error"]) == ("succeeded", None)
            assert text in read_text(wire.tail(run["id"])[0])
    assert_history(daemon.dsn, settled=True)
