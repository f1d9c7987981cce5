"""``pydantic-ai`` agents: what the library streams is said at the desk, and the chat's history goes in."""

import sys
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from outlive import wire
from outlived.agents import AgentBroken
from outlived.agents.pydantic import PydanticAgent, read_history
from outlived.rules.message import fold
from tests.support.desk import make_desk, perform
from tests.support.logs import say_many
from tests.support.models import USAGE, ModelServer

pytest.importorskip("pydantic_ai", reason="there is no pydantic-ai here: pip install 'outlive[pydantic-ai]'")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("modelled", None)


async def run(text, name="acting", desk=None, scope=None, agent=None):
    desk = desk or make_desk(text)
    seen = await perform(agent or PydanticAgent(f"modelled:{name}"), desk, scope)
    return desk, seen


def list_done(desk, *kinds):
    return [what for what in desk.did if what[0] in kinds]


def make_message(role, content, parts=None):
    shown = [{"type": "text", "text": content}] if parts is None else parts
    return wire.Message("m", "c", "r", 1, role, "completed", content, False, shown, "t", "t")


async def test_its_own_test_model_works_offline():
    """The test model calls its tool, which is no coroutine, and answers; the turn is one step with its usage."""
    desk, seen = await run("hello", "tested")
    assert seen.raised is None
    assert desk.text == '{"look":"seen a"}'
    call, result = list_done(desk, "tool.call", "tool.result")
    assert call[2:] == ("look", {"at": "a"})
    assert result[2:] == ("seen a", False)
    [(_, usage)] = list_done(desk, "usage")
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0
    assert list_done(desk, "step.started", "step.finished") == [
        ("step.started", "turn"),
        ("step.finished", "turn"),
    ]


async def test_text_and_thought_stream():
    """Text and thought arrive in the pieces in which they are made."""
    desk, _ = await run("hello")
    assert list_done(desk, "text") == [("text", "You "), ("text", "said: hello")]
    desk, _ = await run("think")
    assert list_done(desk, "reasoning", "text") == [
        ("reasoning", "Let me "), ("reasoning", "think."), ("text", "Thought."),
    ]  # fmt: skip


async def test_a_tool_that_refuses_is_a_failed_result():
    """A tool that wants to be asked again is a result with an error; text after it begins a new paragraph."""
    desk, seen = await run("retry")
    assert seen.raised is None
    [result] = list_done(desk, "tool.result")
    assert result == ("tool.result", "f1", "not like that", True)
    assert desk.text == "First \n\nYou said: retry"


async def test_an_answer_that_is_no_text_is_data():
    """A structured answer is shown as data."""
    desk, seen = await run("hello", "structured")
    assert seen.raised is None
    assert list_done(desk, "data") == [("data", "output", {"name": "a", "size": 0})]


async def test_a_failure_keeps_what_was_said_and_used():
    """An exception of the model is the turn's; text and usage until then stay."""
    desk, seen = await run("fail")
    assert (type(seen.raised), str(seen.raised), desk.text) == (ValueError, "no model", "So far")


async def test_a_stop_in_the_middle_of_a_stream():
    """A cancel ends the stream where it is; what was said stays."""
    desk, scope, seen = make_desk("stall"), trio.CancelScope(), None
    async with trio.open_nursery() as nursery:

        async def act():
            nonlocal seen
            _, seen = await run("stall", desk=desk, scope=scope)

        nursery.start_soon(act)
        await desk.wait_text("So far")
        scope.cancel()
    assert (seen.cancelled, seen.raised, desk.text) == (True, None, "So far")


async def test_the_history_goes_in():
    """What was said before, and what tools have answered, is there for the model."""
    tool = {
        "type": "tool-look", "toolCallId": "1", "state": "output-available", "input": {"at": "x"}, "output": "seen",
    }  # fmt: skip
    desk = make_desk("recall")
    desk.history = [
        make_message("user", "one"),
        make_message("assistant", "a", [{"type": "text", "text": "a"}, tool, {"type": "step-start"}]),
        make_message("user", "two"),
        make_message("assistant", "", []),
    ]
    desk, seen = await run("", desk=desk)
    assert (seen.raised, desk.text) == (None, "one | two | look=seen")


@settings(derandomize=True, max_examples=100, deadline=None)
@given(logs=st.lists(say_many(), max_size=3))
def test_any_history_can_be_told(logs):
    """Whatever earlier turns have said becomes messages in which each call has its answer right behind it."""
    messages = [make_message("assistant", "", msgspec.to_builtins(fold(log))) for log in logs]
    history = read_history(messages)
    for before, after in zip(history, [*history, None][1:], strict=True):
        calls = [part.tool_call_id for part in before.parts if part.part_kind == "tool-call"]
        returns = (
            [part.tool_call_id for part in after.parts if part.part_kind == "tool-return"] if after else []
        )
        assert calls == returns or not (calls or before.kind == "response")


async def test_a_model_server_by_its_address(monkeypatch):
    """A model named in the configuration, on any server compatible with OpenAI's, answers with its usage."""
    with ModelServer() as server:
        agent = PydanticAgent(model="mock", instructions="Be brief.", base_url=server.base_url)
        desk, seen = await run("good morning", agent=agent)
        assert (seen.raised, desk.text) == (None, "You said: good morning")
        read, written, cached = USAGE
        assert (
            "usage",
            {"input_tokens": read, "output_tokens": written, "cached_tokens": cached},
        ) in desk.did
        _, body = server.requests[0]
        assert (body["model"], body["messages"][0]["content"]) == ("mock", "Be brief.")
        desk, seen = await run("[fail 401]", agent=agent)
        assert "401" in str(seen.raised)
        desk, seen = await run("[cut]", agent=agent)
        assert seen.raised is not None
        assert desk.text.startswith("You ")
        assert server.requests[0][1]["stream"]


async def test_twenty_at_once():
    """Twenty turns of one agent at once, each on a loop of its own, all get their own answer."""
    with ModelServer() as server:
        agent = PydanticAgent(model="mock", base_url=server.base_url)
        desks = [make_desk(f"number {number}") for number in range(20)]
        for _ in range(2):  # the second time connections are there from loops that are gone
            async with trio.open_nursery() as nursery:
                for desk in desks:
                    desk.did.clear()
                    nursery.start_soon(run, "", "", desk, None, agent)
            assert [desk.text for desk in desks] == [f"You said: number {number}" for number in range(20)]


def test_what_cannot_be_used_is_said(monkeypatch):
    """A target that is no agent, a module that is not there, a model nobody knows, a key that is not set: one clear error."""
    for agent, complaint in (
        (PydanticAgent("modelled:no_agent"), "cannot use modelled:no_agent: it is no Agent of pydantic-ai"),
        (PydanticAgent("no_such_module:x"), "cannot import no_such_module:x: ModuleNotFoundError"),
        (PydanticAgent(model="nonsense"), "cannot make an agent of model nonsense: UserError"),
        (
            PydanticAgent(model="m", base_url="http://127.0.0.1:1/v1", api_key_env="NO_SUCH_KEY"),
            "cannot use model m: NO_SUCH_KEY is not set for the daemon",
        ),
    ):
        with pytest.raises(AgentBroken) as refused:
            agent.check()
        assert str(refused.value).startswith(complaint)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pydantic_ai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(AgentBroken, match="not installed here; pip install"):
        PydanticAgent(model="openai:x").check()
