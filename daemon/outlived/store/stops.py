"""Stop marks and recorded processes: the two things of a run that are read and written beside its journal.

Any daemon may write the stop columns of any unsettled run; nobody but the owner appends to its log.
Not here: acting on a mark (``supervisor/stop.py``).
"""

from __future__ import annotations

import attrs

from outlived.rules.leases import ProcessIdentity
from outlived.rules.run import TERMINAL
from outlived.store.owners import StopMark
from outlived.store.postgres import Link, LinkPool
from outlived.store.queries import load_queries
from outlived.store.rows import COLUMNS

SQL = load_queries("runs.sql", COLUMNS)


@attrs.frozen
class Stoppable:
    """A run as a stop finds it, after its mark was written."""

    settled: bool
    owner: str | None
    mark: StopMark | None


@attrs.frozen
class RunProcess:
    """The process a run was given, on whichever host."""

    host: str
    identity: ProcessIdentity
    pgid: int


async def mark_stop(link: Link, run_id: str, *, reason: str | None, by: str) -> Stoppable | None:
    """Record the intent, unless the run is settled or marked already. None: there is no such run."""
    params = {"run_id": run_id, "reason": reason, "by": by}
    _, rows = await link.transact([(SQL["mark_stop"], params), (SQL["read_stop"], {"run_id": run_id})])
    return _stoppable(rows)


async def read_stop(link: Link | LinkPool, run_id: str) -> Stoppable | None:
    """Whether a stop was asked for; None: there is no such run."""
    return _stoppable(await link.query(SQL["read_stop"], {"run_id": run_id}))


async def read_processes(link: Link, run_ids: list[str]) -> dict[str, RunProcess]:
    """The recorded processes of these runs."""
    rows = await link.query(SQL["read_processes"], {"ids": run_ids})
    return {
        run_id: RunProcess(host, ProcessIdentity(boot_id, pid_namespace, pid, start_ticks), pgid)
        for run_id, host, boot_id, pid_namespace, pid, start_ticks, pgid in rows
    }


def _stoppable(rows: list[tuple[str, str | None, str | None, str | None, str | None]]) -> Stoppable | None:
    if not rows:
        return None
    status, owner, at, reason, by = rows[0]
    return Stoppable(status in TERMINAL, owner, StopMark(at, reason, by) if at else None)
