"""Reading a run's log as a cursor: what is there, then what comes, without a gap or a repeat.

There is one path: "give me what is after my cursor", from the hub's ring or from the store, again and again.
A gap between backlog and live cannot even be said.

Old events of settled runs are pruned, also under a reader: what comes next is then ``LogPruned``, never a gap.

Not here: noticing what another daemon wrote (``elsewhere.py``), subscriptions and sockets, who may read (``server``).
"""

from __future__ import annotations

import math

from outlived.journal.hub import Watched
from outlived.rules.run import Fact
from outlived.store.reads import EVENT_BYTES, EVENT_PAGE_BYTES, LoggedEvent, Reads

FIRST_PAGE_BYTES = 16 << 10
"""A tail's first page is small, and each is a quarter larger than the one before: a reader that never reads is
found out, by the socket's own buffer, while little was read for it."""


class LogPruned(Exception):
    """The event after this cursor is no longer kept."""


class Tail:
    """One cursor on one watched run. ``cursor`` is the sequence number of the last event handed out."""

    def __init__(self, watched: Watched, reads: Reads, cursor: int) -> None:
        self._watched = watched
        self._reads = reads
        self.cursor = cursor
        self.settled = False
        self._bytes = FIRST_PAGE_BYTES

    async def read(self) -> list[LoggedEvent]:
        """The next events, at most a page; empty when there are none yet. Raises DatabaseLost, LogPruned."""
        page = self._watched.read_after(self.cursor, self._bytes)
        if page is None:
            page = await self._read_stored()
        if page:
            self._bytes = min(self._bytes + self._bytes // 4, EVENT_PAGE_BYTES)
            self.cursor = page[-1].seq
            self.settled = page[-1].type == Fact.SETTLED
        return page

    async def _read_stored(self) -> list[LoggedEvent]:
        run_id, next_seq = self._watched.run_id, self.cursor + 1
        rows = self._bytes // EVENT_BYTES  # more of them cannot fit, and would be read for nothing
        page = await self._reads.list_events(run_id, self.cursor, rows, self._bytes)
        first_seq = page[0].seq if page else await self._reads.read_first_seq(run_id)
        if first_seq > next_seq:
            raise LogPruned(f"cannot go on with run {run_id}: its event {next_seq} is no longer kept")
        return page

    async def read_next(self) -> list[LoggedEvent]:
        """The next events, waiting for them; must not be called once ``settled``."""
        while True:
            seen = self._watched.changes
            if page := await self.read():
                return page
            await self._watched.wait_change(seen)


async def wait_settled(watched: Watched, reads: Reads, seconds: float = math.inf) -> None:
    """Return once the run is settled, or after ``seconds``. Raises DatabaseLost at the beginning only."""
    progress = (await reads.read_progress([watched.run_id])).get(watched.run_id)
    if progress is None or progress.settled:
        return
    await watched.wait_ended(seconds)
