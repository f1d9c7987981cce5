"""The sweep: declares dead owners dead, settles or releases what they left, and claims what was released.

1. Every daemon sweeps, at start-up, then periodically, with jitter; each pass is bounded, and a full pass is followed
   by another at once.
2. A fresh owner is never touched, its own owner never judged.
3. Commands that outlived a daemon of this home are adopted first; those of other homes are left to them for a while.
4. Released runs are claimed by whoever has their agent; those that are to be stopped are settled.
5. Other runs without an owner fall under the backstop, counted from the later of their last change and the start of
   this daemon, and never those of an agent that this daemon has.
6. A daemon that drains sweeps nothing.

Not here: who is dead, and how runs are taken (``supervisor/takeover.py``) and claimed (``supervisor/claim.py``).
"""

from __future__ import annotations

import random

import structlog
import trio

from outlived.journal.items import OwnershipLost
from outlived.store.owners import SWEEP_LIMIT, read_living, read_takeable
from outlived.store.postgres import DatabaseLost, QueryRefused
from outlived.supervisor import Supervisor
from outlived.supervisor.adopt import adopt_orphans, clear_leftovers
from outlived.supervisor.claim import claim_released
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
    """Sweep until a pass is not full; the number of runs taken and claimed. Raises DatabaseLost, OwnershipLost."""
    total = 0
    while True:
        done, full = await _sweep_once(supervisor, uptime)
        total += done
        if not full or not done or supervisor.draining.is_set():
            return total


async def _sweep_once(supervisor: Supervisor, uptime: float) -> tuple[int, bool]:
    link, settings = supervisor.store.sweep, supervisor.settings
    living = await read_living(link, supervisor.journal.owner)
    supervisor.trust.alone = supervisor.home.sole_owner and not living
    for owner in living:
        if is_dead(supervisor, owner):
            await reap(supervisor, owner)
    adopted, later = await adopt_orphans(supervisor)
    backstop = settings.sweep.backstop_seconds
    takeable = await read_takeable(
        link,
        agents=list(supervisor.agents),
        backstop_seconds=backstop,
        backstop_open=uptime >= backstop,
        adopt_seconds=settings.run.adopt_seconds,
    )
    takeable = [run_id for run_id in takeable if run_id not in later]
    taken = await take_over(supervisor, takeable) if takeable else 0
    claimed, more = await claim_released(supervisor)
    await clear_leftovers(supervisor)
    return adopted + taken + claimed, more or len(takeable) >= SWEEP_LIMIT
