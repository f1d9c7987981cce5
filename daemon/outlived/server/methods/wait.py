"""``run/wait``."""

from __future__ import annotations

import math

from outlive import errors, wire
from outlived.journal.tail import wait_settled
from outlived.rules.run import TERMINAL
from outlived.server.methods.access import find_run, find_run_and_message
from outlived.server.session import Call, Session


async def wait_run(session: Session, params: wire.RunWaitParams, call: Call) -> wire.RunWaited:  # noqa: ARG001
    """Answer when the run is settled, or with its state when the timeout comes first."""
    supervisor = session.supervisor
    run = await find_run(session, params.run_id, params.workspace)
    seconds = math.inf if params.timeout_seconds is None else params.timeout_seconds
    if run.status not in TERMINAL and supervisor.draining.is_set():
        raise errors.Draining("cannot wait: the daemon is about to stop")
    with supervisor.hub.watch(run.id) as watched:
        await wait_settled(watched, supervisor.store.reads, seconds)
    async with session.turn():
        run, message = await find_run_and_message(session, params.run_id, params.workspace)
        return wire.RunWaited(run, message, run.status in TERMINAL)
