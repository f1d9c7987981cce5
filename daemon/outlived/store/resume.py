"""What a next attempt needs: released runs, how many attempts were lost, and the steps that are done.

1. Everything here only looks; a released run is claimed by the journal, under its fence.
2. Only the owner reads a run's steps, and nobody else writes any: what is read stays true.

Not here: whether to claim (``supervisor/claim.py``), what a loss means (``supervisor/judge.py``).
"""

from __future__ import annotations

import attrs
import msgspec

from outlive import wire
from outlived.rules.leases import ProcessIdentity
from outlived.store.postgres import Link, LinkPool
from outlived.store.queries import load_queries
from outlived.store.rows import COLUMNS, RUN_WIDTH, read_run

SQL = load_queries("resume.sql", COLUMNS)
CLAIM_LIMIT = 20


@attrs.frozen
class Place:
    """Where a daemon is, for commands that belong to a place."""

    home_id: str
    uid: int
    process: ProcessIdentity


@attrs.frozen
class Claimable:
    """A released run, and what was asked beside what is shown of it. ``input`` as it was given."""

    run: wire.Run
    input: str | list[dict[str, object]]
    cwd: str | None
    env: dict[str, str] | None
    peer_uid: int
    user_message_id: str


@attrs.frozen
class Loss:
    """A run whose owner is lost. ``lost``: attempts that ended so before."""

    resumable: bool
    lost: int


@attrs.frozen
class StoredStep:
    """A step that an earlier attempt finished. ``result`` is JSON text."""

    name: str
    result: str


async def read_released_agents(link: Link) -> set[str | None]:
    """The agents for which released runs wait; None stands for ad-hoc commands."""
    return {row[0] for row in await link.query(SQL["read_released_agents"])}


async def read_claimable(link: Link, agents: list[str], place: Place) -> list[Claimable]:
    """Released runs that a daemon with these agents at that place may claim, a bounded number."""
    params = {
        "agents": agents, "home_id": place.home_id, "uid": place.uid, "boot_id": place.process.boot_id,
        "pid_namespace": place.process.pid_namespace, "limit": CLAIM_LIMIT,
    }  # fmt: skip
    found = []
    for row in await link.query(SQL["read_claimable"], params):
        given, cwd, env, peer_uid, user_message_id = row[RUN_WIDTH:]
        environment = None if env is None else msgspec.json.decode(env)
        found.append(
            Claimable(read_run(row), msgspec.json.decode(given), cwd, environment, peer_uid, user_message_id)
        )
    return found


async def read_loss(link: Link | LinkPool, run_id: str) -> Loss:
    """What is to be known of a run whose owner is lost."""
    [(resumable, lost)] = await link.query(SQL["read_loss"], {"run_id": run_id})
    return Loss(bool(resumable), int(lost))


async def read_last_step(pool: LinkPool, run_id: str) -> int:
    """The highest number of a step that is done; 0 if none is."""
    [(position,)] = await pool.query(SQL["read_last_step"], {"run_id": run_id})
    return position or 0


async def read_step(pool: LinkPool, run_id: str, position: int) -> StoredStep | None:
    """The step of that number, if it is done."""
    rows = await pool.query(SQL["read_step"], {"run_id": run_id, "position": position})
    return StoredStep(*rows[0]) if rows else None
