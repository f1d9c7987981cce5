"""What the client's suite shares: both event loops, one daemon for the session, and a small directory for sockets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.postgres import Postgres

CONFIG = (
    FAST
    + """
[agents.outspoken]
kind = "python"
target = "outspoken:speak"

[agents.no-program]
kind = "command"
command = ["no-such-program-on-any-path"]
"""
)


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of an event loop: a test that asks for it runs on each."""
    return request.param


@pytest.fixture(scope="session")
def shared_daemon(postgres: Postgres, short_dir: Path) -> Iterator[Daemon]:
    """One daemon for the suite. At its end every log is whole, and nothing went wrong inside."""
    directory = Path(tempfile.mkdtemp(prefix="d-", dir=short_dir))
    daemon = Daemon(directory, database=postgres.create_database(), config=CONFIG).start()
    yield daemon
    assert daemon.stop() == 0, daemon.read_log()
    assert "Traceback" not in daemon.read_log(), daemon.read_log()
    assert daemon.database is not None
    assert_history(daemon.database, settled=True)


@pytest.fixture
def socket_dir(short_dir: Path) -> Path:
    """A new directory whose name leaves room for a socket's."""
    return Path(tempfile.mkdtemp(prefix="c-", dir=short_dir))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again begins after a millisecond, so that many cuts fit into a test."""
    monkeypatch.setattr("outlive.patience._FIRST_PAUSE_SECONDS", 0.001)
