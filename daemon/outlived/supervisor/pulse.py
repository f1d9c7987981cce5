"""The pulse of an agent: when it last did something, for runs that are limited in how long it may do nothing.

Doing something is calling the desk. An agent that is held up there, because the journal has no room for it, its step's
commit is on its way or the database is away, is not idle; nor is any while the database is away.

Not here: what follows from silence (``limits.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from outlived.journal.items import Entry
from outlived.journal.writer import Journal
from outlived.store.adoption import Position


class Pulse:
    """``append`` and ``relay`` take the place of the journal's own."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held_up = 0
        self._last = trio.current_time()

    async def append(self, run_id: str, entry: Entry, *, wait: bool = False) -> None:
        """Take an event of the agent's."""
        with self._doing():
            await self._journal.append(run_id, entry, wait=wait)

    async def relay(self, run_id: str, entries: list[Entry], position: Position) -> None:
        """Take what the agent's command has said."""
        with self._doing():
            await self._journal.relay(run_id, entries, position)

    @contextmanager
    def _doing(self) -> Iterator[None]:
        self._held_up += 1
        try:
            yield
        finally:
            self._held_up -= 1
            self.beat()

    def beat(self) -> None:
        """The agent does something at this moment."""
        self._last = trio.current_time()

    @property
    def silent_seconds(self) -> float:
        """How long the agent has done nothing."""
        if self._held_up or self._journal.degraded:
            return 0.0
        return trio.current_time() - self._last
