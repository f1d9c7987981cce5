"""The one door in: everything that starts a run comes through here.

1. The request is checked before anything is stored; the reply leaves after the commit.
2. A chat held by a dead owner is freed here, at once: a dead daemon never makes a chat answer 409, nor is its run
   joined, unless it is to be resumed, or its command may be adopted: that one keeps its chat. If another daemon is about to free it, that is waited for.
3. Only the daemon's own user and root may send a command, a directory or an environment.

Not here: the slot itself (a unique index, and the journal's plan), who may use a workspace (``server``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import attrs
import msgspec
import trio

from outlive import errors, wire
from outlived.agents import AgentBroken, Assignment, AssignmentRefused
from outlived.agents.presets import Preset
from outlived.identifiers import make_id
from outlived.journal.items import Created, Existing, KeyTaken, RunSpec, SlotTaken, StartAnswer
from outlived.journal.plan import read_input
from outlived.journal.tail import wait_settled
from outlived.store.adoption import is_awaited
from outlived.store.owners import OwnerRow, is_adopted, read_holder
from outlived.store.stops import read_processes
from outlived.supervisor import Supervisor
from outlived.supervisor.execute import launch, pick_agent
from outlived.supervisor.takeover import is_dead, reap, take_over

FREE_SECONDS = 5.0


@attrs.frozen
class Caller:
    """Who asks, as the kernel says. ``trusted``: the daemon's own user, or root."""

    uid: int
    gid: int
    trusted: bool


async def start(
    supervisor: Supervisor,
    params: wire.RunStartParams,
    caller: Caller,
    on_created: Callable[[wire.Run], None],
) -> tuple[wire.Run, bool]:
    """Start a run, or find the one that is meant; (run, created). Raises the errors of ``run/start``.

    ``on_created`` is called at the commit, even if nobody waits for the answer any more.
    """
    if supervisor.draining.is_set():
        raise errors.Draining("cannot start a run: the daemon is about to stop")
    check(supervisor, params, caller)
    spec = _specify(params, caller)
    _check_agent(supervisor, spec)

    def on_commit(spec: RunSpec, run: wire.Run) -> None:
        launch(supervisor, spec, run)
        on_created(run)

    answer = await supervisor.journal.start(spec, on_commit)
    holding = _find_holding(supervisor, answer, spec)
    if holding is not None and await _free_slot(supervisor, holding):
        answer = await supervisor.journal.start(spec, on_commit)
    return await _read_answer(supervisor, answer, spec)


def check(supervisor: Supervisor, params: wire.RunStartParams, caller: Caller) -> None:
    """What is wrong with the request, whoever would execute it."""
    if (params.agent is None) == (params.command is None):
        path = "$.agent" if params.agent is None else "$.command"
        raise errors.InvalidParams(
            "cannot start a run: exactly one of agent and command is needed", path=path
        )
    if params.agent is not None and params.agent not in supervisor.agents:
        raise errors.InvalidParams(f"cannot start a run: there is no agent {params.agent!r}", path="$.agent")
    if isinstance(supervisor.agents.get(params.agent or ""), Preset) and not caller.trusted:
        raise errors.Forbidden(
            f"cannot run {params.agent}: only the daemon's own user and root may, unless it is configured"
        )
    for field in ("command", "cwd", "env"):
        if getattr(params, field) is not None and not caller.trusted:
            raise errors.Forbidden(f"cannot accept {field}: only the daemon's own user and root may send one")
    if isinstance(params.input, list):
        _check_parts(params.input)
    if params.metadata is not None and len(msgspec.json.encode(params.metadata)) > wire.MAX_METADATA_BYTES:
        raise errors.TooLarge(
            f"cannot accept metadata: it is larger than {wire.MAX_METADATA_BYTES} bytes", path="$.metadata"
        )
    _check_environment(params.env or {})


def _check_parts(parts: list[dict[str, object]]) -> None:
    for index, part in enumerate(parts):
        for field in ("type", "text") if part.get("type") == "text" else ("type",):
            if not isinstance(part.get(field), str):
                path = f"$.input[{index}].{field}"
                raise errors.InvalidParams(f"cannot accept {path}: expected a string", path=path)


def _check_environment(env: dict[str, str]) -> None:
    for name in env:
        if not name or "=" in name:
            raise errors.InvalidParams(
                "cannot accept $.env: a name is empty or holds '='", path=f"$.env.{name}"
            )


def _specify(params: wire.RunStartParams, caller: Caller) -> RunSpec:
    return RunSpec(
        id=make_id(),
        message_id=make_id(),
        user_message_id=make_id(),
        workspace=params.workspace,
        chat_id=params.chat_id or make_id(),
        agent=params.agent,
        command=params.command,
        input=params.input,
        trigger=params.trigger,
        on_active=params.on_active,
        created_by=params.created_by,
        peer_uid=caller.uid,
        metadata=params.metadata or {},
        detached=params.detached,
        on_owner_loss=params.on_owner_loss,
        key=params.idempotency_key,
        digest=_digest(params) if params.idempotency_key is not None else None,
        cwd=params.cwd,
        env=params.env,
    )


def _digest(params: wire.RunStartParams) -> str:
    """What a key stands for: agent, command, input and chat; an absent chat equals an absent one."""
    meant = [params.agent, params.command, params.input, params.chat_id]
    return hashlib.sha256(msgspec.json.encode(meant, order="deterministic")).hexdigest()


def _check_agent(supervisor: Supervisor, spec: RunSpec) -> None:
    agent = pick_agent(supervisor, spec.agent, spec.command)
    text = read_input(spec.input)
    assignment = Assignment(
        spec.id, spec.workspace, spec.chat_id, 1, text, spec.metadata, spec.command, spec.cwd, spec.env
    )
    try:
        agent.check_assignment(assignment)
    except AgentBroken as error:
        raise errors.AgentUnavailable(str(error), agent=spec.agent) from error
    except AssignmentRefused as error:
        raise errors.InvalidParams(str(error), path=error.path) from error


def _find_holding(supervisor: Supervisor, answer: StartAnswer, spec: RunSpec) -> str | None:
    """The run that has the chat, unless it is known to be at work: nobody joins a run that has died."""
    joins = isinstance(answer, Existing) and spec.on_active == "join"
    if not joins and not isinstance(answer, SlotTaken):
        return None
    assert isinstance(answer, (Existing, SlotTaken))
    return None if supervisor.registry.is_performing(answer.run_id) else answer.run_id


async def _free_slot(supervisor: Supervisor, run_id: str) -> bool:
    """Whether it is worth trying again: the run in the way has ended, or is being settled for a dead owner."""
    link = supervisor.store.sweep
    holder = await read_holder(link, run_id)
    if holder is None:
        return True  # settled a moment ago
    if not await _is_ending(supervisor, run_id, holder):
        return False
    with trio.move_on_after(FREE_SECONDS), supervisor.hub.watch(run_id) as watched:
        await wait_settled(watched, supervisor.store.reads)  # whoever it is that settles it
    return True


async def _is_ending(supervisor: Supervisor, run_id: str, holder: OwnerRow) -> bool:
    """Whether the run is being settled, or is now, because its owner is dead."""
    if holder.id == supervisor.journal.owner:
        return not supervisor.registry.is_performing(run_id)
    if not is_dead(supervisor, holder):
        return await is_adopted(supervisor.store.sweep, run_id)
    if await _is_awaited(supervisor, run_id, holder):
        return False
    if not (await reap(supervisor, holder) or await _is_taken(supervisor, run_id, holder)):
        return False
    await take_over(supervisor, [run_id])
    return not await _is_kept(supervisor, run_id)


async def _is_awaited(supervisor: Supervisor, run_id: str, holder: OwnerRow) -> bool:
    """Whether the run's command may be alive, and its home may come back for it, or is about to."""
    home, adopt_seconds = supervisor.home.home_id, supervisor.settings.run.adopt_seconds
    if holder.home_id == home and supervisor.settings.run.adopt:
        return bool(await read_processes(supervisor.store.sweep, [run_id]))  # our own next sweep sees to it
    return await is_awaited(supervisor.store.sweep, run_id, home_id=home, adopt_seconds=adopt_seconds)


async def _is_taken(supervisor: Supervisor, run_id: str, holder: OwnerRow) -> bool:
    """Whether another daemon was quicker with that dead owner."""
    now = await read_holder(supervisor.store.sweep, run_id)
    return now is None or now.id != holder.id or now.dead


async def _is_kept(supervisor: Supervisor, run_id: str) -> bool:
    """Whether that run is to be resumed, and has its chat until it ends."""
    run = await supervisor.store.reads.get_run(run_id)
    return run is not None and run.finished_at is None and run.on_owner_loss == "resume"


async def _read_answer(supervisor: Supervisor, answer: StartAnswer, spec: RunSpec) -> tuple[wire.Run, bool]:
    if isinstance(answer, Created):
        return answer.run, True
    if isinstance(answer, KeyTaken):
        raise errors.IdempotencyMismatch(
            f"cannot use key {spec.key!r}: it stands for run {answer.run_id}, which is another request",
            run_id=answer.run_id,
        )
    if isinstance(answer, SlotTaken):
        raise errors.RunActive(
            f"cannot start a run in chat {spec.chat_id}: run {answer.run_id} is active",
            active_run_id=answer.run_id,
        )
    assert isinstance(answer, Existing)
    run = await supervisor.store.reads.get_run(answer.run_id)
    assert run is not None, f"run {answer.run_id} was there a moment ago"
    return run, False
