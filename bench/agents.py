"""The agents that benchmarks ask for. They run in the daemon's process.

``metadata`` of the run is their parameter: one configuration serves every benchmark.

1. A text that is timed begins with its ``time.monotonic_ns()``: daemon and load generator compare one clock.
"""

from __future__ import annotations

import time

import trio

from outlived.agents import Desk

AGENTS = "".join(
    f'[agents.{name}]\nkind = "python"\ntarget = "bench.agents:{name}"\n'
    for name in ("say", "step", "talk", "wait")
)
"""The configuration of every stage's daemon."""


async def say(desk: Desk) -> None:
    """One text event, no step: with the start, two commits."""
    await desk.emit_text("done")


async def step(desk: Desk) -> None:
    """One step and one text event: with the start, three commits."""
    await desk.step("work", _do_nothing)
    await desk.emit_text("done")


async def _do_nothing() -> None:
    """The work of a step that is not measured."""


async def talk(desk: Desk) -> None:
    """``deltas`` texts of ``size`` characters, ``rate`` per second (0: as fast as they are taken), beginning
    after ``after`` seconds; each begins with the time at which it was said.
    """
    asked = {"deltas": 100, "size": 20, "rate": 0, "after": 0.0, **desk.assignment.metadata}
    padding = "." * asked["size"]
    start = trio.current_time() + asked["after"]
    await trio.sleep_until(start)
    for number in range(asked["deltas"]):
        if asked["rate"]:
            await trio.sleep_until(start + number / asked["rate"])
        await desk.emit_text(f"{time.monotonic_ns()} {padding}"[: asked["size"]])


async def wait(_desk: Desk) -> None:
    """Nothing, until it is stopped."""
    await trio.sleep_forever()
