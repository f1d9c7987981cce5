"""Who may see what: workspaces, and runs looked up under one.

1. A start in a workspace that the peer may not use answers 403, everything else 404.
2. A run looked up under another workspace is not there.

In this version every peer that can open the socket may use every workspace: the socket's mode decides.
"""

from __future__ import annotations

from outlive import errors, wire
from outlived.journal.log import RunLog
from outlived.server.session import Session


async def find_run(session: Session, run_id: str, workspace: str | None) -> wire.Run:
    """The run, if this peer may see it. Raises NotFound."""
    run = await session.supervisor.store.reads.get_run(run_id)
    if run is None or not is_visible(run, workspace):
        raise errors.NotFound(f"cannot find run {run_id}")
    return run


async def find_run_and_message(
    session: Session, run_id: str, workspace: str | None
) -> tuple[wire.Run, wire.Message]:
    """The run and its message, of one moment. Raises NotFound."""
    found = await session.supervisor.store.reads.get_run_and_message(run_id)
    if found is None or not is_visible(found[0], workspace):
        raise errors.NotFound(f"cannot find run {run_id}")
    return found


def is_visible(run: wire.Run | RunLog, workspace: str | None) -> bool:
    return workspace is None or run.workspace == workspace
