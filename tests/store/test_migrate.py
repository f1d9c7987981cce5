"""Bringing the schema up to date: once, by whoever comes first, and never backwards."""

import re
from collections.abc import Iterator
from importlib import import_module, resources

import psycopg
import pytest
import trio

from outlived.store.migrate import MIGRATIONS, NEWEST, Migration, SchemaRefused, migrate
from outlived.store.postgres import Link, QueryRefused
from tests.support.history import assert_history
from tests.support.journals import make_schema, open_desk
from tests.support.locks import Session, open_session, wait_for
from tests.support.postgres import Postgres

migrations = import_module("outlived.store.migrate")  # the package's attribute of that name is the function


@pytest.fixture(scope="module")
def shared(postgres: Postgres) -> str:
    """This module's database; its DSN."""
    return postgres.create_database()


@pytest.fixture
def session(shared: str) -> Iterator[Session]:
    """The test's own look at the database, which is empty again."""
    with open_session(shared) as session:
        session.ask("DROP SCHEMA IF EXISTS outlived CASCADE")
        yield session


@pytest.fixture
def link(shared: str, session: Session) -> Iterator[Link]:
    """A daemon's connection."""
    link = Link(shared, "migrate")
    yield link
    link.close()


@pytest.fixture
def role(shared: str, session: Session) -> Iterator[str]:
    """A role that may read and write everything and create nothing, on an up-to-date schema; its DSN."""
    name = f"plain_{session.ask_one('SELECT current_database()')}"
    make_schema(shared)
    session.ask(f"CREATE ROLE {name} LOGIN")
    session.ask(f"GRANT USAGE ON SCHEMA outlived TO {name}")
    session.ask(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA outlived TO {name}")
    yield psycopg.conninfo.make_conninfo(shared, user=name)
    session.ask(f"DROP OWNED BY {name}")
    session.ask(f"DROP ROLE {name}")


def read_history(session: Session) -> list[tuple[int, int]]:
    return session.ask("SELECT version, min_reader FROM outlived.schema_version ORDER BY version")


async def test_an_empty_database_gets_the_schema(link: Link, session: Session):
    """In an empty database every migration is applied, in order, and recorded."""
    assert await migrate(link) == len(MIGRATIONS)
    assert read_history(session) == [(each.version, each.min_reader) for each in MIGRATIONS]


async def test_a_second_time_changes_nothing(link: Link, session: Session):
    """An up-to-date schema is left alone."""
    await migrate(link)
    before = session.ask("SELECT xmin::text, * FROM outlived.schema_version")
    assert await migrate(link) == 0
    assert session.ask("SELECT xmin::text, * FROM outlived.schema_version") == before


async def test_many_daemons_at_once_migrate_once(shared: str, session: Session):
    """Daemons that start together on an empty database apply each migration once, and none fails."""
    links = [Link(shared, f"daemon {number}") for number in range(6)]
    applied: list[int] = []

    async def come(link: Link) -> None:
        applied.append(await migrate(link))

    session.lock("SELECT pg_advisory_xact_lock(7811894)")
    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(come, link)
        for number in range(6):
            await session.wait_blocked(f"daemon {number}", session.pid)
        session.release()
    for link in links:
        link.close()
    assert sorted(applied) == [0] * 5 + [len(MIGRATIONS)]
    assert read_history(session) == [(each.version, each.min_reader) for each in MIGRATIONS]


async def test_a_schema_for_newer_daemons_is_refused(link: Link, session: Session):
    """A schema that says it needs a newer daemon is refused, naming both versions and what to do."""
    await migrate(link)
    session.ask("INSERT INTO outlived.schema_version (version, min_reader) VALUES (99, 98)")
    with pytest.raises(
        SchemaRefused, match=rf"version 99 .*version 98 or newer; this one knows {NEWEST}\. Upgrade"
    ):
        await migrate(link)


async def test_a_newer_schema_may_still_be_readable(link: Link, session: Session):
    """A newer schema that still admits this daemon is used as it is."""
    await migrate(link)
    session.ask("INSERT INTO outlived.schema_version (version, min_reader) VALUES (99, 1)")
    assert await migrate(link) == 0
    assert read_history(session)[-1] == (99, 1)


async def test_a_newer_daemon_that_was_faster_is_noticed(link: Link, session: Session):
    """A daemon that waited for its turn while a newer one migrated refuses what it may not read."""
    session.lock("SELECT pg_advisory_xact_lock(7811894)")
    refused: list[SchemaRefused] = []

    async def come() -> None:
        with pytest.raises(SchemaRefused) as caught:
            await migrate(link)
        refused.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come)
        await session.wait_blocked("migrate", session.pid)
        session.ask("CREATE SCHEMA outlived")
        session.ask(migrations.SQL["prepare"])
        session.ask("INSERT INTO outlived.schema_version (version, min_reader) VALUES (99, 99)")
        session.release()
    assert "Upgrade outlive" in str(refused[0])


async def test_a_database_of_another_encoding_is_refused(shared: str, session: Session):
    """A database that cannot store what agents say is refused before anything is made in it."""
    name = f"{session.ask_one('SELECT current_database()')}_latin"
    session.ask(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    link = Link(psycopg.conninfo.make_conninfo(shared, dbname=name), "latin")
    with pytest.raises(SchemaRefused, match="its encoding is LATIN1 and has to be UTF8"):
        await migrate(link)
    assert await link.query("SELECT to_regnamespace('outlived') IS NULL") == [(True,)]
    link.close()


async def test_a_failing_migration_leaves_nothing(link: Link, session: Session, monkeypatch):
    """A migration that fails is undone whole, and the next try begins where this one did."""
    whole = migrations.read_sql
    monkeypatch.setattr(migrations, "read_sql", lambda name: whole(name) + ";\nSELECT no_such_thing;")
    with pytest.raises(QueryRefused, match="no_such_thing"):
        await migrate(link)
    await wait_for(lambda: not session.list_pids("migrate"), "the failed session is gone")
    assert session.ask_one("SELECT to_regnamespace('outlived') IS NULL")
    monkeypatch.undo()
    assert await migrate(link) == len(MIGRATIONS)


async def test_only_what_is_missing_is_applied(link: Link, session: Session, monkeypatch):
    """An older schema gets the migrations it has not, and no other."""
    await migrate(link)
    later = Migration(NEWEST + 1, 1, "later.sql")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, later))
    monkeypatch.setattr(migrations, "NEWEST", later.version)
    files = {"later.sql": "CREATE TABLE outlived.later ()"}
    monkeypatch.setattr(migrations, "read_sql", files.__getitem__)
    assert await migrate(link) == 1
    assert session.ask_one("SELECT to_regclass('outlived.later') IS NOT NULL")


def test_every_numbered_file_is_listed():
    """Each file 0001_….sql is a migration of that number; none is forgotten, none is missing."""
    folder = resources.files("outlived.store").joinpath("sql")
    files = sorted(entry.name for entry in folder.iterdir() if re.match(r"\d", entry.name))
    assert [each.file for each in MIGRATIONS] == files
    assert [each.version for each in MIGRATIONS] == [int(name.split("_")[0]) for name in files]
    assert [each.version for each in MIGRATIONS] == list(range(1, NEWEST + 1))
    for each in MIGRATIONS:
        assert 1 <= each.min_reader <= each.version


async def test_an_unprivileged_role_can_use_an_up_to_date_schema(shared: str, role: str):
    """A role that may not create anything finds the schema up to date and runs a run in it."""
    async with open_desk(role) as desk:
        run_id = await desk.start()
        await desk.settle(run_id)
    assert_history(shared, acknowledged={run_id}, settled=True)


async def test_an_unprivileged_role_is_told_what_it_may_not(role: str, session: Session):
    """A role that would have to create the schema and may not is refused with the database's reason."""
    session.ask("DROP SCHEMA outlived CASCADE")
    link = Link(role, "plain")
    with pytest.raises(QueryRefused, match="permission denied"):
        await migrate(link)
    link.close()
