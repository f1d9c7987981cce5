"""``format = "jsonl"`` in a real daemon: a program that is an agent, whatever becomes of its daemon."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.processes import find_run_processes
from tests.support.runs import perform, read_text, settle, start, stop, wait_text
from tests.support.wire import Json, Wire

AGENT = Path(__file__).parents[1] / "agents/chatty.py"
CONFIG = (
    FAST + f'[agents.chatty]\nkind = "command"\nformat = "jsonl"\ncommand = ["{sys.executable}", "{AGENT}"]\n'
)


@pytest.fixture(scope="module")
def daemon(short_dir: Path, postgres) -> Iterator[Daemon]:
    daemon = Daemon(short_dir / "formats", database=postgres.create_database(), config=CONFIG).start()
    yield daemon
    assert daemon.stop() == 0, daemon.read_log()
    assert_history(daemon.dsn, settled=True)


@pytest.fixture
def wire(daemon: Daemon) -> Iterator[Wire]:
    with daemon.connect() as wire:
        yield wire


def list_steps(events: list[Json], what: str) -> list[int]:
    return [event["data"]["step"] for event in events if event["type"] == f"step.{what}"]


def test_an_answer_with_a_tool_and_usage(wire: Wire):
    """Text, a tool and usage are events of the run, parts of its message, and sums on its row."""
    run = perform(wire, agent="chatty", input="hello")
    message = wire.call("run/get", run_id=run["id"])["message"]
    assert (run["status"], run["step_count"]) == ("succeeded", 0)
    assert run["usage"] == {"input_tokens": 3, "output_tokens": 2, "cached_tokens": None, "cost_micro_usd": 5}
    assert message["content"] == "so far"
    assert message["parts"] == [
        {
            "type": "tool-look", "toolCallId": "1", "state": "output-available", "input": {"at": "x"},
            "output": "seen",
        },
        {"type": "text", "text": "so far"},
    ]  # fmt: skip


def test_an_agent_cannot_settle_itself(wire: Wire):
    """What only a daemon may say, and what fits no event, is in the log as it was, and counted; the run goes on."""
    run = perform(wire, agent="chatty", input="cheat")
    events, _ = wire.tail(run["id"])
    assert (run["status"], run["stop_requested_at"], read_text(events)) == ("succeeded", None, "still here")
    assert [event["type"] for event in events].count("run.settled") == 1
    logged = [event["data"] for event in events if event["type"] == "log"]
    assert [each["stream"] for each in logged] == ["stdout"] * 5 + ["outlived"]
    assert '"run.settled"' in logged[0]["text"]
    assert logged[3]["text"] == "plain text\n"
    assert len(logged[4]["text"]) < 5000
    assert logged[-1]["text"].startswith(
        "5 lines of stdout that are no events; about the first: Invalid value"
    )


@pytest.mark.parametrize(("text", "code"), [("fail", "exit_status"), ("die", "signal")])
def test_a_failure_keeps_what_was_said(wire: Wire, text: str, code: str):
    """An exit status or a signal is the run's error, as for any command."""
    run = perform(wire, agent="chatty", input=text)
    assert (run["status"], run["error"]["code"]) == ("failed", code)
    assert read_text(wire.tail(run["id"])[0]) == "so far"


def test_a_stop_in_the_middle(wire: Wire):
    """A stopped agent's message keeps its parts, and nothing of it lives on."""
    run = start(wire, agent="chatty", input="stall")
    wait_text(wire, run["id"], "so far")
    stopped = stop(wire, run["id"])
    assert (stopped["status"], stopped["error"]) == ("aborted", None)
    message = wire.call("run/get", run_id=run["id"])["message"]
    assert (message["status"], [part["type"] for part in message["parts"]]) == (
        "aborted",
        ["tool-look", "text"],
    )
    assert not find_run_processes({run["id"]})


def test_a_turn_knows_the_one_before(wire: Wire):
    """Stdin has the chat's history."""
    perform(wire, agent="chatty", chat_id="h", input="hello")
    run = perform(wire, agent="chatty", chat_id="h", input="history")
    assert read_text(wire.tail(run["id"])[0]) == "hello | so far"


def test_twenty_at_once(wire: Wire):
    """Twenty agents at once, each with its own steps."""
    runs = [start(wire, agent="chatty", input="count 10 0.5") for _ in range(20)]
    for run in runs:
        settled = settle(wire, run["id"])
        assert (settled["status"], settled["step_count"]) == ("succeeded", 10)
        assert settled["usage"]["output_tokens"] == 10


def test_daemons_come_and_go(make_daemon: Callable[..., Daemon]):
    """Killed again and again, the daemons take each line of an agent once: text, steps and usage are whole and in order."""
    daemon = make_daemon(config=CONFIG).start()
    with daemon.connect() as wire:
        run = start(wire, agent="chatty", input="count 3000 12")
    for _ in range(5):
        with daemon.connect() as wire:
            before = wire.call("run/get", run_id=run["id"])["run"]
            tailed = wire.call("run/tail", run_id=run["id"], after_seq=before["last_seq"])
            wire.read_tail(tailed["subscription"], until=100)
        daemon.kill()
        daemon.start()
    with daemon.connect() as wire:
        settled = settle(wire, run["id"])
        events, _ = wire.tail(run["id"])
    assert (settled["status"], settled["attempt"]) == ("succeeded", 1)
    assert settled["epoch"] == 6
    assert read_text(events) == "".join(f"{number}\n" for number in range(3000))
    numbers = list(range(1, 3001))
    assert list_steps(events, "started") == list_steps(events, "finished") == numbers
    assert settled["step_count"] == settled["usage"]["output_tokens"] == 3000
    assert_history(daemon.dsn, settled=True)


def test_a_next_attempt_numbers_on(make_daemon: Callable[..., Daemon]):
    """A resumed agent's steps are numbered after all that were finished before: no step is done twice in a log."""
    config = CONFIG.replace("[run]", "[run]\nadopt = false")
    daemon = make_daemon(config=config).start()
    with daemon.connect() as wire:
        run = start(wire, agent="chatty", input="twins", on_owner_loss="resume")
        wait_text(wire, run["id"], "here")
    daemon.kill()
    daemon.start()
    with daemon.connect() as wire:
        settled = settle(wire, run["id"])
        events, _ = wire.tail(run["id"])
    assert (settled["status"], settled["attempt"], settled["step_count"]) == ("succeeded", 2, 3)
    assert list_steps(events, "started") == [1, 2, 3, 4]
    assert list_steps(events, "finished") == [2, 4, 3]
    assert_history(daemon.dsn, settled=True)
