"""Agents that speak when everybody listens; they run in the daemon's process.

1. A text that is timed begins with its ``time.monotonic_ns()`` and holds one space: a reader counts spaces.
2. Nothing is said before the file ``gate`` of the run's metadata is there: the listeners subscribe first.

Not here: agents that begin at once (``agents.py``), who listens (``readers.py``).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from outlived.agents import Desk

SPEAKERS = "".join(
    f'[agents.{name}]\nkind = "python"\ntarget = "bench.speakers:{name}"\n'
    for name in ("tokens", "lines", "flood")
)
"""The configuration that has them."""

LOOK_SECONDS = 0.01


async def tokens(desk: Desk) -> None:
    """``count`` texts of ``size`` characters, ``rate`` per second (0: as fast as they are taken). Neighbours that
    are committed together become one event.
    """
    await _speak(desk, desk.emit_text)


async def lines(desk: Desk) -> None:
    """The same, each an event of its own."""

    async def log(text: str) -> None:
        await desk.log("bench", text)

    await _speak(desk, log)


async def flood(desk: Desk) -> None:
    """``flood`` bytes at once, to fill whoever does not read; then the same as ``lines``."""
    left = desk.assignment.metadata["flood"]
    while left > 0:
        await desk.log("flood", "." * min(left, 30_000))
        left -= 30_000
    await lines(desk)


async def _speak(desk: Desk, emit: Callable[[str], Awaitable[None]]) -> None:
    asked = {"count": 100, "size": 20, "rate": 0, **desk.assignment.metadata}
    gate = Path(asked["gate"])
    while not gate.exists():  # noqa: ASYNC240 - a look at a name
        await trio.sleep(LOOK_SECONDS)
    padding = "." * asked["size"]
    start = trio.current_time()
    for number in range(asked["count"]):
        if asked["rate"]:
            await trio.sleep_until(start + number / asked["rate"])
        await emit(f"{time.monotonic_ns()} {padding}"[: asked["size"]])
