"""The sweep: declares dead owners dead, and settles what they left. At start-up, then periodically, with jitter.

1. Every daemon sweeps; each pass is bounded, and a full pass is followed by another at once.
2. A fresh owner is never touched, its own owner never judged.
3. Runs without an owner fall under the backstop, counted from the later of their last change and the start of
   this daemon, and never those of an agent that this daemon has.

Not here: who is dead, and how runs are taken (``supervisor/takeover.py``).
"""

from __future__ import annotations

import random

import structlog
import trio

from outlived.journal.items import OwnershipLost
from outlived.store.owners import SWEEP_LIMIT, read_living, read_takeable
from outlived.store.postgres import DatabaseLost, QueryRefused
from outlived.supervisor import Supervisor
from outlived.supervisor.takeover import is_dead, reap, take_over

log = structlog.get_logger("outlived.sweeper")


async def sweep(supervisor: Supervisor) -> None:
    """Actor: sweep for ever."""
    started = trio.current_time()
    while True:
        interval = supervisor.settings.sweep.interval_seconds
        await trio.sleep(interval * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
        if supervisor.draining.is_set():
            continue
        try:
            await sweep_all(supervisor, uptime=trio.current_time() - started)
        except (DatabaseLost, QueryRefused, OwnershipLost) as error:
            log.warning("sweep failed", reason=str(error))


async def sweep_all(supervisor: Supervisor, *, uptime: float = 0.0) -> int:
    """Sweep until a pass is not full; the number of runs settled. Raises DatabaseLost, OwnershipLost."""
    total = 0
    while True:
        settled, full = await _sweep_once(supervisor, uptime)
        total += settled
        if not full or not settled:
            return total


async def _sweep_once(supervisor: Supervisor, uptime: float) -> tuple[int, bool]:
    link = supervisor.store.sweep
    for owner in await read_living(link, supervisor.journal.owner):
        if is_dead(supervisor, owner):
            await reap(supervisor, owner)
    backstop = supervisor.settings.sweep.backstop_seconds
    takeable = await read_takeable(
        link, agents=list(supervisor.agents), backstop_seconds=backstop, backstop_open=uptime >= backstop
    )
    settled = await take_over(supervisor, takeable) if takeable else 0
    return settled, len(takeable) >= SWEEP_LIMIT
