"""``python`` agents in a process of their own: the same desk, lines of jsonl between, the daemon's loop left alone."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from outlive import wire
from outlived.agents import AgentBroken
from outlived.agents.python import isolate
from tests.support.desk import make_desk, perform
from tests.support.programs import list_pids

HERE = Path(__file__).parent
MODULE = """
import os, signal, sys, time
import trio

async def answer(desk):
    print("a print is for the log")
    os.write(1, b"so is this\\n")
    await desk.emit_reasoning("hm")
    await desk.emit_text(f"{desk.input} after {[each.content for each in desk.history]}")
    got = await desk.step("pair", pair, 1, 2)
    await desk.data("got", got)
    await desk.usage(input_tokens=1, output_tokens=None)
    await desk.log("notes", desk.assignment.metadata["note"])

async def pair(*numbers):
    await trio.sleep(0)
    return numbers

async def fail(desk):
    await desk.emit_text("so far")
    raise ValueError("no")

async def leave(desk):
    sys.exit(3)

async def die(desk):
    os.kill(os.getpid(), signal.SIGKILL)

async def block(desk):
    await desk.emit_text("blocking")
    time.sleep(0.5)

async def wait(desk):
    await desk.emit_text("waiting")
    try:
        await trio.sleep_forever()
    finally:
        print("cleaned up", file=sys.stderr)

async def unstorable(desk):
    await desk.step("set", keep)

async def keep():
    return {1, 2}

not_async = len
"""


@pytest.fixture
def environment(tmp_path):
    """Where the agents' modules are found."""
    (tmp_path / "alone.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("raise ValueError('at import')")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(HERE)])}


async def run(target, environment, desk=None, scope=None, flavour=None):
    desk = desk or make_desk("hi", metadata={"note": "x"})
    return desk, await perform(isolate(target, flavour, env=environment), desk, scope)


async def test_the_desk_is_the_same(environment):
    """An agent does at the desk of its process what it does at the daemon's; what it prints is logged."""
    desk = make_desk("hi", metadata={"note": "x"})
    desk.history = [wire.Message("m", "c", "r", 1, "user", "completed", "Hello", False, [], "t", "t")]
    desk, seen = await run("alone:answer", environment, desk)
    assert (seen.raised, desk.own_error) == (None, None)
    assert desk.text == "hi after ['Hello']"
    assert [what for what in desk.did if what[0] not in {"text", "log"}] == [
        ("reasoning.delta", {"text": "hm"}),
        ("step.started", {"step": 1, "name": "pair"}),
        ("step.finished", {"step": 1, "name": "pair"}),
        ("data", {"name": "got", "value": [1, 2]}),
        ("usage", {"input_tokens": 1}),
    ]
    assert "".join(what[2] for what in desk.did if what[:2] == ("log", "stderr")) == (
        "a print is for the log\nso is this\n"
    )
    assert ("log", "notes", "x") in desk.did


async def test_asyncio_agents_run_on_asyncio(environment):
    """An agent for asyncio is on a real asyncio loop; three steps at once keep their names and numbers."""
    desk, seen = await run("asynchronous:work", environment)
    assert (seen.raised, desk.own_error, desk.text) == (None, None, "[[2], [4], [6]]")
    steps = [what[1] for what in desk.did if what[0] == "step.started"]
    assert sorted(steps, key=lambda each: each["step"]) == [
        {"step": number, "name": f"step {number}"} for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("alone:fail", {"code": "exception", "message": "no", "exception": "ValueError", "exit_status": 1}),
        ("alone:leave", {"code": "exception", "message": "3", "exception": "SystemExit", "exit_status": 1}),
        (
            "alone:die",
            {"code": "signal", "message": "the command was killed by SIGKILL", "signal": "SIGKILL"},
        ),
        (
            "broken:x",
            {
                "code": "agent_unavailable",
                "message": "cannot import broken:x: ValueError: at import",
                "exit_status": 1,
            },
        ),
        (
            "alone:not_async",
            {
                "code": "agent_unavailable",
                "message": "cannot use alone:not_async: it is not an async function",
                "exit_status": 1,
            },
        ),
    ],
)
async def test_how_it_failed_is_the_runs_error(environment, target, error):
    """An exception is the run's error as in the daemon; a death is one by its signal; what cannot be imported says so."""
    desk, _ = await run(target, environment)
    assert desk.own_error == error


async def test_what_a_step_cannot_return_fails_it(environment):
    """A step's result has to be JSON here too."""
    desk, _ = await run("alone:unstorable", environment)
    assert desk.own_error["exception"] == "TypeError"


async def test_a_stop_cancels_it(environment):
    """SIGTERM is a cancel: the agent cleans up, and its process is gone."""
    desk, scope = make_desk("hi"), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run, "alone:wait", environment, desk, scope))
        await desk.wait_text("waiting")
        scope.cancel()
    assert "cleaned up" in desk.logged
    assert not list_pids(desk.assignment.run_id)


async def test_blocking_blocks_nobody_else(environment):
    """An agent that never lets others run holds up its own process and not the daemon's loop."""
    desk = make_desk("hi")
    longest = 0.0
    async with trio.open_nursery() as nursery:

        async def look():
            nonlocal longest
            while True:
                began = trio.current_time()
                await trio.sleep(0.01)
                longest = max(longest, trio.current_time() - began)

        nursery.start_soon(look)
        await run("alone:block", environment, desk)
        nursery.cancel_scope.cancel()
    assert desk.text == "blocking"
    assert longest < 0.4


def test_its_import_is_tried_where_there_is_time(environment):
    """Whoever checks the configuration learns what is wrong with the module, from such a process."""
    isolate("alone:answer", None, env=environment).probe()
    with pytest.raises(AgentBroken, match="cannot import broken:x: ValueError: at import"):
        isolate("broken:x", None, env=environment).probe()
    with pytest.raises(AgentBroken, match="it is not an async function"):
        isolate("alone:not_async", "asyncio", env=environment).probe()


def test_anybody_may_run_it_by_hand(environment):
    """The runner speaks plain jsonl to whoever starts it: a script, a person with a pipe."""
    run_ = {"id": "r", "workspace": "w", "chat_id": "c", "attempt": 1, "metadata": {"note": "x"}}
    given = {"run": run_, "input": "hi", "parts": [], "history": []}
    command = [sys.executable, "-m", "outlive.agent", "alone:fail"]
    done = subprocess.run(
        command,
        input=json.dumps(given).encode(),
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"type": "text.delta", "text": "so far"}
    assert b"ValueError: no" in done.stderr
    usage = subprocess.run([*command[:3], "nonsense"], capture_output=True, check=False)
    assert (usage.returncode, usage.stderr[:6]) == (2, b"usage:")
