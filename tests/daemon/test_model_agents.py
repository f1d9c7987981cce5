"""``pydantic-ai`` agents in a real daemon: on the library's own test models, and on a model server by its address."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.models import USAGE, ModelServer
from tests.support.runs import perform, read_text, settle, start, stop, wait_text
from tests.support.wire import Wire

pytest.importorskip("pydantic_ai", reason="there is no pydantic-ai here: pip install 'outlive[pydantic-ai]'")

CONFIG = (
    FAST
    + """
[agents.acting]
kind = "pydantic-ai"
target = "modelled:acting"
[agents.served]
kind = "pydantic-ai"
model = "mock"
instructions = "Be brief."
base_url = "{base_url}"
[agents.broken]
kind = "pydantic-ai"
target = "modelled:no_agent"
"""
)
KINDS = ("acting", "served")


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(server: ModelServer, short_dir: Path, postgres) -> Iterator[Daemon]:
    config = CONFIG.format(base_url=server.base_url)
    daemon = Daemon(short_dir / "models", database=postgres.create_database(), config=config).start()
    yield daemon
    assert daemon.stop() == 0, daemon.read_log()
    assert "Traceback" not in daemon.read_log()
    assert_history(daemon.dsn, settled=True)


@pytest.fixture
def wire(daemon: Daemon) -> Iterator[Wire]:
    with daemon.connect() as wire:
        yield wire


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_with_its_usage(wire: Wire, kind: str):
    """A text answer, one part, one step, with what it cost."""
    run = perform(wire, agent=kind, input="hello")
    message = wire.call("run/get", run_id=run["id"])["message"]
    assert (run["status"], message["parts"]) == ("succeeded", [{"type": "text", "text": "You said: hello"}])
    assert run["step_count"] == 1
    if kind == "served":
        read, written, cached = USAGE
        assert run["usage"] == {
            "input_tokens": read, "output_tokens": written, "cached_tokens": cached, "cost_micro_usd": None,
        }  # fmt: skip
    assert run["usage"]["input_tokens"] > 0


def test_a_tool_is_one_part(wire: Wire):
    """A tool call and its result are one part of the message."""
    run = perform(wire, agent="acting", input="call")
    [part] = wire.call("run/get", run_id=run["id"])["message"]["parts"][:1]
    assert part == {
        "type": "tool-look", "toolCallId": "c1", "state": "output-available", "input": {"at": "x"},
        "output": "seen x",
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "recall"), [("acting", "recall"), ("served", "[recall]")])
def test_a_second_turn_knows_the_first(wire: Wire, kind: str, recall: str):
    """The chat's history is there for the model."""
    perform(wire, agent=kind, chat_id=kind, input="my name is Ada")
    run = perform(wire, agent=kind, chat_id=kind, input=recall)
    assert read_text(wire.tail(run["id"])[0]) == "my name is Ada"


@pytest.mark.parametrize(
    ("kind", "fail"), [("acting", "fail"), ("served", "[fail 401]"), ("served", "[cut]")]
)
def test_a_failure(wire: Wire, kind: str, fail: str):
    """A model that fails fails the run, and what was said until then stays."""
    run = perform(wire, agent=kind, input=fail)
    assert (run["status"], run["error"]["code"]) == ("failed", "exception")
    said = read_text(wire.tail(run["id"])[0])
    assert said == {"fail": "So far", "[fail 401]": "", "[cut]": "You said: "}[fail]


@pytest.mark.parametrize(
    ("kind", "stall", "said"), [("acting", "stall", "So far"), ("served", "[stall]", "You said: ")]
)
def test_a_stop_in_the_middle_of_a_stream(wire: Wire, kind: str, stall: str, said: str):
    """A stopped turn keeps what it had said."""
    run = start(wire, agent=kind, input=stall)
    wait_text(wire, run["id"], said)
    stopped = stop(wire, run["id"])
    assert (stopped["status"], stopped["error"]) == ("aborted", None)
    message = wire.call("run/get", run_id=run["id"])["message"]
    assert (message["status"], message["content"]) == ("aborted", said)


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_at_once(wire: Wire, kind: str):
    """Twenty turns at once all get their own answer."""
    runs = {number: start(wire, agent=kind, input=f"number {number}") for number in range(20)}
    for number, run in runs.items():
        assert settle(wire, run["id"])["status"] == "succeeded"
        assert read_text(wire.tail(run["id"])[0]) == f"You said: number {number}"


def test_one_that_is_none_is_refused(wire: Wire):
    """A target that is no agent of pydantic-ai is refused at the start, and says what it is not."""
    refused = wire.refuse("run/start", agent="broken")
    assert (refused.code, refused.type) == (422, "agent_unavailable")
    assert "it is no Agent of pydantic-ai" in refused.message


@pytest.mark.parametrize("on_owner_loss", ["abort", "resume"])
def test_the_death_of_its_daemon(make_daemon: Callable[..., Daemon], server: ModelServer, on_owner_loss: str):
    """After kill -9 the turn ends with its daemon, or is asked again if that was asked for."""
    daemon = make_daemon(config=CONFIG.format(base_url=server.base_url)).start()
    text = f"[once] {on_owner_loss}"
    with daemon.connect() as wire:
        run = start(wire, agent="served", input=text, on_owner_loss=on_owner_loss, chat_id="c")
        wait_text(wire, run["id"], "You said: ")
    daemon.kill()
    daemon.start()
    with daemon.connect() as wire:
        settled = settle(wire, run["id"])
        if on_owner_loss == "abort":
            assert (settled["status"], settled["error"]["code"]) == ("aborted", "owner_lost")
        else:
            assert (settled["status"], settled["attempt"]) == ("succeeded", 2)
            assert read_text(wire.tail(run["id"])[0]) == f"You said: You said: {text}"
    assert_history(daemon.dsn, settled=True)
