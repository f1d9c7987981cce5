"""Daemons whose way to Postgres leads through pgbouncer in transaction mode: each transaction may have another session."""

import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import psycopg
import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.homes import end_cleanly, make_home
from tests.support.pooler import PROGRAM, open_pooler
from tests.support.postgres import Postgres
from tests.support.runs import perform, read_text, settle, start, start_endless, start_shell, stop
from tests.support.wire import Wire

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer here")

PATIENT = "[owner]\nlease_seconds = 600\nheartbeat_seconds = 300\n[run]\ngrace_seconds = 1\ndrain_seconds = 0"
"""What happens within a test's patience does not happen because of a heartbeat."""


@attrs.frozen
class Place:
    """A database, directly and through a pooler with ``size`` server connections; two daemons behind that."""

    direct: str
    pooled: str
    size: int
    daemons: tuple[Daemon, Daemon]


@pytest.fixture(scope="module", params=[1, 20], ids=["one server connection", "twenty of them"])
def place(request: pytest.FixtureRequest, postgres: Postgres, short_dir: Path) -> Iterator[Place]:
    database = postgres.create_database()
    directory = Path(tempfile.mkdtemp(prefix="b-", dir=short_dir))
    with open_pooler(database, directory, request.param) as pooled:
        a, b = (
            Daemon(make_home(short_dir), database=pooled, config=FAST).start(wait=False) for _ in range(2)
        )
        for daemon in (a, b):
            daemon.wait_ready()
        yield Place(database, pooled, request.param, (a, b))
        for daemon in (a, b):
            end_cleanly(daemon)
            assert "prepared statement" not in daemon.read_log()
    assert_history(database, settled=True)


@pytest.fixture
def pair(place: Place) -> Iterator[tuple[Wire, Wire]]:
    with place.daemons[0].connect() as here, place.daemons[1].connect() as there:
        yield here, there


def test_everything_works_through_a_pooler(pair: tuple[Wire, Wire]):
    """Start, tail, wait, stop, latest and list work through any of two daemons for runs of both."""
    here, there = pair
    words = " ".join(f"word{number}" for number in range(40))
    run = start(here, input=words, chat_id="pooled", metadata={"demo": {"delay_ms": 5}})
    events, end = there.tail(run["id"])
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (read_text(events), end["reason"]) == (words, "settled")
    endless = start_endless(here, chat_id="pooled")
    assert there.refuse("run/start", agent="demo", chat_id="pooled").data["active_run_id"] == endless["id"]
    assert there.call("run/latest", chat_id="pooled")["run"]["id"] == endless["id"]
    assert stop(there, endless["id"], reason="from afar")["stop_reason"] == "from afar"
    listed = there.call("run/list", chat_id="pooled")["runs"]
    assert [run["id"] for run in listed] == [endless["id"], run["id"]]


def test_daemons_with_different_histories_share_sessions(place: Place, pair: tuple[Wire, Wire]):
    """Statements that one daemon sends often and the other never go over the same sessions, and none is kept there."""
    here, there = pair
    for number in range(12):
        perform(here, chat_id="written", metadata={"demo": {"delay_ms": 0}})
        there.call("chat/list")
        there.call("run/list", status=["failed"])
        there.call("chat/create", chat_id=f"made-{number}")
    for _ in range(12):  # and the other way round
        perform(there, chat_id="written", metadata={"demo": {"delay_ms": 0}})
        here.call("chat/messages", chat_id="written")
        here.call("run/latest", chat_id="written")
        stop(here, start_endless(here, chat_id="stopped")["id"])
    for _ in range(place.size):
        with psycopg.connect(place.pooled, autocommit=True) as connection:
            assert connection.execute("SELECT name, statement FROM pg_prepared_statements").fetchall() == []
            assert connection.execute("SELECT * FROM pg_listening_channels()").fetchall() == []


def test_many_at_once_share_sessions(place: Place):
    """Starts, tails and stops from many threads through both daemons get their own answers."""

    def work(number: int) -> None:
        with (
            place.daemons[number % 2].connect(60) as wire,
            place.daemons[1 - number % 2].connect(60) as other,
        ):
            for turn in range(3):
                words = f"of {number} in turn {turn}"
                run = start(wire, input=words, chat_id=f"many-{number}", metadata={"demo": {"delay_ms": 1}})
                assert read_text(other.tail(run["id"])[0]) == words
                assert stop(other, start_endless(wire, chat_id=f"many-{number}")["id"])["status"] == "aborted"

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))


def test_a_killed_daemon_is_taken_over(place: Place, short_dir: Path):
    """What a daemon behind a pooler leaves by kill -9 is settled by the others, and its chat is free."""
    killed = Daemon(make_home(short_dir), database=place.pooled, config=FAST).start()
    with killed.connect() as wire:
        left = [start_endless(wire, chat_id="left"), start_shell(wire, "sleep 1000")]
    killed.kill()
    with place.daemons[0].connect() as wire:
        perform(wire, chat_id="left")
        for run in left:
            settled = settle(wire, run["id"])
            assert (settled["status"], settled["error"]["code"]) == ("aborted", "owner_lost")


def test_a_daemon_drains_through_a_pooler(place: Place, short_dir: Path):
    """SIGTERM settles what is left as aborted (shutdown), exit 0."""
    daemon = Daemon(make_home(short_dir), database=place.pooled, config=FAST).start()
    with daemon.connect() as wire:
        run = start_endless(wire)
    assert daemon.stop() == 0, daemon.read_log()
    with place.daemons[0].connect() as wire:
        assert settle(wire, run["id"])["error"]["code"] == "shutdown"


def test_a_pooler_costs_the_hints_and_nothing_else(place: Place, make_daemon: Callable[..., Daemon]):
    """A daemon behind a pooler says once that it hears no hints; those that it gives reach others, who obey at once."""
    for daemon in place.daemons:
        log = daemon.read_log()
        assert len(re.findall("cannot be heard here", log)) == 1
    direct = make_daemon(place.direct, PATIENT).start()
    with direct.connect() as there, place.daemons[0].connect() as here:
        assert stop(here, start_endless(there)["id"])["status"] == "aborted"
        assert stop(there, start_endless(here)["id"])["status"] == "aborted"  # by the heartbeat of the other
