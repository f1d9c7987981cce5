"""A bell: rung by many, heard by one. A leaf.

It is remembered until it is heard, and rung ten times before that it is heard once. Ringing never waits.
"""

from __future__ import annotations

import trio


class Bell:
    """Whoever waits hears of everything that was rung for before; only one task may wait."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self) -> None:
        await self._rung.wait()
        self._rung = trio.Event()
