"""One run from claim to settle, top to bottom: open its desk, perform, judge, settle.

1. The outcome is data until the last step, and the last step alone writes it.
2. Whatever an agent raises - SystemExit, KeyboardInterrupt, a group - ends its run and nothing else.
3. ``Cancelled`` is never swallowed: the run's own scope takes what belongs to it, the rest goes on.
4. A settlement waits as long as the database is away; only the daemon's last deadline cancels it.

Not here: what an end means (``judge.py``), who cancels (``stop.py``, ``drain.py``, ``term.py``).
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio
from structlog.contextvars import bind_contextvars

from outlive import wire
from outlived.agents import Agent, Assignment
from outlived.agents.command import CommandAgent
from outlived.journal.items import Entry, JournalRefused, OwnershipLost, RunSpec
from outlived.journal.plan import read_input
from outlived.rules.run import Fact
from outlived.rules.text import clean, clean_json
from outlived.store.adoption import Position
from outlived.store.postgres import DatabaseLost, QueryRefused
from outlived.store.stops import read_stop
from outlived.supervisor import Supervisor
from outlived.supervisor.conclude import conclude, judge_lost_run
from outlived.supervisor.desk import NOTHING_READ, RunDesk
from outlived.supervisor.judge import LOST, End, Leave, Release, judge
from outlived.supervisor.limits import set_limits, within_limits
from outlived.supervisor.past import Past
from outlived.supervisor.registry import Active, Cause
from outlived.supervisor.steps import Memory, Steps
from outlived.supervisor.stop import apply_stop
from outlived.supervisor.trust import read_clock

log = structlog.get_logger("outlived.run")

HELD_UP_SECONDS = 0.1


def launch(supervisor: Supervisor, spec: RunSpec, run: wire.Run) -> None:
    """The run is ours since this very commit: register it and start its task, without a checkpoint between."""
    active = supervisor.registry.enter(run.id)
    set_limits(supervisor, active, spec.agent)
    if supervisor.draining.is_set():
        active.cancel(Cause.SHUTDOWN)
    name = f"run {run.id}"
    supervisor.nursery.start_soon(execute, supervisor, spec, run, active, read_clock(), name=name)


async def execute(
    supervisor: Supervisor, spec: RunSpec, run: wire.Run, active: Active, committed_at: float
) -> None:
    """The run's task. ``committed_at``: when the run became ours."""

    async def perform() -> End:
        desk = open_desk(supervisor, spec, run, active)
        agent = pick_agent(supervisor, spec.agent, spec.command)
        note_leavable(active, agent, spec)
        begin = partial(_begin, supervisor, active, agent, desk, run, committed_at)
        return await watch_performance(supervisor, active, desk, begin)

    log.info("run started", run_id=run.id, chat_id=run.chat_id, agent=run.agent)
    await see_to_its_end(supervisor, spec, active, perform)


async def see_to_its_end(
    supervisor: Supervisor, spec: RunSpec, active: Active, perform: Callable[[], Awaitable[End]]
) -> None:
    """Perform, judge, conclude: whatever comes of it, it is this run's alone."""
    run_id = spec.id
    bind_contextvars(run_id=run_id, chat_id=spec.chat_id)  # for whatever is logged from here on
    try:
        end = await perform()
        supervisor.registry.note_performed(active)
        if active.cause is Cause.LOST:
            log.warning("run lost: another owner has it", run_id=run_id)
            supervisor.workshop.discard(run_id)
            return
        outcome = judge(end, resumable=may_resume(spec) and active.mark is None)
        if isinstance(outcome, Leave):
            supervisor.registry.note_left(active)
            log.info("run left to the next daemon", run_id=run_id)
            return
        if isinstance(outcome, Release) and outcome.reason == LOST:
            outcome = await judge_lost_run(supervisor, run_id)
        await conclude(supervisor, active, outcome)
    except (OwnershipLost, JournalRefused) as error:
        log.warning("run left to its next owner", run_id=run_id, reason=str(error))
    except Exception:
        # A bug of ours: the heartbeat will settle the run, the other runs go on.
        log.exception("a run's task failed", run_id=run_id)
    finally:
        supervisor.registry.leave(active)


def may_resume(spec: RunSpec) -> bool:
    """Whether the run may have a next attempt. A run bound to its client has lost it with its owner."""
    return spec.on_owner_loss == "resume" and spec.detached


def open_desk(
    supervisor: Supervisor,
    spec: RunSpec,
    run: wire.Run,
    active: Active,
    *,
    position: Position = NOTHING_READ,
    begun: int = 0,
    done: int = 0,
) -> RunDesk:
    """The desk of an attempt; the rest is of one that was adopted: what was read, and how many of its steps the log has."""
    steps = Steps(keeps=may_resume(spec), begun=begun, done=done)
    desk = RunDesk(
        _assign(spec, run),
        supervisor.journal,
        active,
        supervisor.settings.run.grace_seconds,
        steps,
        workshop=supervisor.workshop,
        position=position,
        past=Past(supervisor, run),
    )
    if run.attempt > 1:
        steps.memory = Memory(supervisor, run.id, desk.note_end)
    return desk


def _assign(spec: RunSpec, run: wire.Run) -> Assignment:
    return Assignment(
        run_id=run.id,
        workspace=run.workspace,
        chat_id=run.chat_id,
        attempt=run.attempt,
        input=clean(read_input(spec.input)),
        metadata=spec.metadata,
        command=spec.command,
        cwd=spec.cwd,
        env=spec.env,
        parts=clean_json(spec.input) if isinstance(spec.input, list) else None,
    )


def pick_agent(supervisor: Supervisor, name: str | None, command: list[str] | None) -> Agent:
    """The configured agent, or one for an ad-hoc command. The caller knows that one of both is there."""
    if name is not None:
        return supervisor.agents[name]
    assert command is not None
    return CommandAgent(command, inherit=tuple(supervisor.settings.run.inherit_env))


def note_leavable(active: Active, agent: Agent, spec: RunSpec) -> None:
    """A command can go on without a daemon; not one that is bound to its client, which it has lost by then."""
    active.leavable = isinstance(agent, CommandAgent) and spec.detached
    active.what = spec.agent or shlex.join(spec.command or [])


async def _begin(
    supervisor: Supervisor, active: Active, agent: Agent, desk: RunDesk, run: wire.Run, committed_at: float
) -> None:
    """Say that the attempt begins, and let its agent work."""
    if read_clock() - committed_at > HELD_UP_SECONDS:
        await _read_mark(supervisor, run.id)
    await trio.lowlevel.checkpoint_if_cancelled()
    if run.started_at is None:  # else its claim has said so
        data = {"attempt": run.attempt, "owner": run.owner, "epoch": run.epoch}
        supervisor.journal.append_nowait(run.id, Entry(Fact.STARTED.value, data))
    with within_limits(supervisor, active):
        await agent.perform(desk)


async def watch_performance(
    supervisor: Supervisor,
    active: Active,
    desk: RunDesk,
    work: Callable[[], Awaitable[None]],
    *,
    adopted: bool = False,
) -> End:
    """Let the agent work in the run's scope; what was seen of its end."""
    raised: BaseException | None = None
    with active.scope as scope:
        try:
            await work()
        except BaseException as error:  # noqa: BLE001 - an agent may raise anything; it ends its run only
            raised = error
        if _is_cancelled() and (cancelled := _find(raised, trio.Cancelled)) is not None:
            raise cancelled
    if _find(raised, OwnershipLost) is not None and not supervisor.journal.owns(active.run_id):
        active.cancel(Cause.LOST)
    return End(
        scope.cancelled_caught,
        active.cause,
        raised,
        desk.ended,
        desk.own_error,
        adopted=adopted,
        limit=active.limit,
    )


def _is_cancelled() -> bool:
    """Whether a scope around us is; without one, a Cancelled is a thing that the agent kept and let out late."""
    return trio.current_effective_deadline() == -math.inf


def _find(raised: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """An exception of that kind in what was raised, however deep (``except*`` gives up at some depth)."""
    pending = [] if raised is None else [raised]
    while pending:
        error = pending.pop()
        if isinstance(error, kind):
            return error
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
    return None


async def _read_mark(supervisor: Supervisor, run_id: str) -> None:
    """A stop that another daemon recorded before this moment is honoured before the agent starts.

    The commit that made the run ours saw no mark. Only where its task was held up since then (a busy loop, a
    suspended machine) can there be one that its writer had reason to think came first.
    """
    try:
        found = await read_stop(supervisor.store.pool, run_id)
    except (DatabaseLost, QueryRefused):
        return  # the heartbeat brings it
    if found is not None and found.mark is not None:
        apply_stop(supervisor, run_id, found.mark)
