"""``run/get``, ``run/latest``, ``run/list``."""

from __future__ import annotations

from outlive import wire
from outlived.server.methods.access import check_chat, find_run_and_message, list_allowed
from outlived.server.methods.cursors import read_cursor, write_cursor
from outlived.server.session import Call, Session


async def get_run(session: Session, params: wire.RunIdParams, call: Call) -> wire.RunFound:  # noqa: ARG001
    """One run and its message."""
    async with session.turn():
        return wire.RunFound(*await find_run_and_message(session, params.run_id, params.workspace))


async def get_latest(session: Session, params: wire.RunLatestParams, call: Call) -> wire.RunAndMessage:  # noqa: ARG001
    """What a reconnecting client asks first."""
    check_chat(session, params.workspace, params.chat_id)
    async with session.turn():
        found = await session.supervisor.store.reads.get_latest(params.workspace, params.chat_id)
        return wire.RunAndMessage(*found) if found else wire.RunAndMessage(None, None)


async def list_runs(session: Session, params: wire.RunListParams, call: Call) -> wire.RunPage:  # noqa: ARG001
    """Newest first."""
    cursor = read_cursor(params.cursor, tuple[wire.RunId])
    workspace = params.workspace
    if workspace is None and params.chat_id is not None:
        workspace = "default"
    async with session.turn():
        page = await session.supervisor.store.reads.list_runs(
            workspace=workspace,
            allowed=list_allowed(session),
            chat_id=params.chat_id,
            statuses=None if params.status is None else list(params.status),
            agent=params.agent,
            before=cursor[0] if cursor else None,
            limit=params.limit,
        )
        return wire.RunPage(page.rows, write_cursor(page.rows[-1].id) if page.more else None)
