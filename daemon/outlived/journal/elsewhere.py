"""Noticing how runs that other daemons own go on: one poller for everything that is watched here.

1. What counts is asked for: twice a second, one question for all runs that are watched and not ours, none without.
2. A hint only cuts the wait. Owners of watched runs are asked for hints again and again while somebody watches;
   an owner that nobody asks gives none.

Not here: how hints travel (``store/notices.py``), giving them (``chores/hints.py``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import suppress

import trio

from outlived.journal.hub import Hub, Watched
from outlived.store.notices import Hint, Notices
from outlived.store.postgres import DatabaseLost
from outlived.store.reads import Progress, Reads

POLL_SECONDS = 0.5
PAUSE_SECONDS = 0.02
IDLE_PAUSE_SECONDS = 0.2
WATCH_SECONDS = 5.0
"""For how long an owner gives news once it was asked; it is asked again after less than half of that."""


async def watch_elsewhere(
    hub: Hub, reads: Reads, is_ours: Callable[[str], bool], notices: Notices | None = None
) -> None:
    """Actor: notice the progress of watched runs that are not ours."""
    asked: dict[str, float] = {}
    while True:
        elsewhere = {
            watched.run_id: watched
            for watched in hub.list_watched()
            if not watched.settled and not is_ours(watched.run_id)
        }
        found: dict[str, Progress] = {}
        if elsewhere:
            with suppress(DatabaseLost):  # the next round asks again; whoever reads meanwhile is told
                found = await reads.read_progress(list(elsewhere))
            _note(elsewhere, found)
        if notices is not None:
            _ask_for_news(notices, found, asked)
        await _wait(hub, PAUSE_SECONDS if elsewhere else IDLE_PAUSE_SECONDS)


def _note(elsewhere: dict[str, Watched], found: dict[str, Progress]) -> None:
    for run_id, progress in found.items():
        watched = elsewhere[run_id]
        if progress.last_seq > watched.last_seq or progress.settled > watched.settled:
            watched.note(progress.last_seq, settled=progress.settled)


def _ask_for_news(notices: Notices, found: dict[str, Progress], asked: dict[str, float]) -> None:
    """Let the owners of these runs know that somebody waits for them."""
    now = trio.current_time()
    owners = {progress.owner for progress in found.values() if progress.owner and not progress.settled}
    notices.follow(frozenset(owners))
    for owner in asked.keys() - owners:
        del asked[owner]
    for owner in owners:
        if now - asked.get(owner, -WATCH_SECONDS) > 0.4 * WATCH_SECONDS:
            asked[owner] = now
            notices.hint(Hint.WATCH, owner)


async def _wait(hub: Hub, pause: float) -> None:
    """Until there may be something new; without an end while nobody watches anything.

    Hints, and new watchers of runs that are ours, come in bursts: they are not looked after one by one.
    """
    await trio.sleep(pause)
    seconds = POLL_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
    with trio.move_on_after(seconds if hub.subscribers else math.inf):
        await hub.elsewhere.wait()
