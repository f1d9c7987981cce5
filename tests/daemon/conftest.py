"""The daemons that the modules here share, and their history, checked at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.history import assert_history
from tests.support.homes import CONFIG, end_cleanly, make_home
from tests.support.postgres import Postgres


@pytest.fixture(scope="module")
def shared_daemon(postgres: Postgres, short_dir: Path) -> Iterator[Daemon]:
    """One daemon for a module. At its end every run is settled, every log is whole, and nothing went wrong inside."""
    database = postgres.create_database()
    daemon = Daemon(make_home(short_dir), database=database, config=CONFIG).start()
    yield daemon
    end_cleanly(daemon)
    assert_history(database, settled=True)


@pytest.fixture(scope="module")
def siblings(postgres: Postgres, short_dir: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """Two daemons of one database, for a module."""
    database = postgres.create_database()
    pair = [
        Daemon(make_home(short_dir), database=database, config=CONFIG).start(wait=False) for _ in range(2)
    ]
    for daemon in pair:
        daemon.wait_ready()
    yield pair[0], pair[1]
    for daemon in pair:
        end_cleanly(daemon)
    assert_history(database, settled=True)
