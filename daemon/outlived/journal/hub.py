"""Fan-out of committed events to whoever watches a run.

1. The hub is only ever told about committed events, and never waits for anybody.
2. A watcher is a cursor, not a queue: the hub keeps, per *watched* run, a small ring of the newest events; a
   watcher that is further behind reads the store. All rings together are bounded too: the run that was silent for
   longest loses its ring first.
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
from outlived.store.reads import EVENT_BYTES, EVENT_PAGE_BYTES, LoggedEvent

RING_BYTES = 256 << 10
ALL_RINGS_BYTES = 32 << 20


@attrs.define(eq=False)
class Watched:
    """A run somebody watches. ``last_seq`` and ``settled``: as far as the hub has heard; ``ended``: once it is settled."""

    run_id: str
    watchers: int = 0
    last_seq: int = 0
    settled: bool = False
    changes: int = 0
    ring_bytes: int = 0
    ended: trio.Event = attrs.Factory(trio.Event)
    _ring: deque[LoggedEvent] = attrs.Factory(deque)
    _waiting: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    def add(self, events: list[LoggedEvent], *, settled: bool) -> None:
        """Take newly committed events of this run."""
        if self._ring and events and events[0].seq != self._ring[-1].seq + 1:
            self.forget()  # something was committed elsewhere in between: the store has it
        self._ring.extend(events)
        self.ring_bytes += sum(map(_weigh, events))
        while self.ring_bytes > RING_BYTES:
            self.ring_bytes -= _weigh(self._ring.popleft())
        self.note(max(self.last_seq, events[-1].seq if events else 0), settled=settled)

    def forget(self) -> None:
        """Leave it all to the store."""
        self._ring.clear()
        self.ring_bytes = 0

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

    def read_after(self, cursor: int, size: int = EVENT_PAGE_BYTES) -> list[LoggedEvent] | None:
        """The next events after ``cursor``, about ``size`` bytes of them; None: only the store knows."""
        if not self._ring or cursor + 1 < self._ring[0].seq:
            return None
        newest = self._ring[-1].seq
        if cursor > newest or cursor == newest < self.last_seq:  # another owner went on with the log
            return None
        page: list[LoggedEvent] = []
        room = min(size, EVENT_PAGE_BYTES)
        for event in islice(self._ring, cursor + 1 - self._ring[0].seq, None):
            room -= _weigh(event)
            if page and room < 0:
                break
            page.append(event)
        return page


def _weigh(event: LoggedEvent) -> int:
    return len(event.data) + EVENT_BYTES


class Hub:
    """All watched runs. ``committed`` rings when something was published; ``elsewhere`` when another run is watched, or
    there may be news of one that is not ours. ``_rings``: those that were published to, the one silent for longest first.
    """

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}
        self._rings: dict[str, Watched] = {}
        self.ring_bytes = 0
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
                if self._rings.pop(run_id, None) is not None:
                    self.ring_bytes -= watched.ring_bytes

    def publish(self, run_id: str, events: list[LoggedEvent], *, settled: bool) -> None:
        """Events of a run were committed."""
        self.committed.ring()
        if (watched := self._watched.get(run_id)) is None:
            return
        self.ring_bytes -= watched.ring_bytes
        watched.add(events, settled=settled)
        self.ring_bytes += watched.ring_bytes
        self._rings.pop(run_id, None)
        self._rings[run_id] = watched
        while self.ring_bytes > ALL_RINGS_BYTES:
            silent = self._rings.pop(next(iter(self._rings)))
            self.ring_bytes -= silent.ring_bytes
            silent.forget()

    def list_watched(self) -> list[Watched]:
        """Every run somebody watches."""
        return list(self._watched.values())

    @property
    def subscribers(self) -> int:
        return sum(watched.watchers for watched in self._watched.values())
