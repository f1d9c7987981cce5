"""Fan-out of committed events to whoever watches a run.

1. The hub is only ever told about committed events, and never waits for anybody.
2. A watcher is a cursor, not a queue: the hub keeps, per *watched* run, a small ring of the newest events; a
   watcher that is further behind reads the store.
3. A wake-up carries no data: a watcher that missed one sees the same log.

Not here: reading for one watcher (``tail.py``), sockets.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import attrs
import trio

from outlived.bell import Bell
from outlived.store.reads import EVENT_PAGE_BYTES, LoggedEvent

RING_BYTES = 128 << 10
PAGE_EVENTS = 1000


@attrs.define(eq=False)
class Watched:
    """A run somebody watches. ``last_seq`` and ``settled``: as far as the hub has heard; ``ended``: once it is settled."""

    run_id: str
    watchers: int = 0
    last_seq: int = 0
    settled: bool = False
    changes: int = 0
    ended: trio.Event = attrs.Factory(trio.Event)
    _ring: deque[LoggedEvent] = attrs.Factory(deque)
    _ring_bytes: int = 0
    _waiting: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    def add(self, events: list[LoggedEvent], *, settled: bool) -> None:
        """Take newly committed events of this run."""
        if self._ring and events and events[0].seq != self._ring[-1].seq + 1:
            self._ring.clear()  # something was committed elsewhere in between: the store has it
            self._ring_bytes = 0
        self._ring.extend(events)
        self._ring_bytes += sum(len(event.data) for event in events)
        while self._ring_bytes > RING_BYTES or len(self._ring) > PAGE_EVENTS:
            self._ring_bytes -= len(self._ring.popleft().data)
        self.note(max(self.last_seq, events[-1].seq if events else 0), settled=settled)

    def note(self, last_seq: int, *, settled: bool) -> None:
        """The log is this far: wake everybody."""
        self.last_seq = last_seq
        if settled:
            self.settled = True
            self.ended.set()
        self.wake()

    def wake(self) -> None:
        self.changes += 1
        self._waiting.unpark_all()

    async def wait_change(self, seen: int) -> None:
        """Return once there were more than ``seen`` changes: look at the number first, read, then wait."""
        while self.changes == seen:
            await self._waiting.park()

    async def wait_ended(self, seconds: float) -> None:
        """Return once the run is settled, or after ``seconds``."""
        if seconds == math.inf:  # most do: spare them a scope with a deadline
            await self.ended.wait()
            return
        with trio.move_on_after(seconds):
            await self.ended.wait()

    def read_after(self, cursor: int) -> list[LoggedEvent] | None:
        """The next events after ``cursor``, as many as make one page; None: only the store knows."""
        if not self._ring or cursor + 1 < self._ring[0].seq:
            return None
        newest = self._ring[-1].seq
        if cursor > newest or cursor == newest < self.last_seq:  # another owner went on with the log
            return None
        page: list[LoggedEvent] = []
        size = 0
        for event in islice(self._ring, cursor + 1 - self._ring[0].seq, None):
            page.append(event)
            size += len(event.data)
            if len(page) >= PAGE_EVENTS or size >= EVENT_PAGE_BYTES:
                break
        return page


class Hub:
    """All watched runs. ``committed`` rings when something was published; ``elsewhere`` when another run is watched, or
    there may be news of one that is not ours.
    """

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}
        self.committed = Bell()
        self.elsewhere = Bell()

    @contextmanager
    def watch(self, run_id: str) -> Iterator[Watched]:
        """Watch a run. Register first, read the store second: nothing can fall in between."""
        watched = self._watched.get(run_id)
        if watched is None:
            watched = self._watched[run_id] = Watched(run_id)
            self.elsewhere.ring()
        watched.watchers += 1
        try:
            yield watched
        finally:
            watched.watchers -= 1
            if watched.watchers == 0:
                del self._watched[run_id]

    def publish(self, run_id: str, events: list[LoggedEvent], *, settled: bool) -> None:
        """Events of a run were committed."""
        self.committed.ring()
        if (watched := self._watched.get(run_id)) is not None:
            watched.add(events, settled=settled)

    def list_watched(self) -> list[Watched]:
        """Every run somebody watches."""
        return list(self._watched.values())

    @property
    def subscribers(self) -> int:
        return sum(watched.watchers for watched in self._watched.values())
