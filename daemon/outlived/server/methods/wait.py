"""``run/wait``.

A run of this daemon is waited for, and answered, without a query: its log in memory is the row (``journal/log.py``).
"""

from __future__ import annotations

import math

from outlive import errors, wire
from outlived.journal.log import RunLog
from outlived.journal.tail import wait_settled
from outlived.rules.run import TERMINAL
from outlived.server.methods.access import find_run, find_run_and_message, is_visible
from outlived.server.session import Call, Session

SMALL_BYTES = 16 << 10


async def wait_run(session: Session, params: wire.RunWaitParams, call: Call) -> wire.RunWaited:  # noqa: ARG001
    """Answer when the run is settled, or with its state when the timeout comes first."""
    supervisor = session.supervisor
    seconds = math.inf if params.timeout_seconds is None else params.timeout_seconds
    owned = supervisor.journal.logs.get(params.run_id)
    if owned is not None and is_visible(session, owned, params.workspace):
        if (settled := await _wait_for_own(session, owned, seconds)) is not None:
            return settled
    else:
        await _check(session, params)
        with supervisor.hub.watch(params.run_id) as watched:
            await wait_settled(watched, supervisor.store.reads, seconds)
    async with session.turn():
        run, message = await find_run_and_message(session, params.run_id, params.workspace)
        return wire.RunWaited(run, message, run.status in TERMINAL)


async def _check(session: Session, params: wire.RunWaitParams) -> None:
    """Whether there is something to wait for. The run itself, which may be large, is not held meanwhile."""
    run = await find_run(session, params.run_id, params.workspace)
    if run.status not in TERMINAL:
        _refuse_draining(session)


async def _wait_for_own(session: Session, owned: RunLog, seconds: float) -> wire.RunWaited | None:
    """The answer, if it is settled here in time and is small; a large one waits for its turn."""
    _refuse_draining(session)
    with session.supervisor.hub.watch(owned.run_id) as watched:
        await watched.wait_ended(seconds)
    shown = owned.show_settled() if _is_small(owned) else None
    return None if shown is None else wire.RunWaited(*shown, settled=True)


def _is_small(owned: RunLog) -> bool:
    command = owned.spec.command if owned.spec is not None else None
    return owned.draft.size + sum(map(len, command or ())) <= SMALL_BYTES


def _refuse_draining(session: Session) -> None:
    if session.supervisor.draining.is_set():
        raise errors.Draining("cannot wait: the daemon is about to stop")
