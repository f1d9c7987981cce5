"""The agents that benchmarks ask for. They run in the daemon's process.

``metadata`` of the run is their parameter: one configuration serves every benchmark.

Not here: agents that are heard by subscribers (``speakers.py``).
"""

from __future__ import annotations

import time
from typing import Protocol

import trio

from outlived.agents import Desk

AGENTS = "".join(
    f'[agents.{name}]\nkind = "python"\ntarget = "bench.agents:{name}"\n'
    for name in ("say", "step", "wait", "recite", "begin")
)
"""The configuration of every stage's daemon."""

TOKENS = [f"{number:04d} " for number in range(10_000)]
"""What is recited, over and over: five characters each."""
TOKEN_CHARS = 5

_gates: dict[str, trio.Event] = {}


class Mouth(Protocol):
    """The part of a desk that reciting needs."""

    async def emit_text(self, text: str) -> None: ...


async def say(desk: Desk) -> None:
    """One text event, no step: with the start, two commits."""
    await desk.emit_text("done")


async def step(desk: Desk) -> None:
    """One step and one text event: with the start, three commits."""
    await desk.step("work", _do_nothing)
    await desk.emit_text("done")


async def _do_nothing() -> None:
    """The work of a step that is not measured."""


async def wait(_desk: Desk) -> None:
    """Nothing, until it is stopped."""
    await trio.sleep_forever()


async def recite(desk: Desk) -> None:
    """Once ``begin`` has run with the same ``gate``: TOKENS for ``seconds``, ``rate`` per second (0: as fast as they
    are taken), ``phase`` of a token later than others; at the end a datum ``said``, the number of tokens.
    """
    asked = desk.assignment.metadata
    await _gates.setdefault(asked["gate"], trio.Event()).wait()
    await desk.data("said", await recite_tokens(desk, asked["seconds"], asked["rate"], asked["phase"]))


async def recite_tokens(mouth: Mouth, seconds: float, rate: float, phase: float) -> int:
    """Say TOKENS; how many."""
    start = trio.current_time()
    said = 0
    while True:
        if rate:
            await trio.sleep_until(start + (said + phase) / rate)
        if trio.current_time() - start >= seconds:
            return said
        await mouth.emit_text(TOKENS[said % len(TOKENS)])
        said += 1


async def begin(desk: Desk) -> None:
    """Let everyone recite who waits for ``gate``; a datum ``began``, seconds since the epoch."""
    _gates.setdefault(desk.assignment.metadata["gate"], trio.Event()).set()
    await desk.data("began", time.time())
