"""The watch over the loop: who holds it up is named while it happens, with the place; who does not is left alone."""

import ctypes
import sys
import time

import pytest
import structlog
import trio
import trio.lowlevel

from outlived.supervisor import loop
from outlived.supervisor.loop import LoopWatch
from tests.support.house import wait_for

BLOCK = 0.4
"""Seconds: several looks fit in, on a machine with others on it too."""
BLOCKED = "the loop is blocked: nothing else goes on"
GOES_ON = "the loop goes on"


@pytest.fixture
def said():
    """What the watch logs."""
    with structlog.testing.capture_logs() as logs:
        yield logs


@pytest.fixture
async def watch(nursery):
    """A watch at work."""
    watch = LoopWatch()
    nursery.start_soon(watch.watch)
    await wait_for(lambda: watch.read_longest() > 0, what="the watch sees the loop turn")
    return watch


def compute(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def hold(seconds):
    """Sleep without letting the interpreter go."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


async def do(function, *arguments):
    await trio.lowlevel.checkpoint()
    function(*arguments)


async def do_below(function, *arguments):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(do, function, *arguments)


async def perform(act, *arguments, name):
    """Do it in a task of that name, to its end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act, *arguments, name=name)
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("function", [time.sleep, compute, hold])
@pytest.mark.parametrize("act", [do, do_below])
async def test_who_blocks_is_named(watch, said, act, function):
    """Whether it sleeps, computes or holds the interpreter, in the run's task or below it: run and place are said."""
    await perform(act, function, BLOCK, name="run 0190")
    await wait_for(lambda: said, what="the watch has said something")
    assert [(entry["event"], entry["run_id"]) for entry in said] == [(BLOCKED, "0190")]
    assert 0.1 <= said[0]["seconds"] <= BLOCK + 1
    assert said[0]["stack"].splitlines()[0].endswith(" do")
    assert __file__ in said[0]["stack"]
    assert watch.blocks == 1
    assert watch.read_longest() >= BLOCK
    assert 0 < watch.read_busy() <= 1


async def test_it_is_said_while_it_happens(watch, said):
    """The line is there before the block is over; when a long one is, that is said too."""

    def wait_said():
        until = time.monotonic() + 20
        while not said and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(loop.LONG_SECONDS)

    await perform(do, wait_said, name="an actor")
    await wait_for(lambda: len(said) == 2, what="the watch has said that it is over")
    assert [entry["event"] for entry in said] == [BLOCKED, GOES_ON]
    assert {entry["task"] for entry in said} == {"an actor"}
    assert "run_id" not in said[0]
    assert said[0]["seconds"] < said[1]["seconds"]
    assert "wait_said" in said[0]["stack"]


async def test_a_busy_loop_blames_nobody(watch, said):
    """Tasks that work a lot but let others work too are not named, however long they go on."""

    async def work():
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            compute(0.002)
            await trio.lowlevel.checkpoint()

    await perform(work, name="run 0190")
    assert said == []
    assert watch.read_busy() > 0.05


async def test_a_crowd_is_counted_and_not_named(watch, said):
    """A turn that is long because very many tasks were ready is counted; none of them is to blame."""
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(do, compute, 0.002)
    await wait_for(lambda: watch.blocks > 0, what="the turn is counted")
    assert len(said) <= 1, "a look that came late may be mistaken, once"


async def test_a_flood_of_lines_is_kept_back(watch, said, monkeypatch):
    """After some lines the watch counts instead of talking, and says later how many it kept to itself."""
    monkeypatch.setattr(loop, "REPORT_SECONDS", 3600.0)
    for number in range(loop.REPORTS + 2):
        await perform(do, time.sleep, 0.2, name=f"run {number}")
    await wait_for(lambda: watch.blocks >= loop.REPORTS + 2, what="all are counted")
    assert len(said) == loop.REPORTS
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    await perform(do, time.sleep, BLOCK, name="run last")
    await wait_for(lambda: len(said) > loop.REPORTS, what="it speaks again")
    assert (said[-1]["run_id"], said[-1]["not_said"]) == ("last", 2)


async def test_old_turns_are_forgotten(watch, monkeypatch):
    """The longest turn is one of the last two windows."""
    await perform(do, time.sleep, 0.2, name="sleeper")
    assert watch.read_longest() >= 0.2
    monkeypatch.setattr(loop, "WINDOW_SECONDS", 0.1)
    await wait_for(lambda: watch.read_longest() < 0.15, what="the sleeper is forgotten")
    assert watch.blocks == 1


async def test_the_watch_ends_with_its_task():
    """A cancelled watch leaves neither instrument nor thread."""
    watch = LoopWatch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.watch)
        await wait_for(lambda: watch.read_longest() > 0)
        nursery.cancel_scope.cancel()
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(watch)

    def stands_in_watch():
        frames = list(sys._current_frames().values())
        return any(frame.f_code.co_name == "look_on" for frame in frames)

    await wait_for(lambda: not stands_in_watch(), what="the thread has ended")
