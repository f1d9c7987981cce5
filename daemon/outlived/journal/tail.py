"""Reading a run's log as a cursor: what is there, then what comes, without a gap or a repeat.

There is one path: "give me what is after my cursor", from the hub's ring or from the store, again and again.
A gap between backlog and live cannot even be said. For runs that another daemon owns, ``watch_elsewhere``
asks the database how far they are, one question for all of them.

Not here: subscriptions and sockets (``server``), who may read (``server``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import trio

from outlived.journal.hub import Hub, Watched
from outlived.rules.run import Fact
from outlived.store.postgres import DatabaseLost
from outlived.store.reads import EVENT_BYTES, EVENT_PAGE_BYTES, LoggedEvent, Reads

POLL_SECONDS = 0.5
FIRST_PAGE_BYTES = 16 << 10
"""A tail's first page is small, and each is a quarter larger than the one before: a reader that never reads is
found out, by the socket's own buffer, while little was read for it."""


class Tail:
    """One cursor on one watched run. ``cursor`` is the sequence number of the last event handed out."""

    def __init__(self, watched: Watched, reads: Reads, cursor: int) -> None:
        self._watched = watched
        self._reads = reads
        self.cursor = cursor
        self.settled = False
        self._bytes = FIRST_PAGE_BYTES

    async def read(self) -> list[LoggedEvent]:
        """The next events, at most a page; empty when there are none yet. Raises DatabaseLost."""
        page = self._watched.read_after(self.cursor, self._bytes)
        if page is None:
            rows = self._bytes // EVENT_BYTES  # more of them cannot fit, and would be read for nothing
            page = await self._reads.list_events(self._watched.run_id, self.cursor, rows, self._bytes)
        if page:
            self._bytes = min(self._bytes + self._bytes // 4, EVENT_PAGE_BYTES)
            self.cursor = page[-1].seq
            self.settled = page[-1].type == Fact.SETTLED
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


async def watch_elsewhere(hub: Hub, reads: Reads, is_ours: Callable[[str], bool]) -> None:
    """Actor: notice the progress of watched runs that are not ours. One query for all, with jitter."""
    while True:
        await trio.sleep(POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
        elsewhere = {watched.run_id: watched for watched in hub.list_watched() if not is_ours(watched.run_id)}
        if not elsewhere:
            continue
        try:
            found = await reads.read_progress(list(elsewhere))
        except DatabaseLost:
            continue  # the next round asks again; whoever reads meanwhile is told
        for run_id, progress in found.items():
            watched = elsewhere[run_id]
            if progress.last_seq > watched.last_seq or progress.settled > watched.settled:
                watched.note(progress.last_seq, settled=progress.settled)
