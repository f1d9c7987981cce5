"""``python`` agents for asyncio: the same desk, ordinary asyncio, on the daemon's Trio loop."""

import sys
from pathlib import Path

import pytest
import trio

from outlive import wire
from outlive.agent import detect_flavour, load_target
from outlived.agents.python import PythonAgent
from tests.support.desk import make_desk, perform

MESSAGE = wire.Message("m", "c", "r", 1, "user", "completed", "Hi", False, [], "t", "t")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("asynchronous", None)


async def run(name, desk=None, **changes):
    """Let the agent of that name do a turn; its desk, and how it ended."""
    desk = desk or make_desk("hi", **changes)
    return desk, await perform(PythonAgent(f"asynchronous:{name}"), desk)


async def test_the_desk_is_the_same():
    """Everything that a Trio agent may do at its desk an asyncio agent may do, by the same names."""
    desk = make_desk("hi")
    desk.history = [MESSAGE]
    desk, seen = await run("answer", desk)
    assert seen.raised is None
    assert desk.did == [
        ("reasoning", "hm"),
        ("text", "you said hi"),
        ("text", " after 1"),
        ("tool.call", "1", "look", {"at": 1}),
        ("tool.result", "1", [2], True),
        ("data", "plan", {"a": 1}),
        ("log", "notes", "x"),
        ("usage", {"input_tokens": 3}),
    ]


async def test_a_cancel_arrives_as_asyncio_has_it():
    """A stop raises CancelledError where the agent waits; it may clean up, at the desk too, and the turn is cancelled."""
    desk, scope = make_desk(), trio.CancelScope()
    seen = None
    async with trio.open_nursery() as nursery:

        async def act():
            nonlocal seen
            seen = await perform(PythonAgent("asynchronous:wait"), desk, scope)

        nursery.start_soon(act)
        await desk.wait_text("waiting")
        scope.cancel()
    assert (seen.cancelled, seen.raised, desk.logged) == (True, None, "CancelledError")


async def test_an_agent_that_does_not_listen_is_cancelled_again():
    """Swallowing CancelledError gains the grace and a second or two, not eternity."""
    desk, scope = make_desk(grace_seconds=0.05), trio.CancelScope()
    seen = None
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def act():
                nonlocal seen
                seen = await perform(PythonAgent("asynchronous:stay"), desk, scope)

            nursery.start_soon(act)
            await desk.wait_text("staying")
            scope.cancel()
    assert seen.cancelled


@pytest.mark.parametrize(("name", "kind"), [("fail", ValueError), ("leave", SystemExit)])
async def test_what_it_raises_comes_out(name, kind):
    """The exception of the agent is the exception of the turn, SystemExit too."""
    _, seen = await run(name)
    assert isinstance(seen.raised, kind)


async def test_a_negative_delay_is_at_once():
    """A timer of less than nothing fires at once, as on any asyncio loop; the turn does not die of it."""
    desk, seen = await run("hurry")
    assert (seen.raised, desk.text) == (None, "in time")


async def test_what_it_leaves_behind_ends_with_the_turn():
    """A task that nobody awaits may fail without failing the turn, and none of them outlives it."""
    with trio.fail_after(10):
        desk, seen = await run("stray")
    assert (seen.raised, desk.text) == (None, "done")


async def test_threads_processes_and_time_outs_work():
    """What asyncio offers besides tasks is there."""
    desk, seen = await run("use_threads_and_processes")
    assert (seen.raised, desk.text) == (None, "True hello")
    desk, seen = await run("time_out")
    assert (seen.raised, desk.text) == (None, "timed out, together")


async def test_many_at_once_do_not_disturb_each_other():
    """Twenty turns at once, each in a loop of its own; one that fails fails alone."""
    ended = []

    async def act(name):
        desk, seen = await run(name)
        ended.append((name, desk.text, type(seen.raised)))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(act, "fail" if number % 5 == 0 else "hurry")
    assert sorted(ended) == [("fail", "", ValueError)] * 4 + [("hurry", "in time", type(None))] * 16


def test_the_flavour_is_seen_in_the_module(tmp_path, monkeypatch):
    """A module that has imported asyncio and not Trio is for asyncio; where nothing says so it is for Trio."""
    monkeypatch.syspath_prepend(tmp_path)
    heads = {
        "asyncio": "import asyncio",
        "one_name": "from asyncio import sleep",
        "trio": "import trio",
        "both": "import asyncio, trio",
        "neither": "import json",
    }
    for name, head in heads.items():
        (tmp_path / f"flavoured_{name}.py").write_text(
            f"{head}\nimport functools\nasync def act(desk): pass\nclass A:\n    async def __call__(self, desk): pass\n"
            "an = A()\nhalf = functools.partial(act)\n"
        )
    for name in heads:
        expected = "asyncio" if name in {"asyncio", "one_name"} else "trio"
        for what in ("act", "an", "half"):
            assert detect_flavour(load_target(f"flavoured_{name}:{what}")) == expected, (name, what)
