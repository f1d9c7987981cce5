"""Stopping a run: the intent made durable, then the act, wherever the run is.

1. The mark first, then the cancel; if the database is away a run of ours is cancelled all the same, and its
   settlement carries the mark.
2. Only the owner appends ``run.stop_requested``. A run of another living owner is that owner's to end.
3. A run that is nobody's is taken over and settled here.

Not here: what a stopped agent becomes (``judge.py``), the ladder (``agents/command.py``).
"""

from __future__ import annotations

from datetime import UTC, datetime

from outlive import errors, wire
from outlived import processes
from outlived.journal.items import Entry, JournalRefused, OwnershipLost
from outlived.journal.tail import wait_settled
from outlived.rules.run import Fact
from outlived.store.adoption import is_awaited
from outlived.store.notices import Hint
from outlived.store.owners import StopMark, read_holder
from outlived.store.postgres import DatabaseLost, write_time
from outlived.store.stops import mark_stop, read_processes
from outlived.supervisor import Supervisor
from outlived.supervisor.registry import Active, Cause
from outlived.supervisor.takeover import is_dead, reap, take_over


async def stop(
    supervisor: Supervisor, run_id: str, *, reason: str | None, by: str, wait_seconds: float
) -> wire.StopOutcome:
    """Ask for a run's end. Raises NotFound, DatabaseLost (a run of ours is cancelled even then)."""
    try:
        found = await mark_stop(supervisor.store.stops, run_id, reason=reason, by=by)
    except DatabaseLost:
        if supervisor.registry.find(run_id) is not None:
            apply_stop(supervisor, run_id, StopMark(write_time(datetime.now(UTC)), reason, by))
        raise
    if found is None:
        raise errors.NotFound(f"cannot find run {run_id}")
    if found.settled:
        return "already_settled"
    assert found.mark is not None
    if not apply_stop(supervisor, run_id, found.mark):
        await _settle_if_nobodys(supervisor, run_id, found.owner)
    return await _await_end(supervisor, run_id, wait_seconds)


def apply_stop(supervisor: Supervisor, run_id: str, mark: StopMark) -> bool:
    """Act on a durable mark, once; False if the run is not ours to end."""
    active = supervisor.registry.find(run_id)
    if active is None:
        return False
    if active.mark is None:
        active.mark = mark
        _append_mark(supervisor, active, mark)
        active.cancel(Cause.STOP)
    return True


def _append_mark(supervisor: Supervisor, active: Active, mark: StopMark) -> None:
    data = {"by": mark.by, "reason": mark.reason, "requested_at": mark.requested_at}
    try:
        supervisor.journal.append_nowait(active.run_id, Entry(Fact.STOP_REQUESTED.value, data))
    except (OwnershipLost, JournalRefused):
        return  # it is being settled, and the settlement repeats the mark


async def _settle_if_nobodys(supervisor: Supervisor, run_id: str, owner: str | None) -> None:
    if owner is not None:
        holder = await read_holder(supervisor.store.sweep, run_id)
        if holder is None or not is_dead(supervisor, holder):
            supervisor.store.notices.hint(Hint.STOP, owner)  # else its next heartbeat brings the mark
            return
        await reap(supervisor, holder)
        if await _is_elsewhere(supervisor, run_id):
            return  # whoever adopts it ends it, or the sweep, once nobody has
    await take_over(supervisor, [run_id])


async def _is_elsewhere(supervisor: Supervisor, run_id: str) -> bool:
    """Whether the run's command may be alive where we cannot kill it."""
    settings, home = supervisor.settings.run, supervisor.home.home_id
    link, here = supervisor.store.sweep, processes.read_own_identity()
    found = (await read_processes(link, [run_id])).get(run_id)
    if found is None or found.identity.is_beside(here):
        return False
    return await is_awaited(link, run_id, home_id=home, adopt_seconds=settings.adopt_seconds)


async def _await_end(supervisor: Supervisor, run_id: str, seconds: float) -> wire.StopOutcome:
    if seconds > 0:
        with supervisor.hub.watch(run_id) as watched:
            await wait_settled(watched, supervisor.store.reads, seconds)
    progress = (await supervisor.store.reads.read_progress([run_id])).get(run_id)
    return "stopped" if progress is None or progress.settled else "stopping"
