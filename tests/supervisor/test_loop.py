"""The watch over the loop: who holds it up is named while it happens, with the place; who does not is left alone."""

import ctypes
import sys
import threading
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
    await wait_for(lambda: [entry for entry in said if "run_id" in entry], what="the watch has named a run")
    [named] = [entry for entry in said if "run_id" in entry]
    assert (named["event"], named["run_id"]) == (BLOCKED, "0190")
    assert named["seconds"] >= loop.BLOCK_SECONDS
    assert named["stack"].splitlines()[0].endswith(" do")
    assert __file__ in named["stack"]
    assert watch.blocks >= 1
    assert watch.read_longest() >= BLOCK
    assert 0 < watch.read_busy() <= 1


async def test_it_is_said_while_it_happens(watch, said):
    """The line is there before the block is over; when a long one is, that is said too."""

    def wait_said():
        until = time.monotonic() + 20
        while not [entry for entry in said if entry["task"] == "an actor"] and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(loop.LONG_SECONDS)

    await perform(do, wait_said, name="an actor")
    await wait_for(lambda: said[-1]["event"] == GOES_ON, what="the watch has said that it is over")
    named, over = [entry for entry in said if entry["task"] == "an actor"]
    assert (named["event"], over["event"]) == (BLOCKED, GOES_ON)
    assert "run_id" not in named
    assert named["seconds"] < over["seconds"]
    assert "wait_said" in named["stack"]


async def test_nobody_is_blamed_for_others(said):
    """Only a task found at work by two looks at one turn is named; a turn of many, and a task of many turns, is not."""
    watch = LoopWatch()
    onlooker = loop._Onlooker(watch, threading.Lock())
    first, second = [sys._getframe()], [sys._getframe().f_back]

    def look(seconds, stack, *, held_up=False):
        onlooker._read_stack = lambda: stack
        onlooker._look(watch.turn_began + seconds, held_up=held_up)

    watch.turn_began = 1.0
    for seconds, stack in ((0.06, first), (0.11, second), (0.16, first), (0.21, []), (0.26, first)):
        look(seconds, stack)
    for turn in (2.0, 3.0, 4.0):
        watch.turn_began = turn
        look(0.06, first)
    assert said == []
    look(0.11, first)
    assert len(said) == 1
    look(0.16, first)
    assert len(said) == 1, "once is enough"
    watch.turn_began = 5.0
    look(0.2, second, held_up=True)
    assert len(said) == 2


async def test_a_busy_loop_is_seen(watch):
    """Tasks that work a lot make the loop busy; a turn that is long because very many were ready is counted."""
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(do, compute, 0.002)
    await wait_for(lambda: watch.blocks > 0, what="the turn is counted")
    assert watch.read_longest() >= 0.4
    assert 0.05 < watch.read_busy() <= 1


@pytest.fixture
def two_reports(monkeypatch):
    """A watch says two things, and then nothing for an hour."""
    monkeypatch.setattr(loop, "REPORTS", 2)
    monkeypatch.setattr(loop, "REPORT_SECONDS", 3600.0)


async def test_a_flood_of_lines_is_kept_back(two_reports, watch, said, monkeypatch):
    """After some lines the watch counts instead of talking, and says later how many it kept to itself."""
    for number in range(5):
        await perform(do, time.sleep, BLOCK, name=f"run {number}")
    await wait_for(lambda: watch.blocks >= 5, what="all are counted")
    assert len(said) == 2
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    await perform(do, time.sleep, BLOCK, name="run last")
    await wait_for(lambda: len(said) > 2, what="it speaks again")
    assert (said[-1]["run_id"], said[-1]["not_said"] >= 3) == ("last", True)


async def test_old_turns_are_forgotten(watch, monkeypatch):
    """The longest turn is one of the last two windows."""
    await perform(do, time.sleep, BLOCK, name="sleeper")
    assert watch.read_longest() >= BLOCK
    monkeypatch.setattr(loop, "WINDOW_SECONDS", 0.1)
    await wait_for(lambda: watch.read_longest() < BLOCK, what="the sleeper is forgotten")
    assert watch.blocks >= 1


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
