"""The schema and its history: numbered SQL files, each applied once, in order, under one lock.

1. Migrations only expand: a daemon of the version before can go on reading and writing.
2. ``MIN_READER`` of a migration is the oldest version that may still use the schema after it. A daemon that
   finds a schema newer than it may read refuses, and says so.
3. An up-to-date schema is only looked at: no lock, no right to create is needed.
4. The database's encoding is UTF8, or it is refused: any other cannot store what agents say.

Not here: what the tables mean (the SQL files say it).
"""

from __future__ import annotations

import attrs

from outlived.store.postgres import Link
from outlived.store.queries import load_queries, read_sql

SQL = load_queries("migrations.sql")
MIGRATE_SECONDS = 600.0


class SchemaRefused(Exception):
    """The database's schema is not for this daemon."""


@attrs.frozen
class Migration:
    """One numbered file and the oldest version that may read what it leaves behind."""

    version: int
    min_reader: int
    file: str


MIGRATIONS = (
    Migration(1, 1, "0001_runs.sql"),
    Migration(2, 1, "0002_retention.sql"),
    Migration(3, 1, "0003_many_runs.sql"),
    Migration(4, 1, "0004_spool.sql"),
    Migration(5, 1, "0005_sessions.sql"),
)
NEWEST = MIGRATIONS[-1].version


async def migrate(link: Link) -> int:
    """Bring the schema up to date; the number of migrations applied. Raises SchemaRefused, DatabaseLost."""
    if await _read_version(link) >= NEWEST:
        return 0
    async with link.use(MIGRATE_SECONDS) as connection:
        await connection.execute("BEGIN")
        await connection.execute(SQL["lock"])
        await connection.execute(SQL["prepare"])
        cursor = await connection.execute(SQL["read_version"])
        [(version, min_reader)] = await cursor.fetchall()
        check_readable(version, min_reader)  # a newer daemon may have been faster
        missing = [migration for migration in MIGRATIONS if migration.version > version]
        for migration in missing:
            await connection.execute(read_sql(migration.file))
            await connection.execute(
                SQL["record"], {"version": migration.version, "min_reader": migration.min_reader}
            )
        await connection.execute("COMMIT")
    return len(missing)


async def _read_version(link: Link) -> int:
    """The applied version; 0 for an empty database."""
    [(encoding,)] = await link.query(SQL["read_encoding"])
    if encoding != "UTF8":
        raise SchemaRefused(
            f"cannot use this database: its encoding is {encoding} and has to be UTF8, for agents say anything. "
            "Create one with ENCODING 'UTF8' TEMPLATE template0"
        )
    [(prepared,)] = await link.query(SQL["is_prepared"])
    if not prepared:
        return 0
    [(version, min_reader)] = await link.query(SQL["read_version"])
    check_readable(version, min_reader)
    return int(version)


def check_readable(version: int, min_reader: int) -> None:
    """Raises SchemaRefused for a schema that is too new for this version of ours."""
    if min_reader > NEWEST:
        raise SchemaRefused(
            f"cannot use this database: its schema is version {version} and needs a daemon that knows "
            f"version {min_reader} or newer; this one knows {NEWEST}. Upgrade outlive"
        )
