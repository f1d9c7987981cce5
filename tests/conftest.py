"""Fixtures that every room's tests share: one Postgres for the session, a database and daemons on demand."""

import faulthandler
import itertools
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.effort import Effort
from tests.support.figures import FigureTable
from tests.support.history import assert_messages
from tests.support.postgres import Postgres
from tests.support.programs import list_pids
from tests.support.skips import SkipWatch
from tests.support.wire import Wire

NUMBERS = itertools.count(1_000_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        action="store_true",
        help="run the long forms: more examples, more crashes, a new seed each time",
    )
    parser.addoption("--seed", type=int, help="the seed of a long form that is to be repeated")
    parser.addoption(
        "--share", type=float, default=1.0, help="how much of a long form: 0.03 makes 30 crashes of 1,000"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--long"):
        config.option.timeout = 4 * 3600
        if config.option.seed is None:
            config.option.seed = random.randrange(1 << 32)
    config.pluginmanager.register(SkipWatch(), "skip watch")
    config.pluginmanager.register(FigureTable(), "figure table")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job: what we start shall hear Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.getoption("--long"):
        faulthandler.cancel_dump_traceback_later()  # a test may take its time


def pytest_report_header(config: pytest.Config) -> str | None:
    return f"long forms: --long --seed {config.option.seed}" if config.getoption("--long") else None


@pytest.fixture(scope="session")
def effort(request: pytest.FixtureRequest) -> Effort:
    """The session's effort: the usual one, or that of ``--long``."""
    options = request.config.option
    return Effort(options.seed if options.long else None, options.share)


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A directory with a short name: a socket's path has 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="ol-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(short_dir: Path) -> Iterator[Postgres]:
    """The session's server."""
    server = Postgres(short_dir / "pg")
    yield server
    server.close()


@pytest.fixture
def word() -> Iterator[str]:
    """A number of seconds that no other process sleeps; whoever still has it on its command line afterwards is a failure."""
    word = f"{next(NUMBERS)}.{os.getpid()}"
    yield word
    left = list_pids(word)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "a process was left behind"


@pytest.fixture
def database(postgres: Postgres) -> str:
    """A new, empty database; its DSN."""
    return postgres.create_database()


@pytest.fixture
def make_daemon(postgres: Postgres, short_dir: Path) -> Iterator[Callable[..., Daemon]]:
    """Make daemons, each in its own home, on a new database unless one is named; all are stopped afterwards."""
    made: list[Daemon] = []

    def make(database: str | None = "new", config: str = FAST) -> Daemon:
        directory = Path(tempfile.mkdtemp(prefix="d-", dir=short_dir))
        if database == "new":
            database = postgres.create_database()
        made.append(Daemon(directory, database=database, config=config))
        return made[-1]

    yield make
    for daemon in made:
        if daemon.process is not None:
            daemon.stop()


@pytest.fixture(scope="module")
def shared_daemon(postgres: Postgres, short_dir: Path) -> Iterator[Daemon]:
    """One daemon for a module whose tests do not disturb each other."""
    directory = Path(tempfile.mkdtemp(prefix="d-", dir=short_dir))
    daemon = Daemon(directory, database=postgres.create_database()).start()
    yield daemon
    assert daemon.stop() == 0, daemon.read_log()
    assert_messages(daemon.dsn)


@pytest.fixture
def wire(shared_daemon: Daemon) -> Iterator[Wire]:
    """A connection to the module's daemon."""
    with shared_daemon.connect() as connection:
        yield connection
