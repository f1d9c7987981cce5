"""The store: the only room that speaks SQL.

``Store`` names the connections by purpose; each is used by one actor: ``journal`` by the journal's writer,
``heartbeat`` by the chore of that name, ``sweep`` by the sweeper and, in short pieces, the pruner, ``stops`` for stop
marks, ``reads`` for everything that only looks; ``notices`` has two for hints. The modules: ``postgres`` (waiting on
Trio), ``exchange`` (many statements in one round trip), ``migrate``, ``reads``, ``stops``, ``owners``, ``notices``,
``retention``, ``resume``, ``past``, ``batches`` (the journal's two halves), ``embedded`` (our own Postgres).
"""

from __future__ import annotations

import attrs

from outlived.store.migrate import migrate
from outlived.store.notices import Notices
from outlived.store.postgres import Link, LinkPool
from outlived.store.reads import Reads

READERS = 4


@attrs.frozen
class Store:
    """One database, and a connection for each purpose."""

    journal: Link
    heartbeat: Link
    sweep: Link
    stops: Link
    pool: LinkPool
    reads: Reads
    notices: Notices

    def close(self) -> None:
        """Hang up everywhere."""
        for link in (self.journal, self.heartbeat, self.sweep, self.stops, self.pool, self.notices):
            link.close()


async def open_store(dsn: str, *, message_limit: int) -> Store:
    """Connect, bring the schema up to date. Raises DatabaseLost, SchemaRefused, QueryRefused."""
    pool = LinkPool(dsn, "reads", READERS)
    store = Store(
        journal=Link(dsn, "journal"),
        heartbeat=Link(dsn, "heartbeat"),
        sweep=Link(dsn, "sweep"),
        stops=Link(dsn, "stops"),
        pool=pool,
        reads=Reads(pool, message_limit),
        notices=Notices(dsn),
    )
    try:
        await migrate(store.journal)
    except BaseException:
        store.close()
        raise
    return store


__all__ = ["Link", "LinkPool", "Reads", "Store", "open_store"]
