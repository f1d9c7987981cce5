"""Who may do what: decided by the uid that the kernel saw when the other side connected."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.support.daemon import Daemon
from tests.support.history import assert_history
from tests.support.homes import CONFIG, end_cleanly
from tests.support.runs import perform, settle, start_endless, stop
from tests.support.wire import Wire

OTHER = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextmanager
def act_as(uid: int) -> Iterator[None]:
    """Be another user for a moment: what is connected meanwhile belongs to that one."""
    gid = os.getegid()
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)


@contextmanager
def serve(database: str, config: str) -> Iterator[Daemon]:
    """A daemon whose directory every user may pass through."""
    with tempfile.TemporaryDirectory(prefix="olp-", dir="/tmp") as directory:
        Path(directory).chmod(0o711)
        daemon = Daemon(Path(directory), database=database, config=config).start()
        yield daemon
        end_cleanly(daemon)
        assert_history(database, settled=True)


@pytest.fixture(scope="module")
def open_daemon(postgres) -> Iterator[Daemon]:
    """A daemon whose socket every user may open."""
    with serve(postgres.create_database(), f'{CONFIG}\n[server]\nsocket_mode = "666"\n') as daemon:
        yield daemon


@pytest.fixture
def stranger(open_daemon: Daemon) -> Iterator[Wire]:
    """A connection of another user."""
    with act_as(OTHER):
        connection = open_daemon.connect()
    with connection:
        yield connection


@pytest.fixture
def owner(open_daemon: Daemon) -> Iterator[Wire]:
    """A connection of the daemon's own user."""
    with open_daemon.connect() as connection:
        yield connection


@AS_ROOT
def test_the_daemon_knows_a_stranger(stranger: Wire):
    """server/info tells the other user who it is."""
    peer = stranger.call("server/info")["peer"]
    assert (peer["uid"], peer["gid"]) == (OTHER, OTHER)


@AS_ROOT
@pytest.mark.parametrize("params", [
    {"command": ["true"]}, {"agent": "demo", "env": {"A": "b"}}, {"agent": "demo", "cwd": "/"},
    {"agent": "shout", "env": {}}, {"command": ["no-such-program"]},
])  # fmt: skip
def test_a_stranger_sends_no_command(stranger: Wire, params):
    """Another user's command, environment or directory is forbidden, and nothing is stored."""
    error = stranger.refuse("run/start", chat_id="forbidden", **params)
    assert (error.code, error.type, error.data["retryable"]) == (403, "forbidden", False)
    assert stranger.refuse("chat/get", chat_id="forbidden").type == "not_found"


@AS_ROOT
def test_a_stranger_starts_agents(open_daemon: Daemon, stranger: Wire):
    """Another user may start what is configured and what is built in; the row knows who it was, whatever is claimed."""
    assert perform(stranger, input="hello")["status"] == "succeeded"
    run = perform(stranger, agent="shout", input="hello", created_by="root")
    assert stranger.call("run/get", run_id=run["id"])["message"]["content"] == "HELLO"
    assert open_daemon.database is not None
    with psycopg.connect(open_daemon.database) as connection:
        row = connection.execute(
            "SELECT peer_uid, created_by FROM outlived.runs WHERE id = %s", [run["id"]]
        ).fetchone()
    assert row == (OTHER, "root")


@AS_ROOT
def test_a_stranger_may_do_the_rest(stranger: Wire):
    """Another user whom the socket lets in reads, tails, waits and stops."""
    run = start_endless(stranger, chat_id="strange")
    assert stranger.call("chat/messages", chat_id="strange")["messages"][1]["content"] == "first "
    assert stop(stranger, run["id"])["status"] == "aborted"
    assert stranger.tail(run["id"])[1]["reason"] == "settled"


@AS_ROOT
def test_the_stop_names_its_user(open_daemon: Daemon, stranger: Wire, owner: Wire):
    """The log of a stopped run says who stopped it."""
    by = []
    for wire in (stranger, owner):
        run = start_endless(owner)
        stop(wire, run["id"])
        [event] = [event for event in owner.tail(run["id"])[0] if event["type"] == "run.stop_requested"]
        by.append(event["data"]["by"])
    assert by[0] != by[1]
    assert str(OTHER) in by[0]


def test_the_daemons_own_user_sends_commands(owner: Wire):
    """The daemon's own user may send a command, an environment and a directory."""
    run = owner.call("run/start", command=["sh", "-c", 'pwd; echo "$A"'], env={"A": "b"}, cwd="/")["run"]
    settle(owner, run["id"])
    assert owner.call("run/get", run_id=run["id"])["message"]["content"] == "/\nb\n"


@AS_ROOT
def test_a_private_socket_lets_nobody_in(postgres):
    """With the default mode another user cannot connect, even where it can reach the directory."""
    with serve(postgres.create_database(), CONFIG) as daemon:
        assert daemon.socket.stat().st_mode & 0o777 == 0o600
        with act_as(OTHER), pytest.raises(PermissionError):
            daemon.connect()
