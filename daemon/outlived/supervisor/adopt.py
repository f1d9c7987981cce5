"""Commands that outlived their daemon: taken up by the next daemon of the same home, in the middle of their work.

Theory of operation. A command does not need its daemon (``agents/program.py``). When that is gone, the next one of the
same home - the same state directory, whose lock it holds - finds the run among those of its earlier owners, takes it
under its own fence (``run.adopted``: same attempt, new owner and epoch), and follows the command's output from where it
was read durably. If the command has ended meanwhile, its status is there, and all it has said.

1. Adopted is what belongs here: a run of an owner of this home that is dead, with a spool here, of an agent that can
   adopt, and that nobody was attached to. Whatever else of this home has a process is taken over at once: killed, and
   settled or released.
2. Other homes' runs with a process are left alone, for as long as their daemon may come back (``[run]
   adopt_seconds``); then the sweep takes them.
3. A stop that was asked for meanwhile is heard by the command like any other. A command that an earlier daemon had
   begun to end is ended, whatever it says its end was: its run is stopped, or its owner lost.
4. What a settled run has left here (its spool was not removed in time) is killed and removed.

Not here: other runs of dead owners (``takeover.py``), who is dead (``rules/leases.py``).
"""

from __future__ import annotations

from functools import partial

import structlog

from outlived.agents.command import CommandAgent
from outlived.journal.items import Ticket
from outlived.rules.leases import ProcessIdentity
from outlived.store.adoption import ADOPT_LIMIT, Orphan, list_settled, read_orphans
from outlived.store.stops import read_processes, read_stop
from outlived.supervisor import Supervisor
from outlived.supervisor.claim import specify
from outlived.supervisor.desk import RunDesk
from outlived.supervisor.execute import (
    note_leavable,
    open_desk,
    pick_agent,
    see_to_its_end,
    watch_performance,
)
from outlived.supervisor.insist import insist
from outlived.supervisor.judge import End
from outlived.supervisor.limits import set_limits, within_limits
from outlived.supervisor.registry import Active, Cause
from outlived.supervisor.stop import apply_stop
from outlived.supervisor.takeover import complete_draft, is_dead, kill_processes, reap, take_over

log = structlog.get_logger("outlived.adopt")


async def adopt_orphans(supervisor: Supervisor) -> tuple[int, set[str]]:
    """Adopt what earlier daemons of this home have left, or take it over: how many runs, and those not to be had yet.

    A row may be locked by a batch whose daemon was killed in the middle of it, until Postgres has noticed that.
    Raises DatabaseLost, OwnershipLost, QueryRefused.
    """
    link, me, home_id = supervisor.store.sweep, supervisor.journal.owner, supervisor.home.home_id
    done, later, after = 0, set[str](), None
    while True:
        orphans = await read_orphans(link, me=me, home_id=home_id, after=after)
        done += await _adopt_some(supervisor, orphans, later)
        if len(orphans) < ADOPT_LIMIT:
            return done, later
        after = orphans[-1].asked.run.id


async def _adopt_some(supervisor: Supervisor, orphans: list[Orphan], later: set[str]) -> int:
    owners = {orphan.owner.id: orphan.owner for orphan in orphans}
    dead = {
        id_ for id_, owner in owners.items() if is_dead(supervisor, owner) and await reap(supervisor, owner)
    }
    ours = [orphan for orphan in orphans if orphan.owner.id in dead]
    lost = [orphan.asked.run.id for orphan in ours if not _is_adoptable(supervisor, orphan)]
    done = await take_over(supervisor, lost) if lost else 0
    for orphan in ours:
        if orphan.asked.run.id not in lost:
            answer: Ticket[bool] = Ticket()
            supervisor.nursery.start_soon(
                _adopt, supervisor, orphan, answer, name=f"run {orphan.asked.run.id}"
            )
            if await answer.wait():
                done += 1
            else:
                later.add(orphan.asked.run.id)
    return done


def _is_adoptable(supervisor: Supervisor, orphan: Orphan) -> bool:
    run = orphan.asked.run
    known = run.agent is None or run.agent in supervisor.agents
    return (
        supervisor.settings.run.adopt
        and run.detached
        and known
        and isinstance(pick_agent(supervisor, run.agent, run.command), CommandAgent)
        and supervisor.workshop.find_spool(run.id, run.attempt) is not None
    )


async def _adopt(supervisor: Supervisor, orphan: Orphan, answer: Ticket[bool]) -> None:
    """The run's task from here on. ``answer``: whether the run is ours."""
    run_id = orphan.asked.run.id
    try:
        taken = await supervisor.journal.take([run_id])
    except Exception as error:  # noqa: BLE001 - it is told to whoever asked; no other run may suffer from it
        answer.fail(error)
        return
    if not taken:
        answer.resolve(False)
        return
    active, spec = supervisor.registry.enter(run_id), specify(orphan.asked)
    set_limits(supervisor, active, spec.agent, elapsed_seconds=orphan.elapsed_seconds)
    answer.resolve(True)
    log.info("run adopted", run_id=run_id, pid=orphan.process.pid)

    async def perform() -> End:
        await insist(supervisor, partial(complete_draft, supervisor, taken[0]))
        steps = supervisor.journal.logs[run_id].run.step_count
        desk = open_desk(
            supervisor, spec, orphan.asked.run, active, position=orphan.position, begun=1, done=steps
        )
        agent = pick_agent(supervisor, spec.agent, spec.command)
        assert isinstance(agent, CommandAgent), "it was one when it was found adoptable"
        note_leavable(active, agent, spec)
        active.pid = orphan.process.pid
        work = partial(_go_on, supervisor, active, agent, desk, orphan.process)
        return await watch_performance(supervisor, active, desk, work, adopted=True)

    await see_to_its_end(supervisor, spec, active, perform)


async def _go_on(
    supervisor: Supervisor, active: Active, agent: CommandAgent, desk: RunDesk, leader: ProcessIdentity
) -> None:
    """Let the agent go on with its command. One that is to be stopped, or was being ended, goes on to its end."""
    found = await insist(supervisor, partial(read_stop, supervisor.store.sweep, active.run_id))
    if found is not None and found.mark is not None:
        apply_stop(supervisor, active.run_id, found.mark)
    spool = supervisor.workshop.find_spool(active.run_id, desk.assignment.attempt)
    if spool is not None and spool.is_ending:
        active.cancel(Cause.DISTRUST)
    with within_limits(supervisor, active):
        await agent.adopt(desk, leader)


async def clear_leftovers(supervisor: Supervisor) -> int:
    """Kill and remove what is left here of commands whose run is settled; of how many runs. Raises DatabaseLost."""
    workshop, link = supervisor.workshop, supervisor.store.sweep
    here = [run_id for run_id in workshop.list_run_ids() if supervisor.registry.find(run_id) is None]
    gone = sorted(await list_settled(link, here)) if here else []
    if not gone:
        return 0
    processes_of = await read_processes(link, gone)
    await kill_processes(supervisor, gone, processes_of)
    for run_id in gone:
        workshop.discard(run_id)
    log.info("removed what settled runs had left here", runs=len(gone))
    return len(gone)
