"""``python`` agents in a real daemon: for asyncio, and in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.programs import list_pids
from tests.support.runs import perform, read_logged, read_text, settle, start, stop, wait_text
from tests.support.wire import Wire

NAMES = ("query", "remember", "wait", "block", "work", "fail")
CONFIG = FAST + "".join(
    f'[agents.{name}]\nkind = "python"\ntarget = "asynchronous:{name}"\n'
    f'[agents.{name}-apart]\nkind = "python"\ntarget = "asynchronous:{name}"\nisolation = "process"\n'
    for name in NAMES
)
CONFIG += '[agents.broken]\nkind = "python"\ntarget = "no_such_module:x"\nflavour = "asyncio"\n'
CONFIG += '[agents.broken-apart]\nkind = "python"\ntarget = "no_such_module:x"\nisolation = "process"\n'
WAYS = ("", "-apart")


@pytest.fixture(scope="module")
def daemon(request, short_dir: Path, postgres) -> Iterator[Daemon]:
    directory = short_dir / "python-agents"
    daemon = Daemon(directory, database=postgres.create_database(), config=CONFIG).start()
    yield daemon
    assert daemon.stop() == 0, daemon.read_log()
    assert "Traceback" not in daemon.read_log()
    assert_history(daemon.dsn, settled=True)


@pytest.fixture
def wire(daemon: Daemon) -> Iterator[Wire]:
    with daemon.connect() as wire:
        yield wire


@pytest.mark.parametrize("way", WAYS)
def test_a_library_that_took_asyncio_by_name_works(daemon: Daemon, wire: Wire, way: str):
    """psycopg for asyncio works in an agent, though the daemon itself has imported psycopg long before."""
    run = perform(wire, agent=f"query{way}", metadata={"dsn": daemon.dsn})
    assert (run["status"], run["error"]) == ("succeeded", None)
    assert read_text(wire.tail(run["id"])[0]) == "42"


def test_psycopg_first_would_not_do(daemon: Daemon):
    """The order matters, and is the daemon's: with psycopg imported before trio_asyncio the same agent fails."""
    script = """
import sys
{first}
import trio, psycopg, trio_asyncio
async def act():
    connection = await psycopg.AsyncConnection.connect(sys.argv[1])
    async with connection:
        await connection.execute("SELECT 1")
async def main():
    async with trio_asyncio.open_loop():
        await trio_asyncio.aio_as_trio(act)()
trio.run(main)
"""
    for first, works in (("import trio_asyncio", True), ("import psycopg", False)):
        command = [sys.executable, "-c", script.format(first=first), daemon.dsn]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode == 0) == works, done.stderr
        assert works or "no running event loop" in done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_a_turn_knows_the_one_before(wire: Wire, way: str):
    """The second turn of a chat has the first one in its history."""
    chat = f"remember{way}"
    perform(wire, agent=chat, chat_id=chat, input="one")
    run = perform(wire, agent=chat, chat_id=chat, input="two")
    assert read_text(wire.tail(run["id"])[0]) == "one | "


@pytest.mark.parametrize("way", WAYS)
def test_steps_that_run_at_once_keep_their_numbers(wire: Wire, way: str):
    """Steps are numbered from 1 in the order of their calls and counted, in either kind of process."""
    run = perform(wire, agent=f"work{way}")
    events, _ = wire.tail(run["id"])
    started = {
        event["data"]["name"]: event["data"]["step"] for event in events if event["type"] == "step.started"
    }
    assert started == {f"step {number}": number for number in (1, 2, 3)}
    assert (run["status"], run["step_count"]) == ("succeeded", 3)
    assert read_text(events) == "[[2], [4], [6]]"


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_is_the_runs(wire: Wire, way: str):
    """What the agent raised is the run's error."""
    error = perform(wire, agent=f"fail{way}")["error"]
    assert (error["code"], error["exception"], error["message"]) == ("exception", "ValueError", "no")


@pytest.mark.parametrize("way", WAYS)
def test_a_stop_in_the_middle_keeps_what_was_said(wire: Wire, way: str):
    """A stopped agent is cancelled as asyncio has it; its answer so far stays, nothing of it lives on."""
    run = start(wire, agent=f"wait{way}")
    wait_text(wire, run["id"], "waiting")
    stopped = stop(wire, run["id"])
    assert (stopped["status"], stopped["error"]) == ("aborted", None)
    events, _ = wire.tail(run["id"])
    assert (read_text(events), "CancelledError" in read_logged(events)) == ("waiting", True)
    assert wire.call("run/get", run_id=run["id"])["message"]["status"] == "aborted"
    assert not list_pids(run["id"])


@pytest.mark.parametrize("way", WAYS)
def test_twenty_at_once(wire: Wire, way: str):
    """Twenty turns at once, each in a chat of its own, all succeed."""
    runs = [start(wire, agent=f"work{way}") for _ in range(20)]
    assert {settle(wire, run["id"])["status"] for run in runs} == {"succeeded"}


def test_who_blocks_the_loop_is_named_and_who_is_apart_cannot(daemon: Daemon, wire: Wire):
    """An asyncio agent that blocks is in the log with its run and its line; one in its own process blocks nobody."""
    before = wire.call("server/stats")["loop_blocks_total"]
    run = perform(wire, agent="block-apart")
    assert run["status"] == "succeeded"
    assert wire.call("server/stats")["loop_blocks_total"] == before
    run = perform(wire, agent="block")
    [line] = [each for each in daemon.read_log().splitlines() if "the loop is blocked" in each]
    assert run["id"] in line
    assert "asynchronous.py" in daemon.read_log()


def test_an_agent_that_cannot_be_imported(daemon: Daemon, wire: Wire):
    """In the daemon's process its start is refused; apart its run fails; both say what is wrong, as check-config does."""
    refused = wire.refuse("run/start", agent="broken")
    assert (refused.code, refused.type) == (422, "agent_unavailable")
    assert "cannot import no_such_module:x: ModuleNotFoundError" in refused.message
    error = perform(wire, agent="broken-apart")["error"]
    assert error["code"] == "agent_unavailable"
    assert "cannot import no_such_module:x: ModuleNotFoundError" in error["message"]
    checked = subprocess.run(
        [sys.executable, "-m", "outlived", "check-config", "--config", str(daemon.config)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "agents")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 1
    for name in ("broken", "broken-apart"):
        assert f"agents.{name}: cannot import no_such_module:x: ModuleNotFoundError" in checked.stderr
    assert checked.stderr.count("\n") == 2


def test_one_apart_survives_its_daemon(make_daemon: Callable[..., Daemon]):
    """An agent in its own process is adopted like any command: kill -9 of the daemon costs it nothing."""
    daemon = make_daemon(config=CONFIG).start()
    with daemon.connect() as wire:
        run = start(wire, agent="wait-apart")
        wait_text(wire, run["id"], "waiting")
    daemon.kill()
    daemon.start()
    with daemon.connect() as wire:
        now = wire.call("run/get", run_id=run["id"])["run"]
        assert (now["status"], now["attempt"], now["epoch"]) == ("running", 1, 2)
        assert stop(wire, run["id"])["status"] == "aborted"
        assert read_text(wire.tail(run["id"])[0]) == "waiting"
    assert not list_pids(run["id"])
