"""A daemon and its service manager: what it says and when, and the socket it inherits."""

import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.locks import open_session
from tests.support.manager import Manager, hand_down, listen_at
from tests.support.runs import perform, settle, start_endless, start_shell
from tests.support.waits import wait_until
from tests.support.wire import Wire

MakeDaemon = Callable[..., Daemon]


@pytest.fixture
def manager(short_dir: Path) -> Iterator[Manager]:
    """A manager that listens."""
    with (
        tempfile.TemporaryDirectory(prefix="m-", dir=short_dir) as place,
        Manager(Path(place, "n")) as manager,
    ):
        yield manager


# ---------------------------------------------------------------- what is said


def test_ready_means_ready(make_daemon: MakeDaemon, manager: Manager):
    """At the moment it says READY it is registered, has settled what a dead daemon left, and answers; it says so itself."""
    dead = make_daemon().start()
    with dead.connect() as wire:
        run = start_endless(wire)
    dead.kill()
    daemon = make_daemon(database=dead.database)
    manager.attach(daemon)
    daemon.start(wait=False)
    manager.wait_word("READY=1")
    with Wire(daemon.socket) as wire:
        assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "aborted"
        info = wire.call("server/info")
    [said] = [(pid, words) for _, pid, words in manager.heard if "READY=1" in words]
    assert said == (info["pid"], ["READY=1", f"MAINPID={info['pid']}", "STATUS=serving, 0 runs active"])
    assert daemon.database is not None
    with psycopg.connect(daemon.database) as connection:
        living = connection.execute("SELECT id::text FROM outlived.owners WHERE dead_at IS NULL").fetchall()
    assert living == [(info["instance_id"],)]


def test_nothing_is_ready_before_the_schema(make_daemon: MakeDaemon, manager: Manager, database: str):
    """While migrations take their time the daemon asks for more of it, again and again, and is not ready."""
    daemon = make_daemon(database=database)
    manager.attach(daemon)
    with open_session(database) as session:
        session.ask("BEGIN")
        session.ask("SELECT pg_advisory_xact_lock(7811894)")
        daemon.start(wait=False)
        wait_until(lambda: manager.list_words().count("EXTEND_TIMEOUT_USEC=30000000") >= 2, 30)
        assert "READY=1" not in manager.list_words()
        session.ask("ROLLBACK")
    manager.wait_word("READY=1")
    daemon.wait_ready()


def test_the_watchdog_needs_no_database(make_daemon: MakeDaemon, manager: Manager):
    """The watchdog is fed while the database stands still: what it proves is that the loop turns."""
    daemon = make_daemon(database=None)
    manager.attach(daemon, watchdog_seconds=0.6)
    daemon.start()
    postmaster = daemon.postmaster.pid
    subprocess.run(["pkill", "-STOP", "-P", str(postmaster)], check=True)
    try:
        manager.forget()
        wait_until(lambda: manager.list_words().count("WATCHDOG=1") >= 6, 20)
        times = [when for when, _, words in manager.heard if "WATCHDOG=1" in words]
        assert max(later - earlier for earlier, later in pairwise(times)) < 2
    finally:
        subprocess.run(["pkill", "-CONT", "-P", str(postmaster)], check=True)
    assert daemon.stop() == 0


def test_a_reload_is_told_with_its_time(make_daemon: MakeDaemon, manager: Manager):
    """A reload begins with RELOADING and the monotonic time, and ends with READY."""
    daemon = make_daemon()
    manager.attach(daemon)
    daemon.start()
    manager.forget()
    began = time.monotonic()
    daemon.signal(signal.SIGHUP)
    manager.wait_word("READY=1")
    reloading = next(words for _, _, words in manager.heard if "RELOADING=1" in words)
    stamped = int(reloading[1].removeprefix("MONOTONIC_USEC=")) / 1e6
    assert began <= stamped <= time.monotonic()


def test_the_end_is_told_at_its_beginning(make_daemon: MakeDaemon, manager: Manager):
    """A stop is told before runs are drained, and as long as that takes more time is asked for."""
    daemon = make_daemon(config=FAST.replace("drain_seconds = 0.2", "drain_seconds = 60"))
    manager.attach(daemon)
    daemon.start()
    with daemon.connect() as wire:
        start_endless(wire)
        manager.forget()
        daemon.signal(signal.SIGTERM)
        manager.wait_word("STOPPING=1")
        manager.wait_word("EXTEND_TIMEOUT_USEC")
        manager.wait_word("STATUS=draining, 1 run active")
    daemon.signal(signal.SIGTERM)
    assert daemon.stop() == 0


def test_the_state_is_told(make_daemon: MakeDaemon, manager: Manager):
    """The status line follows the number of runs."""
    daemon = make_daemon()
    manager.attach(daemon)
    daemon.start()
    with daemon.connect() as wire:
        run = start_endless(wire)
        manager.wait_word("STATUS=serving, 1 run active")
        manager.forget()
        wire.call("run/stop", run_id=run["id"])
        manager.wait_word("STATUS=serving, 0 runs active")


def test_runs_do_not_speak_to_the_manager(make_daemon: MakeDaemon, manager: Manager):
    """Nothing of what the manager said to the daemon is in the environment of a command, or of Postgres."""
    daemon = make_daemon(database=None)
    manager.attach(daemon, watchdog_seconds=30)
    daemon.start()
    postmaster = daemon.postmaster.pid
    assert b"NOTIFY_SOCKET" not in Path(f"/proc/{postmaster}/environ").read_bytes()
    with daemon.connect() as wire:
        run = start_shell(wire, "env")
        settle(wire, run["id"])
        seen = wire.call("run/get", run_id=run["id"])["message"]["content"]
    assert "NOTIFY_SOCKET" not in seen
    assert "WATCHDOG" not in seen
    assert daemon.stop() == 0


# ---------------------------------------------------------------- the socket that is inherited


@pytest.fixture
def inherited(short_dir: Path) -> Iterator[tuple[Path, socket.socket]]:
    """A listening socket that somebody else has made, and its path."""
    with tempfile.TemporaryDirectory(prefix="i-", dir=short_dir) as place:
        path = Path(place, "s")
        with listen_at(path) as sock:
            yield path, sock


def make_heir(make_daemon: MakeDaemon, **sockets: socket.socket) -> Daemon:
    """A daemon that is told of no socket but those it inherits."""
    daemon = make_daemon()
    hand_down(daemon, **sockets)
    daemon.own_socket = False
    return daemon


def test_an_inherited_socket_is_served_and_left(
    make_daemon: MakeDaemon, inherited: tuple[Path, socket.socket]
):
    """Who connects before the start is served after it; the socket keeps its file and mode, and outlives the daemon."""
    path, sock = inherited
    path.chmod(0o640)
    before = path.stat()
    daemon = make_heir(make_daemon, outlived=sock)
    with Wire(path) as early:
        asked = early.send("server/info")
        daemon.start(wait=False)
        assert early.wait_reply(asked)["state"] == "serving"
    assert daemon.stop() == 0, daemon.read_log()
    after = path.stat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert not path.with_name("s.lock").exists()
    with Wire(path) as late:  # it waits for the next heir
        asked = late.send("server/info")
        daemon.start(wait=False)
        assert late.wait_reply(asked)["state"] == "serving"
        assert perform(late)["status"] == "succeeded"


def test_the_right_one_of_several(
    make_daemon: MakeDaemon, inherited: tuple[Path, socket.socket], short_dir: Path
):
    """Among several descriptors the one with our name is taken; without it, the only one that could be."""
    path, sock = inherited
    with (
        tempfile.TemporaryDirectory(prefix="o-", dir=short_dir) as place,
        listen_at(Path(place, "o")) as other,
    ):
        daemon = make_heir(make_daemon, web=other, outlived=sock)
        with Wire(path) as wire:
            asked = wire.send("server/info")
            daemon.start(wait=False)
            assert wire.wait_reply(asked)["state"] == "serving"
        assert daemon.stop() == 0
        torn = make_heir(make_daemon, web=other, api=sock).start(wait=False)
        assert torn.process is not None
        assert torn.process.wait(30) == 1
        assert (
            "cannot choose among 2 inherited sockets (web, api): name one of them outlived" in torn.read_log()
        )


def test_a_socket_that_is_named_comes_first(make_daemon: MakeDaemon, inherited: tuple[Path, socket.socket]):
    """A daemon that is told where to listen listens there; if that is what it inherits, it takes that."""
    path, sock = inherited
    daemon = make_heir(make_daemon, outlived=sock)
    daemon.own_socket = True
    daemon.start()
    with daemon.connect() as wire:
        assert wire.call("server/info")["state"] == "serving"
    assert daemon.stop() == 0
    daemon.socket = path
    with Wire(path) as wire:
        asked = wire.send("server/info")
        daemon.start(wait=False)
        assert wire.wait_reply(asked)["state"] == "serving"
    assert daemon.stop() == 0
    assert path.exists()


def test_descriptors_are_not_handed_further(make_daemon: MakeDaemon, inherited: tuple[Path, socket.socket]):
    """A command has its three descriptors, and not the daemon's socket."""
    path, sock = inherited
    daemon = make_heir(make_daemon, outlived=sock)
    with Wire(path) as wire:
        daemon.start(wait=False)
        run = start_shell(wire, "ls /proc/$$/fd; env")
        settle(wire, run["id"])
        seen = wire.call("run/get", run_id=run["id"])["message"]["content"].split()
    assert [word for word in seen if word.isdecimal()] == ["0", "1", "2"]
    assert not [word for word in seen if word.startswith("LISTEN_")]


def test_a_dsn_from_a_credential(make_daemon: MakeDaemon, database: str, tmp_path: Path):
    """A daemon that is told of no database uses the one that its credential names."""
    (tmp_path / "database").write_text(f"{database}\n")
    daemon = make_daemon(database=None)
    daemon.environment["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    daemon.start()
    with daemon.connect() as wire:
        run = perform(wire)
    assert not (daemon.state / "postgres").exists()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT id::text FROM outlived.runs").fetchall() == [(run["id"],)]


def test_places_from_the_unit(make_daemon: MakeDaemon, database: str, tmp_path: Path):
    """Where nothing else is said, state and settings lie in the unit's directories."""
    config, state = tmp_path / "etc", tmp_path / "lib"
    config.mkdir()
    (config / "outlived.toml").write_text(f"{FAST}[server]\nmax_connections = 77\n")
    command = [
        sys.executable,
        "-m",
        "outlived",
        "serve",
        "--socket",
        str(tmp_path / "s"),
        "--database",
        database,
    ]
    daemon = make_daemon(database=database)
    daemon.socket = tmp_path / "s"
    daemon.environment |= {
        "CONFIGURATION_DIRECTORY": str(config),
        "STATE_DIRECTORY": f"{state}:{tmp_path}/other",
    }
    daemon.full_command = command
    daemon.start()
    with daemon.connect() as wire:
        assert wire.call("server/info")["limits"]["connections"] == 77
    assert (state / "home_id").exists()
