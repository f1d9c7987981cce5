"""The same agents without a daemon: ``python -m bench.limits.recite RUNS SECONDS RATE``.

RUNS Trio tasks that say their tokens into nothing: what their timers alone cost. Prints one number: tokens per second.
"""

from __future__ import annotations

import sys

import trio

from bench.agents import recite_tokens


class Nowhere:
    """A desk that keeps nothing."""

    async def emit_text(self, text: str) -> None:
        """Like a desk, let others run; then forget."""
        del text
        await trio.lowlevel.checkpoint()


async def recite(runs: int, seconds: float, rate: float) -> None:
    """Everyone at once."""
    said: list[int] = []

    async def one(number: int) -> None:
        said.append(await recite_tokens(Nowhere(), seconds, rate, number / runs))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(runs):
            nursery.start_soon(one, number)
    print(sum(said) / (trio.current_time() - start), flush=True)


if __name__ == "__main__":
    trio.run(recite, int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
