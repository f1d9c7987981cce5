"""The pruner: events of runs that are settled for long enough leave. Runs and messages stay.

1. It works in pieces, each a short transaction. A piece's size follows the time that the last one took, and after
   each the pruner rests for several times as long: on a busy database it does less, and slower.
2. A pass ends when nothing is left to prune, or after a minute; then the next one follows at once, from where that
   ended. What others are pruning at this moment is theirs: daemons on one database do not wait for each other.
3. Where events are kept for ever it does not even look.

Not here: which runs are due (``store/retention.py``); tails whose events go (``journal/tail.py``).
"""

from __future__ import annotations

import random

import attrs
import structlog
import trio

from outlived.store.postgres import DatabaseLost, QueryRefused
from outlived.store.retention import prune_piece
from outlived.supervisor import Supervisor

log = structlog.get_logger("outlived.pruner")

DAY_SECONDS = 86_400.0
LONGEST_INTERVAL = 60.0
SHORTEST_INTERVAL = 1.0
PASS_SECONDS = 60.0


FIRST_EVENTS = 1000
FEWEST_EVENTS = 50
MOST_EVENTS = 20_000
PIECE_SECONDS = 0.1
REST = 3.0


@attrs.define
class Pace:
    """How much at once, and how long to rest; learned from how long things take."""

    events: int = FIRST_EVENTS

    def took(self, seconds: float) -> float:
        """A piece took so long: the next one is sized after it. Returns how long to rest."""
        if seconds > PIECE_SECONDS:
            self.slow_down()
        elif seconds < PIECE_SECONDS / 2:
            self.events = min(self.events * 2, MOST_EVENTS)
        return seconds * REST

    def slow_down(self) -> None:
        self.events = max(self.events // 2, FEWEST_EVENTS)


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
            await prune_all(supervisor, keep_seconds, pace)
        except DatabaseLost as error:
            log.warning("pruning failed", reason=str(error))
        except QueryRefused as error:  # most probably it took too long
            pace.slow_down()
            log.warning("pruning failed", reason=str(error), next_events=pace.events)


async def prune_all(supervisor: Supervisor, keep_seconds: float, pace: Pace) -> None:
    """Pass after pass until nothing is left. Raises DatabaseLost, QueryRefused."""
    more, since = True, None
    while more and not supervisor.draining.is_set():
        more, since = await _prune_once(supervisor, keep_seconds, pace, since)


async def _prune_once(
    supervisor: Supervisor, keep_seconds: float, pace: Pace, since: str | None
) -> tuple[bool, str | None]:
    """One pass; whether there may be more, and since when. A full pass is said in the log, and a broken one, too."""
    began, runs, events, more = trio.current_time(), 0, 0, True
    try:
        while more and not supervisor.draining.is_set() and trio.current_time() - began < PASS_SECONDS:
            piece_began = trio.current_time()
            piece = await prune_piece(
                supervisor.store.sweep, keep_seconds=keep_seconds, events=pace.events, since=since
            )
            if more := piece.runs > 0:
                since, runs, events = piece.upto, runs + piece.whole, events + piece.events
                rest = pace.took(trio.current_time() - piece_began)
                await trio.sleep(rest * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
    finally:
        if events:
            seconds = round(trio.current_time() - began, 3)
            log.info("events pruned", runs=runs, events=events, seconds=seconds)
    return more, since
