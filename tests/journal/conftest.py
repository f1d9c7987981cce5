"""What the journal's tests share: a schema, a session beside it, a proxy before it, quick back-off."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from outlived.journal import writer
from outlived.store import batches
from tests.support.journals import make_schema
from tests.support.locks import Session, open_session
from tests.support.postgres import Postgres
from tests.support.proxy import Proxy, open_proxy

TABLES = ("events", "steps", "messages", "runs", "chats", "owners")


@pytest.fixture(scope="session")
def journal_database(postgres: Postgres) -> str:
    """One database for all tests of the journal, the schema in it; its DSN."""
    dsn = postgres.create_database()
    make_schema(dsn)
    return dsn


@pytest.fixture
def schema(journal_database: str) -> str:
    """The journal's database, its tables empty again; its DSN."""
    with open_session(journal_database) as session:
        session.ask("BEGIN")
        for table in TABLES:
            session.ask(f"DELETE FROM outlived.{table}")
        session.release()
    return journal_database


@pytest.fixture
def session(schema: str) -> Iterator[Session]:
    """The test's own session."""
    with open_session(schema) as session:
        yield session


@pytest.fixture
async def proxy(schema: str, short_dir: Path) -> AsyncIterator[Proxy]:
    """A way to the database that can be broken."""
    with tempfile.TemporaryDirectory(prefix="p-", dir=short_dir) as directory:
        async with open_proxy(schema, Path(directory)) as proxy:
            yield proxy


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in milliseconds; the order of things is that of the defaults."""
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(writer, "LONGEST_PAUSE", 0.05)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch waits for a lock a twentieth of a second instead of two."""
    assert batches.LIMITS["lock_ms"] == 2000
    monkeypatch.setitem(batches.LIMITS, "lock_ms", 50)
