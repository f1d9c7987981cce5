"""Hints between daemons: obeying those that come, giving news to those who asked.

1. A hint makes this daemon look at once at what it would have looked at anyway.
2. News are given while somebody elsewhere follows runs of ours, and only when something was committed.
3. A burst is heard once: what is hinted while a look is under way is one more look.

Not here: channels, and listening itself (``store/notices.py``); following runs of others (``journal/elsewhere.py``).
"""

from __future__ import annotations

import structlog
import trio

from outlived.bell import Bell
from outlived.journal.elsewhere import WATCH_SECONDS
from outlived.store.notices import Hint
from outlived.store.owners import read_marked
from outlived.store.postgres import DatabaseLost, QueryRefused
from outlived.supervisor import Supervisor
from outlived.supervisor.stop import apply_stop

log = structlog.get_logger("outlived.hints")

PAUSE_SECONDS = 0.02


async def exchange_hints(supervisor: Supervisor) -> None:
    """Actor: give hints, hear them, and act on them."""
    stops, watch = Bell(), _Watch()
    bells = {Hint.STOP: stops.ring, Hint.WATCH: watch.renew, Hint.NEWS: supervisor.hub.elsewhere.ring}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.store.notices.send)
        nursery.start_soon(_obey, supervisor, stops)
        nursery.start_soon(_give_news, supervisor, watch)
        await supervisor.store.notices.listen(lambda hint: bells[hint]())


class _Watch:
    """Until when somebody elsewhere wants news of us."""

    def __init__(self) -> None:
        self.begun = Bell()
        self._until = 0.0

    def renew(self) -> None:
        if self.left <= 0:
            self.begun.ring()
        self._until = trio.current_time() + WATCH_SECONDS

    @property
    def left(self) -> float:
        """Seconds."""
        return self._until - trio.current_time()


async def _give_news(supervisor: Supervisor, watch: _Watch) -> None:
    hub, journal, notices = supervisor.hub, supervisor.journal, supervisor.store.notices
    while True:
        await watch.begun.wait()
        notices.hint(Hint.NEWS, journal.owner)  # of what was committed since they looked
        while watch.left > 0:
            with trio.move_on_after(watch.left):
                await hub.committed.wait()
                notices.hint(Hint.NEWS, journal.owner)
                await trio.sleep(PAUSE_SECONDS)


async def _obey(supervisor: Supervisor, stops: Bell) -> None:
    """Act on stop marks as the heartbeat does."""
    while True:
        await stops.wait()
        try:
            marks = await read_marked(supervisor.store.stops, supervisor.journal.owner)
        except (DatabaseLost, QueryRefused) as error:
            log.info("cannot look for stops now; the heartbeat will", reason=str(error))
            continue
        for run_id, mark in marks.items():
            apply_stop(supervisor, run_id, mark)
        await trio.sleep(PAUSE_SECONDS)
