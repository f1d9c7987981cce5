"""Commands that outlived their daemon: what the next daemon of the same home needs to take them up again.

1. Everything here only looks; a run is taken by the journal, under its fence.
2. How far a command's output was read is written with the events made of it, in one commit: ``Position``.

Not here: whether to adopt (``supervisor/adopt.py``), the spool itself (``agents/spool.py``).
"""

from __future__ import annotations

import attrs
import msgspec

from outlive import wire
from outlived.rules.leases import ProcessIdentity
from outlived.store.owners import OwnerRow, read_owner_row
from outlived.store.postgres import Link
from outlived.store.queries import load_queries
from outlived.store.resume import Claimable
from outlived.store.rows import COLUMNS, RUN_WIDTH, read_run

SQL = load_queries("adoption.sql", COLUMNS)
ADOPT_LIMIT = 50


@attrs.frozen
class Position:
    """So far a command's output was read. Offsets in bytes; ``state`` is JSON text: what its reader remembers."""

    stdout: int = 0
    stderr: int = 0
    state: str | None = None

    @property
    def sum(self) -> int:
        return self.stdout + self.stderr


@attrs.frozen
class Orphan:
    """A run with a process, left by an owner of this home. ``asked``: what was asked, as for a claim;
    ``elapsed_seconds``: since its attempt began.
    """

    asked: Claimable
    owner: OwnerRow
    process: ProcessIdentity
    position: Position
    elapsed_seconds: float


async def read_orphans(link: Link, *, me: str, home_id: str, after: str | None = None) -> list[Orphan]:
    """Unsettled runs with a recorded process that other owners of this home have, a bounded number, by id."""
    rows = await link.query(
        SQL["read_orphans"], {"me": me, "home_id": home_id, "after_run": after, "limit": ADOPT_LIMIT}
    )
    return [_read_orphan(row) for row in rows]


def _read_orphan(row: tuple[object, ...]) -> Orphan:
    given, cwd, env, peer_uid, user_message_id, *rest = row[RUN_WIDTH:]
    boot_id, pid_namespace, pid, start_ticks, stdout, stderr, state, elapsed, *owner, dead = rest
    run: wire.Run = read_run(row)
    environment = None if env is None else msgspec.json.decode(str(env))
    asked = Claimable(run, msgspec.json.decode(str(given)), cwd, environment, peer_uid, user_message_id)  # type: ignore[arg-type]
    process = ProcessIdentity(boot_id, pid_namespace, pid, start_ticks)  # type: ignore[arg-type]
    return Orphan(
        asked, read_owner_row(*owner, dead=bool(dead)), process, Position(stdout, stderr, state), float(elapsed),  # type: ignore[arg-type]
    )  # fmt: skip


async def list_settled(link: Link, run_ids: list[str]) -> set[str]:
    """Those of the runs that are settled; one that this database does not know may be another database's."""
    return {row[0] for row in await link.query(SQL["list_settled"], {"ids": run_ids})}


async def is_awaited(link: Link, run_id: str, *, home_id: str, adopt_seconds: float) -> bool:
    """Whether a run whose owner is dead may still be adopted, by another daemon than one of this home."""
    params = {"run_id": run_id, "home_id": home_id, "adopt": adopt_seconds}
    return bool(await link.query(SQL["read_awaited"], params))
