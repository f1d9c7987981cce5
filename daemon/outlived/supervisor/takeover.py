"""Runs of dead owners: declaring an owner dead, taking its runs, killing their processes, settling or releasing them.

1. An owner is declared dead by one statement under its row's lock; from then on its fence is shut.
2. Its runs are taken by this owner's own journal, under this owner's own fence, a bounded number at a time.
3. Processes are killed outside every transaction, and before their run is settled or released. A run of which one
   could not be killed is not released: its next attempt would be beside it.
4. This daemon's own owner is never judged here.
5. A run that was released and not claimed is settled when it is taken: to be stopped, or given up by the backstop.

Not here: the rule (``rules/leases.py``), when to look (``chores/sweeper.py``), claiming what was released
(``claim.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import msgspec
import structlog
import trio

from outlived import processes
from outlived.journal.items import Entry, JournalRefused, OwnershipLost, Taken, Ticket
from outlived.rules.leases import ProcessIdentity, Verdict, judge_process
from outlived.rules.message import SHAPING
from outlived.rules.run import Event, Fact, Status
from outlived.store.owners import OwnerRow, StopMark, declare_dead, end_silent_holder
from outlived.store.postgres import QueryRefused
from outlived.store.stops import RunProcess, read_processes, read_stop
from outlived.supervisor import Supervisor
from outlived.supervisor.conclude import conclude, judge_lost_run
from outlived.supervisor.insist import insist
from outlived.supervisor.judge import OWNER_LOST, Outcome, Release
from outlived.supervisor.registry import Active

log = structlog.get_logger("outlived.takeover")

KILL_SECONDS = 15.0


def is_dead(supervisor: Supervisor, owner: OwnerRow) -> bool:
    """Whether that owner may be reaped: declared dead, provably dead on this host, or past its lease."""
    return owner.dead or owner.expired or is_proved_dead(supervisor, owner)


def is_proved_dead(supervisor: Supervisor, owner: OwnerRow) -> bool:
    """Whether the owner's process is known to be gone, whatever its lease says."""
    here = processes.read_own_identity()
    if supervisor.home.sole_owner and owner.home_id == supervisor.home.home_id:
        # It lived in this home, whose lock we hold, and nobody else has this database. Our own next registration
        # may be there a moment before we know of it.
        return owner.process != here
    now = processes.read_start_ticks(owner.process.pid)
    if judge_process(owner.process, here, now) is not Verdict.DEAD:
        return False
    return now is not None or not processes.is_hidden(owner.process.pid)


async def reap(supervisor: Supervisor, owner: OwnerRow) -> bool:
    """Declare an owner dead if that is so at this moment. Its runs are nobody's afterwards."""
    if owner.dead:
        return True
    proved = is_proved_dead(supervisor, owner)
    reason = "its process is gone" if proved else "its lease ran out"
    try:
        dead = await _declare_dead(supervisor, owner, proved=proved, reason=reason)
    except QueryRefused as error:
        log.warning("an owner cannot be declared dead yet", owner=owner.id, reason=str(error))
        return False
    if dead:
        log.warning(
            "owner declared dead", owner=owner.id, host=owner.host, pid=owner.process.pid, reason=reason
        )
    return dead


async def _declare_dead(supervisor: Supervisor, owner: OwnerRow, *, proved: bool, reason: str) -> bool:
    """An owner suspended in the middle of a batch holds its own row, and would hold it for ever."""
    link, me = supervisor.store.sweep, supervisor.journal.owner
    try:
        return await declare_dead(link, me, owner.id, proved=proved, reason=reason)
    except QueryRefused as error:
        if not error.passing:
            raise
    ended = await end_silent_holder(link, owner.id)
    log.warning(
        "an owner's row was locked; ended the session that fell silent", owner=owner.id, sessions=ended
    )
    return await declare_dead(link, me, owner.id, proved=proved, reason=reason)


async def take_over(supervisor: Supervisor, run_ids: list[str]) -> int:
    """Take those of the runs that are nobody's and settle or release them; how many. Raises DatabaseLost, OwnershipLost.

    The work has a task of its own among the runs: whoever asked for it may be cancelled, a run that was taken
    is settled all the same.
    """
    answer: Ticket[int] = Ticket()
    supervisor.nursery.start_soon(_take_over, supervisor, run_ids, answer)
    return await answer.wait()


async def _take_over(supervisor: Supervisor, run_ids: list[str], answer: Ticket[int]) -> None:
    """Take what fits, conclude it, and again: however many and large the messages are, a few are held at a time."""
    left = set(run_ids)
    try:
        while left and (taken := await supervisor.journal.take(sorted(left))):
            left -= {run.run_id for run in taken}
            await _conclude_taken(supervisor, taken)
    except Exception as error:  # noqa: BLE001 - it is told to whoever asked; no other run may suffer from it
        answer.fail(error)
    else:
        answer.resolve(len(set(run_ids)) - len(left))


async def _conclude_taken(supervisor: Supervisor, taken: list[Taken]) -> None:
    actives = [supervisor.registry.enter(run.run_id, performing=False) for run in taken]
    try:
        alive = await insist(
            supervisor, partial(_kill_recorded_processes, supervisor, [run.run_id for run in taken])
        )
        async with trio.open_nursery() as nursery:
            for run, active in zip(taken, actives, strict=True):
                nursery.start_soon(_conclude_lost, supervisor, run, active, run.run_id in alive)
    finally:
        for active in actives:
            supervisor.registry.leave(active)


async def _kill_recorded_processes(supervisor: Supervisor, run_ids: list[str]) -> list[str]:
    """Kill what those runs still have on this host. Answers with the runs of which something lives on."""
    recorded = await read_processes(supervisor.store.sweep, run_ids)
    return await kill_processes(supervisor, run_ids, recorded)


async def kill_processes(
    supervisor: Supervisor, run_ids: list[str], recorded: Mapping[str, RunProcess]
) -> list[str]:
    """Kill the processes of these runs, found by their cgroup, their recorded process and their environment."""
    containment = supervisor.workshop.containment
    leaders: dict[str, ProcessIdentity | None] = dict.fromkeys(run_ids)
    leaders.update({run_id: process.identity for run_id, process in recorded.items()})
    left = run_ids
    with trio.move_on_after(KILL_SECONDS):
        left = await processes.kill_run_processes(leaders, find_container=containment.find_cgroup)
    for run_id in set(run_ids) - set(left):
        if (cgroup := containment.find_cgroup(run_id)) is not None:
            cgroup.remove()
    if left:
        log.error("cannot kill every process of runs of a dead owner", run_ids=left)
    return left


async def _conclude_lost(supervisor: Supervisor, run: Taken, active: Active, alive: bool) -> None:
    """Complete the run's message from its log, then settle or release it for its dead owner."""
    try:
        marked = await insist(supervisor, partial(complete_draft, supervisor, run))
        found = await insist(supervisor, partial(read_stop, supervisor.store.sweep, run.run_id))
        mark: StopMark | None = found.mark if found else None
        if mark is not None and active.mark is None:  # else the heartbeat was quicker
            active.mark = mark
            data = {"by": mark.by, "reason": mark.reason, "requested_at": mark.requested_at}
            if not marked:
                supervisor.journal.append_nowait(run.run_id, Entry(Fact.STOP_REQUESTED.value, data))
        outcome: Outcome | Release = Outcome(Status.ABORTED, None if mark is not None else OWNER_LOST)
        if mark is None and not alive and not run.released:
            outcome = await judge_lost_run(supervisor, run.run_id)
        log.warning("run taken from its dead owner", run_id=run.run_id)
        await conclude(supervisor, active, outcome)
    except (OwnershipLost, JournalRefused, QueryRefused) as error:
        log.warning("run left to its next owner", run_id=run.run_id, reason=str(error))


async def complete_draft(supervisor: Supervisor, run: Taken) -> bool:
    """Fold what the stored message has not seen; whether the log has the stop mark already."""
    owned = supervisor.journal.logs.get(run.run_id)
    full = owned is not None and owned.draft.truncated  # nothing more of the log is in the message
    missed: list[Event] = []
    marked = False
    cursor = run.stored_upto
    while cursor < run.last_seq:
        page = await supervisor.store.reads.list_events(run.run_id, cursor)
        if not page:
            break
        for event in page:
            marked = marked or event.type == Fact.STOP_REQUESTED
            if event.type in SHAPING and event.seq <= run.last_seq and not full:
                missed.append(Event(event.seq, event.at, event.type, msgspec.json.decode(event.data)))
        cursor = page[-1].seq
    if owned is not None and supervisor.journal.logs.get(run.run_id) is owned:
        for shaping in missed:  # all or none: this is tried again when the database goes away in between
            owned.draft.add(shaping)
    return marked
