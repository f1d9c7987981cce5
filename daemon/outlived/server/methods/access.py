"""Who may see what: workspaces, and runs looked up under one.

1. A start in a workspace that the peer may not use answers 403, everything else 404; lists leave it out.
2. A run looked up under another workspace is not there.
3. Whoever is turned away is named in the log, by uid and gid: an error of theirs, or of the configuration.

Not here: who may (``supervisor/access.py``), orders and ad-hoc commands, which are for the daemon's own user and root.
"""

from __future__ import annotations

import structlog

from outlive import errors, wire
from outlived.journal.log import RunLog
from outlived.server.session import Session

log = structlog.get_logger("outlived.access")


def list_allowed(session: Session) -> list[str] | None:
    """The workspaces this peer may use; None: any."""
    caller = session.caller
    return session.supervisor.access.list_workspaces(caller.uid, caller.gid, trusted=caller.trusted)


def may_use(session: Session, workspace: str) -> bool:
    allowed = list_allowed(session)
    if allowed is None or workspace in allowed:
        return True
    caller = session.caller
    log.warning("peer turned away", uid=caller.uid, gid=caller.gid, workspace=workspace)
    return False


def check_start(session: Session, workspace: str) -> None:
    """Raises Forbidden."""
    if not may_use(session, workspace):
        may = ", ".join(list_allowed(session) or ["none"])
        raise errors.Forbidden(f"cannot start a run in workspace {workspace}: you may use {may}")


def check_chat(session: Session, workspace: str, chat_id: str | None) -> None:
    """A chat where this peer may not look is not there. Raises NotFound."""
    if not may_use(session, workspace):
        named = "a chat" if chat_id is None else f"chat {chat_id}"
        raise errors.NotFound(f"cannot find {named} in workspace {workspace}")


async def find_run(session: Session, run_id: str, workspace: str | None) -> wire.Run:
    """The run, if this peer may see it. Raises NotFound."""
    run = await session.supervisor.store.reads.get_run(run_id)
    if run is None or not is_visible(session, run, workspace):
        raise errors.NotFound(f"cannot find run {run_id}")
    return run


async def find_run_and_message(
    session: Session, run_id: str, workspace: str | None
) -> tuple[wire.Run, wire.Message]:
    """The run and its message, of one moment. Raises NotFound."""
    found = await session.supervisor.store.reads.get_run_and_message(run_id)
    if found is None or not is_visible(session, found[0], workspace):
        raise errors.NotFound(f"cannot find run {run_id}")
    return found


def is_visible(session: Session, run: wire.Run | RunLog, workspace: str | None) -> bool:
    return (workspace is None or run.workspace == workspace) and may_use(session, run.workspace)
