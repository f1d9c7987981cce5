"""``acp`` agents: a turn is a conversation on two pipes, and ends however the other side behaves."""

import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from outlive import wire
from outlived.agents import AgentBroken, AgentFailed, Session
from outlived.agents.acp import AcpAgent
from outlived.agents.command import CommandAgent
from tests.support.desk import make_desk, perform
from tests.support.programs import list_pids

SCRIPTED = [sys.executable, "-S", str(Path(__file__).parent / "scripted.py")]


def make_agent(*options, permissions="allow_reads", command=None, cwd=None):
    return AcpAgent(CommandAgent([*(command or SCRIPTED), *options], cwd=cwd), permissions)


async def run(text, *options, desk=None, scope=None, **agent):
    """One turn; its desk, and how it ended."""
    desk = desk or make_desk(text, grace_seconds=1.0)
    with trio.fail_after(30):
        seen = await perform(make_agent(*options, **agent), desk, scope)
    assert not list_pids(desk.assignment.run_id)
    return desk, seen


def list_done(desk, *kinds):
    return [what for what in desk.did if what[0] in kinds]


async def test_a_text_answer():
    """What the agent says is the answer; the turn is one step, with usage, and its session is kept."""
    desk, seen = await run("hello")
    assert (seen.raised, desk.text, desk.ended, desk.own_error) == (None, "You said: hello", True, None)
    assert list_done(desk, "step.started", "step.finished") == [
        ("step.started", "prompt"), ("step.finished", "prompt"),
    ]  # fmt: skip
    assert ("usage", {"input_tokens": 30, "output_tokens": 7, "cached_tokens": 10}) in desk.did
    assert desk.session.id.startswith("s")
    assert desk.process is not None


async def test_thought_plans_and_tools():
    """Thought is reasoning, a plan is data, a tool is a call with all that is known of it, and its result."""
    desk, _ = await run("[think]")
    assert ("reasoning", "Let me think.") in desk.did
    desk, _ = await run("[plan]")
    [plan] = list_done(desk, "data")
    assert plan[1:] == ("plan", [{"content": "one", "priority": "high", "status": "pending"}])
    desk, _ = await run("[tool]")
    assert list_done(desk, "tool.call", "tool.result") == [
        ("tool.call", "t1", "read", {"title": "Look", "path": "/x"}),
        ("tool.result", "t1", "found", False),
    ]


@pytest.mark.parametrize(
    ("policy", "kind", "said"),
    [
        ("allow", "execute", "yes"), ("deny", "read", "no"), ("allow_reads", "read", "yes"),
        ("allow_reads", "search", "yes"), ("allow_reads", "edit", "no"), ("allow_reads", "execute", "no"),
    ],
)  # fmt: skip
async def test_who_may_do_what(policy, kind, said):
    """A question is answered by the policy, and the answer is in the log after the call that it is about."""
    desk, _ = await run(f"[permit {kind}]", permissions=policy)
    assert desk.text == f"You said {said}."
    call, permission, result = list_done(desk, "tool.call", "data", "tool.result")
    assert call == ("tool.call", "p1", kind, {"title": "May I", "a": 1})
    assert permission[1] == "permission"
    assert permission[2] == {
        "tool_call_id": "p1", "title": "May I", "kind": kind, "policy": policy, "allowed": said == "yes",
        "option": said,
    }  # fmt: skip
    assert result == ("tool.result", "p1", "", said == "no")


async def test_files_and_terminals_are_refused():
    """What this client does not offer is refused at once, and the turn goes on."""
    desk, seen = await run("[files]")
    assert (seen.raised, desk.text) == (None, "Refused: [-32601, -32601]")


async def test_noise_ends_nothing():
    """Lines that are no JSON-RPC, replies to nothing and stderr are logged; the turn goes on."""
    desk, seen = await run("[noise]")
    assert (seen.raised, desk.text) == (None, "Quiet now.")
    for line in ("this is no JSON\n", "[1]\n", "to stderr\n"):
        assert line in desk.logged


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[fail]", {"code": "exception", "message": "it went wrong", "exception": "ACP error -32603"}),
        (
            "[refuse]",
            {
                "code": "exception",
                "message": "the agent ended its turn for another reason: refusal",
                "exception": "refusal",
            },
        ),
        ("[die]", {"code": "signal", "message": "the agent was killed by SIGKILL", "signal": "SIGKILL"}),
        (
            "[leave]",
            {
                "code": "exit_status",
                "message": "the agent exited with status 3 in the middle of its turn",
                "exit_status": 3,
            },
        ),
    ],
)
async def test_a_failure_says_what_it_was(text, error):
    """An error, a refusal, a death in the middle of an answer: each is the run's error, what was said stays."""
    desk, seen = await run(text)
    assert isinstance(seen.raised, AgentFailed)
    assert seen.raised.error == error
    assert desk.text == ("So far" if text in {"[die]", "[leave]"} else "")


async def test_an_agent_that_wants_a_login():
    """An agent that nobody is logged in with cannot be used: that is what the run says."""
    _, seen = await run("hello", "--locked")
    assert seen.raised.error["code"] == "agent_unavailable"
    assert "Authentication required" in seen.raised.error["message"]


async def test_a_program_that_is_not_there():
    """A missing program is found out before the run, and by the run."""
    agent = AcpAgent(CommandAgent(["no-such-program-anywhere"]))
    with pytest.raises(AgentBroken, match="no such program"):
        agent.check()
    seen = await perform(agent, make_desk())
    assert seen.raised.error["code"] == "agent_unavailable"


@pytest.mark.parametrize("text", ["[stall]", "[deaf]"])
async def test_a_stop_in_the_middle(text):
    """A stop asks first and kills in the end: within the grace and a little, with what was said kept and nobody left."""
    desk, scope = make_desk(text, grace_seconds=1.0), trio.CancelScope()
    seen = None
    async with trio.open_nursery() as nursery:

        async def act():
            nonlocal seen
            _, seen = await run(text, desk=desk, scope=scope)

        nursery.start_soon(act)
        await desk.wait_text("So far")
        began = trio.current_time()
        scope.cancel()
    assert trio.current_time() - began < 5
    assert seen.cancelled
    assert (desk.text, desk.ended) == ("So far", False)


async def test_a_stop_before_the_first_word():
    """A turn that is stopped before its agent has begun ends at once."""
    desk, scope = make_desk("hello", grace_seconds=5.0), trio.CancelScope()
    scope.cancel()
    with trio.fail_after(4):
        seen = await perform(make_agent(), desk, scope)
    assert (seen.cancelled, desk.did) == (True, [])


async def test_a_session_goes_on(tmp_path):
    """The second turn loads the session of the first: the agent remembers, and its replay is not said again."""
    first, _ = await run("one", "--loads", cwd=str(tmp_path))
    desk = make_desk("[remember]", grace_seconds=1.0)
    desk.session = first.session
    desk, seen = await run("", "--loads", desk=desk, cwd=str(tmp_path))
    assert (seen.raised, desk.text) == (None, "one")
    assert desk.session == first.session


async def test_a_session_that_is_lost_begins_anew(tmp_path):
    """An agent that cannot find its session is told the history instead, and its new session is kept."""
    desk = make_desk("and now?", grace_seconds=1.0)
    desk.session = Session("gone")
    desk.history = [
        wire.Message("m", "c", "r", 1, "user", "completed", "Hi", False, [], "t", "t"),
        wire.Message("n", "c", "r", 2, "assistant", "completed", "Hello", False, [], "t", "t"),
    ]
    desk, seen = await run("", "--loads", desk=desk, cwd=str(tmp_path))
    assert seen.raised is None
    assert desk.session.id != "gone"
    assert desk.text == (
        "You said: This conversation so far:\n\nuser: Hi\n\nassistant: Hello\n\nWhat is asked now:and now?"
    )
    assert "cannot load its session" in desk.logged


async def test_parts_are_blocks():
    """An input of parts is a prompt of blocks: text as text, what has an address as a link."""
    parts = [{"type": "text", "text": "see "}, {"type": "file", "url": "file:///x", "filename": "x"}]
    desk, _ = await run("", desk=make_desk("see ", grace_seconds=1.0, parts=parts))
    assert desk.text == "You said: see file:///x"


async def test_a_large_prompt_does_not_lock_up():
    """A prompt larger than a pipe goes through while the agent talks."""
    text = "x" * 300_000
    desk, seen = await run(text)
    assert (seen.raised, desk.text) == (None, f"You said: {text}")


async def test_twenty_at_once():
    """Twenty turns at once, each with its own process."""
    desks = [make_desk(f"hello {number}") for number in range(20)]
    async with trio.open_nursery() as nursery:
        for desk in desks:
            nursery.start_soon(partial(run, "", desk=desk))
    assert [desk.text for desk in desks] == [f"You said: hello {number}" for number in range(20)]
