"""An agent for tests that does what none may do: it stops the loop that everybody shares."""

import ctypes
import time

import trio

from outlived.agents import Desk

LIBC = ctypes.PyDLL(None)
"""Its functions are called without letting the interpreter go."""


async def block(desk: Desk) -> None:
    """Stop the loop for the input's first word in seconds, in the way that its second names."""
    seconds, _, way = desk.assignment.input.partition(" ")
    await desk.emit_text("now ")
    if way == "below":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep_below, float(seconds))
    elif way == "held":
        LIBC.usleep(int(float(seconds) * 1e6))
    elif way == "computing":
        compute(float(seconds))
    else:
        time.sleep(float(seconds))  # noqa: ASYNC251 - that is what it is for


async def sleep_below(seconds: float) -> None:
    """In a task of the agent's own."""
    time.sleep(seconds)  # noqa: ASYNC251


def compute(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
