"""``run/stop``."""

from __future__ import annotations

from outlive import errors, wire
from outlived.server.methods.access import check_chat, find_run
from outlived.server.session import Call, Session
from outlived.supervisor.stop import stop


async def stop_run(session: Session, params: wire.RunStopParams, call: Call) -> wire.RunStopped:  # noqa: ARG001
    """Ask for the end of a run, or of a chat's active (else latest) one."""
    run_id = await _find(session, params)
    outcome = await stop(
        session.supervisor,
        run_id,
        reason=params.reason,
        by=f"uid:{session.caller.uid}",
        wait_seconds=params.wait_seconds,
    )
    async with session.turn():
        return wire.RunStopped(outcome, await find_run(session, run_id, None))


async def _find(session: Session, params: wire.RunStopParams) -> str:
    if (params.run_id is None) == (params.chat_id is None):
        raise errors.InvalidParams(
            "cannot stop: exactly one of run_id and chat_id is needed", path="$.run_id"
        )
    if params.run_id is not None:
        return (await find_run(session, params.run_id, params.workspace)).id
    assert params.chat_id is not None
    workspace = params.workspace or "default"
    check_chat(session, workspace, params.chat_id)
    found = await session.supervisor.store.reads.find_stoppable(workspace, params.chat_id)
    if found is None:
        raise errors.NotFound(f"cannot find a run in chat {params.chat_id}")
    return found
