"""Owners in the database: registering, renewing, declaring dead. The rules stand in ``rules/leases.py``.

1. A statement here names the owner it acts for; none acts on "whoever".
2. Stop marks travel with the heartbeat: the same beat that renews the lease reads them.

Not here: deciding who is dead (``supervisor/takeover.py``), taking their runs (the journal, fenced).
"""

from __future__ import annotations

from typing import Any

import attrs

from outlive import wire
from outlived.rules.leases import ProcessIdentity
from outlived.store.postgres import Link, LinkPool
from outlived.store.queries import load_queries

SQL = load_queries("owners.sql")
SWEEP_LIMIT = 100
LIST_LIMIT = 200


@attrs.frozen
class Registration:
    """What a daemon says of itself when it becomes an owner."""

    id: str
    home_id: str
    host: str
    process: ProcessIdentity
    socket: str
    version: str
    lease_seconds: float


@attrs.frozen
class OwnerRow:
    """Another owner, as far as judging it goes. ``expired`` by the database's clock."""

    id: str
    home_id: str
    host: str
    process: ProcessIdentity
    expired: bool
    dead: bool


@attrs.frozen
class StopMark:
    """Somebody wants a run stopped. ``requested_at`` is the database's time."""

    requested_at: str
    reason: str | None
    by: str | None


async def register(link: Link, registration: Registration) -> float:
    """Become an owner; the database's time, in seconds since 1970."""
    process = registration.process
    params = {
        "id": registration.id, "home_id": registration.home_id, "host": registration.host,
        "boot_id": process.boot_id, "pid_namespace": process.pid_namespace, "pid": process.pid,
        "start_ticks": process.start_ticks, "socket": registration.socket, "version": registration.version,
        "lease": registration.lease_seconds,
    }  # fmt: skip
    [[(now,)]] = await link.transact([(SQL["register"], params)])
    return float(now)


async def renew(link: Link, me: str, lease_seconds: float) -> float | None:
    """Renew the lease; the database's time, as ``register`` returns it. None: this owner was declared dead."""
    [rows] = await link.transact([(SQL["renew"], {"me": me, "lease": lease_seconds})])
    return float(rows[0][0]) if rows else None


async def read_unsettled(link: Link, me: str) -> list[str]:
    """Every unsettled run that ``me`` holds: one value, for there may be ten thousand."""
    [(ids,)] = await link.query(SQL["read_unsettled"], {"me": me})
    return ids.split(",") if ids else []


async def read_marked(link: Link, me: str) -> dict[str, StopMark]:
    """The unsettled runs of ``me`` that have a stop mark."""
    rows = await link.query(SQL["read_marked"], {"me": me})
    return {run_id: StopMark(at, reason, by) for run_id, at, reason, by in rows}


async def read_living(link: Link, me: str) -> list[OwnerRow]:
    """Other owners that are not declared dead, those silent for longest first, a bounded number."""
    rows = await link.query(SQL["read_living"], {"me": me, "limit": SWEEP_LIMIT})
    return [read_owner_row(*row, dead=False) for row in rows]


async def list_owners(link: Link | LinkPool, me: str) -> list[wire.OwnerInfo]:
    """Whoever lives, and who died lately or has runs left, a bounded number."""
    rows = await link.query(SQL["list_owners"], {"limit": LIST_LIMIT})
    return [wire.OwnerInfo(owner, state, owner == me, *rest) for owner, state, *rest in rows]


async def read_holder(link: Link, run_id: str) -> OwnerRow | None:
    """The owner of an active run; None if it has none or is settled."""
    rows = await link.query(SQL["read_holder"], {"run_id": run_id})
    return read_owner_row(*rows[0][:-1], dead=rows[0][-1]) if rows else None


async def is_adopted(link: Link, run_id: str) -> bool:
    """Whether the owner of an active run has it for no other purpose than to settle it."""
    return bool(await link.query(SQL["read_adopted"], {"run_id": run_id}))


async def declare_dead(link: Link, me: str, owner: str, *, proved: bool, reason: str) -> bool:
    """Set ``dead_at`` under the row's lock; False: it renewed meanwhile, or somebody else was first."""
    params = {"id": owner, "me": me, "proved": proved, "reason": reason}
    [rows] = await link.transact([(SQL["declare_dead"], params)])
    return bool(rows)


async def end_silent_holder(link: Link, owner: str) -> int:
    """End the session that holds this owner's row and says nothing more; how many (0 or 1). Raises QueryRefused."""
    return len(await link.query(SQL["end_silent_holder"], {"id": owner}))


async def retire(link: Link, me: str) -> None:
    """Leave cleanly: nobody has to wait for the lease."""
    await link.transact([(SQL["retire"], {"me": me})])


async def read_takeable(
    link: Link, *, agents: list[str], backstop_seconds: float, backstop_open: bool, adopt_seconds: float
) -> list[str]:
    """Unsettled runs that are nobody's, a bounded number. For so long after a lease a run with a process is left to
    its home.
    """
    params = {
        "agents": agents, "backstop": backstop_seconds, "backstop_open": backstop_open, "adopt": adopt_seconds,
        "limit": SWEEP_LIMIT,
    }  # fmt: skip
    return [row[0] for row in await link.query(SQL["read_takeable"], params)]


def read_owner_row(
    owner: str, home_id: str, host: str, boot_id: str, pid_namespace: str, pid: int, start_ticks: int,
    expired: Any, *, dead: bool,
) -> OwnerRow:  # fmt: skip
    """An owner from the columns by which it is judged."""
    process = ProcessIdentity(boot_id, pid_namespace, pid, start_ticks)
    return OwnerRow(owner, home_id, host, process, bool(expired), dead)
