"""``run/start``."""

from __future__ import annotations

from outlive import wire
from outlived.server.methods.access import check_start
from outlived.server.session import Call, Session
from outlived.supervisor.start import start


async def start_run(session: Session, params: wire.RunStartParams, call: Call) -> wire.RunStarted:  # noqa: ARG001
    """Start a run."""

    def attach(run: wire.Run) -> None:
        if not params.detached:
            session.attach(run.id)

    check_start(session, params.workspace)
    run, created = await start(session.supervisor, params, session.caller, attach)
    return wire.RunStarted(run, created)
