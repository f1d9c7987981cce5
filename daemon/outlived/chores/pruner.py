"""The pruner: events of runs that are settled for long enough leave. Runs and messages stay.

1. It works in pieces, each a short transaction. A piece's size follows the time that the last one took, and after
   each the pruner rests for several times as long: on a busy database it does less, and slower.
2. A pass ends when nothing is left to prune, or after a minute; then the next one follows at once. What others are
   pruning at this moment is theirs: daemons on one database do not wait for each other.
3. Where events are kept for ever it does not even look.

Not here: which runs are due (``store/retention.py``); tails whose events go (``journal/tail.py``).
"""

from __future__ import annotations

import random

import attrs
import structlog
import trio

from outlived.store.postgres import DatabaseLost, QueryRefused
from outlived.store.retention import Pruned, prune_piece
from outlived.supervisor import Supervisor

log = structlog.get_logger("outlived.pruner")

DAY_SECONDS = 86_400.0
LONGEST_INTERVAL = 60.0
SHORTEST_INTERVAL = 1.0
PASS_SECONDS = 60.0


@attrs.define
class Pace:
    """How much at once, and how long to rest; learned from how long things take."""

    FIRST_EVENTS = 1000
    FEWEST_EVENTS = 50
    MOST_EVENTS = 20_000
    PIECE_SECONDS = 0.1
    REST = 3.0

    events: int = FIRST_EVENTS

    def took(self, seconds: float) -> float:
        """A piece took so long: the next one is sized after it. Returns how long to rest."""
        if seconds > self.PIECE_SECONDS:
            self.slow_down()
        elif seconds < self.PIECE_SECONDS / 2:
            self.events = min(self.events * 2, self.MOST_EVENTS)
        return seconds * self.REST

    def slow_down(self) -> None:
        self.events = max(self.events // 2, self.FEWEST_EVENTS)


async def prune(supervisor: Supervisor) -> None:
    """Actor: prune for ever; done at once where events are kept for ever."""
    keep_seconds = supervisor.settings.events.retention_days * DAY_SECONDS
    if not keep_seconds:
        return
    pace = Pace()
    interval = min(max(keep_seconds / 10, SHORTEST_INTERVAL), LONGEST_INTERVAL)
    while True:
        await trio.sleep(interval * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
        try:
            while not supervisor.draining.is_set() and await prune_once(supervisor, keep_seconds, pace):
                pass
        except DatabaseLost as error:
            log.warning("pruning failed", reason=str(error))
        except QueryRefused as error:  # most probably it took too long
            pace.slow_down()
            log.warning("pruning failed", reason=str(error), next_events=pace.events)


async def prune_once(supervisor: Supervisor, keep_seconds: float, pace: Pace) -> bool:
    """One pass; whether there may be more. Raises DatabaseLost, QueryRefused."""
    began, total = trio.current_time(), Pruned(0, 0, 0)
    more = True
    try:
        while more and not supervisor.draining.is_set() and trio.current_time() - began < PASS_SECONDS:
            piece_began = trio.current_time()
            piece = await prune_piece(supervisor.store.sweep, keep_seconds=keep_seconds, events=pace.events)
            total += piece
            more = piece.runs > 0
            if more:
                rest = pace.took(trio.current_time() - piece_began)
                await trio.sleep(rest * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
    finally:
        if total.runs:
            log.info(
                "events pruned",
                runs=total.whole,
                events=total.events,
                seconds=round(trio.current_time() - began, 3),
            )
    return more
