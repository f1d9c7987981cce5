"""Fixtures for rooms above the journal: a database for a module, a way to it that can be broken, quick back-off."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outlived.journal import writer
from tests.support.journals import make_schema
from tests.support.postgres import Postgres
from tests.support.proxy import Proxy, open_proxy


@pytest.fixture(scope="module")
def shared_database(postgres: Postgres) -> str:
    """A database for a module whose tests do not disturb each other; its DSN."""
    dsn = postgres.create_database()
    make_schema(dsn)
    return dsn


@pytest.fixture
async def proxy(shared_database: str, short_dir: Path) -> AsyncIterator[Proxy]:
    """A way to the module's database that can be broken."""
    with tempfile.TemporaryDirectory(prefix="p-", dir=short_dir) as directory:
        async with open_proxy(shared_database, Path(directory)) as proxy:
            yield proxy


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in milliseconds; the order of things is that of the defaults."""
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(writer, "LONGEST_PAUSE", 0.05)
