"""The heartbeat: renews the lease, brings stop marks, and finds runs that this owner lost sight of.

1. Liveness is this beat from its own actor and connection, never an agent's progress.
2. A beat that fails is tried again soon; after two thirds of the lease this owner stops trusting itself and
   cancels what could be taken over.
3. A run that is this owner's in the database, but neither in the registry nor being settled for two beats, is
   taken over from itself and settled.

Not here: what a lease means (``rules/leases.py``), losing it (``supervisor/term.py``).
"""

from __future__ import annotations

import structlog
import trio

from outlived.identifiers import follow_clock, read_millis
from outlived.journal.items import OwnershipLost
from outlived.store.owners import read_marked, read_unsettled, renew
from outlived.store.postgres import DatabaseLost, QueryRefused
from outlived.supervisor import Supervisor
from outlived.supervisor.registry import Cause
from outlived.supervisor.stop import apply_stop
from outlived.supervisor.takeover import take_over
from outlived.supervisor.trust import read_clock

log = structlog.get_logger("outlived.heartbeat")

RETRY_SECONDS = 1.0
DOUBTS_PER_LEASE = 30


async def beat(supervisor: Supervisor) -> None:
    """Actor: the heart, and beside it the doubt: a beat may hang as long as a database does."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_doubt, supervisor)
        await _beat_on(supervisor)


async def _beat_on(supervisor: Supervisor) -> None:
    unseen: set[str] = set()
    while True:
        interval = supervisor.settings.owner.heartbeat_seconds
        if supervisor.journal.lost.is_set():
            await trio.sleep(RETRY_SECONDS)  # between two terms there is nothing to renew
            continue
        try:
            unseen = await beat_once(supervisor, unseen)
        except (DatabaseLost, QueryRefused, OwnershipLost) as error:
            log.warning("heartbeat failed", reason=str(error))
            interval = min(RETRY_SECONDS, interval)
        await trio.sleep(interval)


async def _doubt(supervisor: Supervisor) -> None:
    """Cancel what could be taken over, as soon as this owner does not trust itself any more."""
    trusted = True
    while True:
        await trio.sleep(min(1.0, supervisor.settings.owner.lease_seconds / DOUBTS_PER_LEASE))
        trusts = supervisor.trust.holds
        if trusted and not trusts:
            log.error("this owner does not trust itself any more: cancelling its runs")
        if not trusts:
            supervisor.registry.cancel_all(Cause.DISTRUST)
        trusted = trusts


async def beat_once(supervisor: Supervisor, unseen: set[str]) -> set[str]:
    """One beat; returns the runs that were not to be seen this time. Raises DatabaseLost, QueryRefused."""
    owner, journal = supervisor.settings.owner, supervisor.journal
    me, began, asked = journal.owner, read_clock(), read_millis()
    now = await renew(supervisor.store.heartbeat, me, owner.lease_seconds)
    if now is None:
        journal.lose()
        return set()
    supervisor.trust.renewed(began)
    journal.note_reached()
    follow_clock(now, asked)
    for run_id, mark in (await read_marked(supervisor.store.heartbeat, me)).items():
        apply_stop(supervisor, run_id, mark)
    held = await read_unsettled(supervisor.store.heartbeat, me)
    registry = supervisor.registry
    missing = {
        run
        for run in held
        if registry.find(run) is None and not registry.is_left(run) and not journal.is_settling(run)
    }
    if gone := missing & unseen:
        log.error("runs of ours were lost sight of; settling them", run_ids=sorted(gone))
        for run_id in gone:
            journal.forget(run_id)
        with trio.move_on_after(owner.heartbeat_seconds):  # it goes on without us: the heart must not wait
            await take_over(supervisor, sorted(gone))
    return missing - gone
