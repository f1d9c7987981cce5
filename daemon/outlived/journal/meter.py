"""What the journal has done: commits, how large and how long they were, runs started and settled.

1. Noting a commit costs what its runs cost to count, however many commits there were; nothing grows.
2. Counts are since the daemon's start. Quantiles are of the commits of the last one to two minutes, and at most
   ``ERROR`` off.

Not here: what is queued at this moment (``writer.py``), who is told (``server/methods/stats.py``).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable

import attrs

from outlived.journal.items import Created
from outlived.journal.plan import Plan
from outlived.rules.run import Status

WINDOW_SECONDS = 60.0
_PARTS = 8
ERROR = 2 ** (1 / (2 * _PARTS)) - 1
"""The largest relative error of a quantile: half a part of a doubling, 4.4 %."""


@attrs.define(eq=False)
class _Window:
    counts: list[int]
    total: int = 0
    least: float = math.inf
    most: float = 0.0

    def clear(self) -> None:
        self.counts = [0] * len(self.counts)
        self.total, self.least, self.most = 0, math.inf, 0.0


class Recent:
    """How large values were lately: a histogram whose bins grow by a ninth, over this window and the one before.

    Values outside ``smallest`` to ``largest`` are counted as the nearest of these.
    """

    def __init__(self, smallest: float, largest: float, window_seconds: float = WINDOW_SECONDS) -> None:
        self._smallest = smallest
        self._last_bin = int(math.log2(largest / smallest) * _PARTS)
        self._window_seconds = window_seconds
        self._now = _Window([0] * (self._last_bin + 1))
        self._before = _Window([0] * (self._last_bin + 1))
        self._ends_at = -math.inf

    def note(self, value: float, now: float) -> None:
        """Count a value, at this reading of a clock that never goes back."""
        if now >= self._ends_at:
            self._turn_over(now)
        ratio = value / self._smallest
        number = min(int(math.log2(ratio) * _PARTS), self._last_bin) if ratio > 1 else 0
        window = self._now
        window.counts[number] += 1
        window.total += 1
        window.least = min(window.least, value)
        window.most = max(window.most, value)

    def read(self, share: float, now: float) -> float | None:
        """A quantile: this share of the values are as large as that one, or smaller. None without values."""
        if now >= self._ends_at:
            self._turn_over(now)
        rank = max(1, math.ceil(share * (self._now.total + self._before.total)))
        least, most = min(self._now.least, self._before.least), max(self._now.most, self._before.most)
        for number in range(self._last_bin + 1):
            rank -= self._now.counts[number] + self._before.counts[number]
            if rank <= 0:
                return min(max(self._smallest * 2 ** ((number + 0.5) / _PARTS), least), most)
        return None

    def _turn_over(self, now: float) -> None:
        self._now, self._before = self._before, self._now
        self._now.clear()
        if now < self._ends_at + self._window_seconds:
            self._ends_at += self._window_seconds
        else:
            self._before.clear()
            self._ends_at = now + self._window_seconds


class Meter:
    """The counts of one journal, whatever its owner is called. ``replaced``: see ``supervisor/desk.py``.

    Runs come as started, taken or claimed, and go as settled or released; those that were lost with their owner are
    in neither.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._sizes = Recent(1, 1 << 12)
        self._seconds = Recent(1e-5, 3600)
        self.commits = 0
        self.items = 0
        self.events = 0
        self.started = 0
        self.taken = 0
        self.claimed = 0
        self.released = 0
        self.settled: Counter[Status] = Counter()
        self.replaced = 0

    def begin(self) -> None:
        """An attempt at a batch begins."""
        self._began = self._clock()

    def note(self, items: int, done: Plan) -> None:
        """That attempt is committed, with so many items."""
        now = self._clock()
        self._seconds.note(now - self._began, now)
        self._sizes.note(items, now)
        self.commits += 1
        self.items += items
        for _, answer in done.starts:
            self.started += isinstance(answer, Created)
        for _, taken in done.takes:
            self.taken += len(taken)
        for _, claimed in done.claims:
            self.claimed += claimed is not None
        for change in done.changes.values():
            self.events += len(change.events)
            self.released += change.released
            if change.closed:
                self.settled[change.run.status] += 1

    def read_seconds(self, share: float) -> float | None:
        """A quantile of how long commits took lately, from the first statement to the last answer."""
        return self._seconds.read(share, self._clock())

    def read_size(self, share: float) -> int | None:
        """A quantile of how many items a commit had lately."""
        size = self._sizes.read(share, self._clock())
        return None if size is None else round(size)
