"""Reading a run's log as a cursor: what is there, then what comes, without a gap or a repeat.

There is one path: "give me what is after my cursor", from the hub's ring or from the store, again and again.
A gap between backlog and live cannot even be said. For runs that another daemon owns, ``watch_elsewhere``
asks the database how far they are, one question for all of them.

Old events of settled runs are pruned, also under a reader: what comes next is then ``LogPruned``, never a gap.

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
from outlived.store.reads import LoggedEvent, Reads

POLL_SECONDS = 0.5


class LogPruned(Exception):
    """The event after this cursor is no longer kept."""


class Tail:
    """One cursor on one watched run. ``cursor`` is the sequence number of the last event handed out."""

    def __init__(self, watched: Watched, reads: Reads, cursor: int) -> None:
        self._watched = watched
        self._reads = reads
        self.cursor = cursor
        self.settled = False

    async def read(self) -> list[LoggedEvent]:
        """The next events, at most a page; empty when there are none yet. Raises DatabaseLost, LogPruned."""
        page = self._watched.read_after(self.cursor)
        if page is None:
            page = await self._read_stored()
        if page:
            self.cursor = page[-1].seq
            self.settled = page[-1].type == Fact.SETTLED
        return page

    async def _read_stored(self) -> list[LoggedEvent]:
        run_id, next_seq = self._watched.run_id, self.cursor + 1
        page = await self._reads.list_events(run_id, self.cursor)
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
