"""Our own Postgres, the real one: made, adopted, killed, healed, refused and stopped."""

# ruff: noqa: ASYNC220, ASYNC221, ASYNC222, ASYNC240  # A test may look at a file or wait for its own process.

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
import structlog
import trio

from outlived.store import embedded
from outlived.store.account import choose_account
from outlived.store.binaries import EmbeddedFailed, find_binaries, wheel_directories
from outlived.store.cluster import Cluster
from outlived.store.postmaster import PidFile, Postmaster
from tests.support.embedded import (
    ask,
    environment,
    processes_of,
    start_daemon,
    wait_ended,
    wait_opened,
    wait_until,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

# What Postgres refuses to start with.
BROKEN = "shared_buffers = apples\n"


@pytest.fixture
def notes():
    """What the server's actor logged, in order; `log` writes to it."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def log(notes):
    return structlog.get_logger("test")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A directory with a database in it, made once: copying is quicker than initdb."""
    directory = tmp_path_factory.mktemp("made") / "postgres"

    async def make():
        with structlog.testing.capture_logs():
            async with embedded.open_embedded(directory, log=structlog.get_logger("test")) as server:
                await ask(server.dsn, "SELECT 1")

    trio.run(make)
    return directory


@pytest.fixture
def directory(made, tmp_path):
    """A directory of a test's own with a database in it."""
    return shutil.copytree(made, tmp_path / "pg", symlinks=True)


@pytest.fixture(autouse=True)
def no_left_overs(tmp_path):
    """Whatever a failed test left running is stopped."""
    yield
    for pid in processes_of(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGQUIT)


@contextlib.asynccontextmanager
async def watching(server):
    """The server with its actor running."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.watch)
        yield
        nursery.cancel_scope.cancel()


async def wait_healed(server, old):
    """Wait until the server was seen to be down and accepts connections again, as another process."""
    await wait_until(lambda: server.known_down or server.pid != old)
    await wait_until(lambda: not server.known_down)
    assert server.pid != old


def events(notes):
    return [note["event"] for note in notes]


# ------------------------------------------------------------------ starting and stopping


async def test_the_first_start_makes_a_database_that_answers(tmp_path, log, notes):
    """From nothing: a safe, private, UTF-8 database that answers, in a session of its own."""
    directory = tmp_path / "state" / "postgres"
    async with embedded.open_embedded(directory, log=log) as server:
        assert events(notes) == ["creating the database (first start)", "starting postgres"]
        assert await ask(server.dsn, "SELECT 1") == (1,)
        for setting, value in {
            "data_checksums": "on",
            "fsync": "on",
            "full_page_writes": "on",
            "lc_messages": "C.UTF-8",
            "listen_addresses": "",
            "server_encoding": "UTF8",
            "synchronous_commit": "on",
            "TimeZone": "UTC",
        }.items():
            assert await ask(server.dsn, f"SELECT current_setting('{setting}')") == (value,), setting
        collation = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
        assert await ask(server.dsn, collation) == ("C.UTF-8",)
        assert (server.is_alive(), server.known_down) == (True, False)
        assert os.getsid(server.pid) == server.pid != os.getsid(0)
        for private in (directory, directory / "data"):
            assert stat.S_IMODE(private.stat().st_mode) in {0o700, 0o711}
    assert not server.is_alive()


async def test_rows_survive_a_clean_restart(directory, log):
    """What one opening wrote, the next one reads."""
    async with embedded.open_embedded(directory, log=log) as server:
        await ask(server.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with embedded.open_embedded(directory, log=log) as server:
        assert await ask(server.dsn, "SELECT answer FROM kept") == (42,)


async def test_a_clean_exit_leaves_nothing_behind(directory, log):
    """No process, no socket, no pid file and no lock are left, though a client never hung up."""
    async with embedded.open_embedded(directory, log=log) as server:
        client = await trio.to_thread.run_sync(psycopg.connect, server.dsn)
        assert processes_of(directory)
    client.close()
    assert not processes_of(directory)
    assert not (directory / "data" / "postmaster.pid").exists()
    assert not list(directory.glob(".s.PGSQL*"))
    cluster = Cluster.prepare(directory)
    lock = cluster.take_server_lock()
    assert lock is not None
    os.close(lock)
    with cluster.hold_daemon_lock():
        pass


async def test_two_daemons_on_one_directory(directory, log):
    """The second is refused at once, and told which process is the first."""
    async with embedded.open_embedded(directory, log=log) as server:
        with pytest.raises(EmbeddedFailed, match=rf"another daemon uses it \(process {os.getpid()} holds"):
            async with embedded.open_embedded(directory, log=log):
                pytest.fail("opened twice")
        assert await ask(server.dsn, "SELECT 1") == (1,)


async def test_a_cancelled_first_start_leaves_no_process(tmp_path):
    """Cancelled while initdb or the server is coming up, nothing is left running."""
    for moment in ("creating the database (first start)", "starting postgres"):
        with trio.CancelScope() as scope:

            def cancel_at(_logger, _method, entry, moment=moment, scope=scope):
                if entry["event"] == moment:
                    scope.cancel()
                raise structlog.DropEvent

            log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[cancel_at])
            async with embedded.open_embedded(tmp_path / "pg", log=log):
                pytest.fail("opened though cancelled")
        await wait_until(lambda: not processes_of(tmp_path))


async def test_a_server_that_ignores_the_fast_stop_is_stopped_at_once(directory, log, notes, monkeypatch):
    """SIGQUIT follows when SIGINT did not help in time."""
    monkeypatch.setattr(embedded, "FAST_STOP_SECONDS", 0)
    async with embedded.open_embedded(directory, log=log) as server:
        pass
    assert not server.is_alive()
    assert "postgres does not stop" in events(notes)
    assert not processes_of(directory)


# ------------------------------------------------------------------ adopting


async def test_a_postmaster_outlives_its_daemon_and_is_adopted(directory, log, notes):
    """After kill -9 of the daemon the same server, with what it holds, serves the next one."""
    with start_daemon(directory) as daemon:
        first = await wait_opened(daemon)
        client = await trio.to_thread.run_sync(psycopg.connect, first["dsn"])
        daemon.kill()
        await wait_ended(daemon)
    async with embedded.open_embedded(directory, log=log) as server:
        assert events(notes) == ["adopted the postgres that was running"]
        assert (server.pid, server.dsn) == (first["pid"], first["dsn"])
        assert client.execute("SELECT 1").fetchone() == (1,)
        assert await ask(server.dsn, "SELECT 1") == (1,)
    assert not processes_of(directory)
    client.close()


async def test_a_server_that_is_stopping_is_waited_for(directory, log, notes, monkeypatch):
    """A server on its way out, held up by a client, is stopped for good; a new one is started."""
    monkeypatch.setattr(embedded, "ANSWER_SECONDS", 0.2)
    with start_daemon(directory) as daemon:
        first = await wait_opened(daemon)
        client = await trio.to_thread.run_sync(psycopg.connect, first["dsn"])
        daemon.kill()
        await wait_ended(daemon)
    os.kill(first["pid"], signal.SIGTERM)
    await wait_until(lambda: PidFile.read(directory / "data").status == "stopping")
    async with embedded.open_embedded(directory, log=log) as server:
        assert server.pid != first["pid"]
        assert await ask(server.dsn, "SELECT 1") == (1,)
    client.close()


async def test_a_server_out_of_reach_is_replaced(directory, log, notes, monkeypatch):
    """An orphan whose socket is gone is stopped, and another one started."""
    monkeypatch.setattr(embedded, "ANSWER_SECONDS", 0.2)
    with start_daemon(directory) as daemon:
        first = await wait_opened(daemon)
        daemon.kill()
        await wait_ended(daemon)
    Path(psycopg.conninfo.conninfo_to_dict(first["dsn"])["host"], ".s.PGSQL.5432").unlink()
    async with embedded.open_embedded(directory, log=log) as server:
        assert server.pid != first["pid"]
        assert await ask(server.dsn, "SELECT 1") == (1,)
    assert "the postgres that was running does not answer, stopping it" in events(notes)


async def test_a_server_that_hangs_is_an_error_not_a_second_server(directory, log, monkeypatch):
    """An orphan that neither answers nor stops is named, and no other is started on its data."""
    for seconds in ("ANSWER_SECONDS", "FAST_STOP_SECONDS", "QUICK_STOP_SECONDS"):
        monkeypatch.setattr(embedded, seconds, 0.1)
    with start_daemon(directory) as daemon:
        first = await wait_opened(daemon)
        daemon.kill()
        await wait_ended(daemon)
    os.kill(first["pid"], signal.SIGSTOP)
    with pytest.raises(
        EmbeddedFailed, match=f"process {first['pid']} serves it, and neither answers nor stops"
    ):
        async with embedded.open_embedded(directory, log=log):
            pytest.fail("opened though it hangs")
    os.kill(first["pid"], signal.SIGCONT)
    await wait_until(lambda: not processes_of(directory))


@pytest.mark.parametrize("waited_for_by", ["pidfd", "looking"])
async def test_an_adopted_server_heals_too(directory, log, monkeypatch, waited_for_by):
    """The death of a server that is nobody's child is noticed, with pidfds and without."""
    if waited_for_by == "looking":
        monkeypatch.setattr("outlived.store.postmaster._open_pidfd", lambda _: None)
        monkeypatch.setattr("outlived.store.postmaster.LOOK_SECONDS", 0.01)
    with start_daemon(directory) as daemon:
        first = await wait_opened(daemon)
        daemon.kill()
        await wait_ended(daemon)
    async with embedded.open_embedded(directory, log=log) as server, watching(server):
        os.kill(first["pid"], signal.SIGKILL)
        await wait_healed(server, first["pid"])
        assert (await ask(server.dsn, "SELECT 1"), server.dsn) == ((1,), first["dsn"])


@pytest.mark.parametrize("stranger", ["another program", "this very process", "another postgres", "a zombie"])
async def test_a_stale_pid_file_harms_no_stranger(directory, log, tmp_path, stranger):
    """A pid that means somebody else by now is neither adopted nor signalled, and stops no start."""
    async with contextlib.AsyncExitStack() as stack:
        if stranger in {"another program", "a zombie"}:
            process = stack.enter_context(subprocess.Popen(["sleep", "1000"]))
            stack.callback(process.kill)
            pid = process.pid
            if stranger == "a zombie":
                process.kill()
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        elif stranger == "another postgres":
            other = tmp_path / "other"
            shutil.copytree(directory, other)
            pid = (await stack.enter_async_context(embedded.open_embedded(other, log=log))).pid
        else:
            pid = os.getpid()
        lines = [str(pid), str(directory / "data"), "1", "5432", str(directory), "", "1 1", "ready   "]
        for name in ("data/postmaster.pid", ".s.PGSQL.5432.lock"):
            (directory / name).write_text("\n".join(lines) + "\n")
        async with embedded.open_embedded(directory, log=log) as server:
            assert server.pid != pid
            assert await ask(server.dsn, "SELECT 1") == (1,)
        os.kill(pid, 0)


# ------------------------------------------------------------------ dying and healing


async def test_a_killed_postmaster_heals(directory, log, notes):
    """After kill -9 of the postmaster `watch` starts another on the same socket, and acknowledged rows are there."""
    async with embedded.open_embedded(directory, log=log) as server, watching(server):
        dsn, old = server.dsn, server.pid
        await ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(old, signal.SIGKILL)
        await wait_until(lambda: server.known_down)
        await wait_healed(server, old)
        assert (await ask(dsn, "SELECT answer FROM kept"), server.dsn) == ((42,), dsn)
    died = next(note for note in notes if note["event"].startswith("postgres died"))
    assert (died["pid"], died["how"]) == (old, "signal SIGKILL")


@pytest.mark.parametrize("told_by", ["server.lock", "Postgres itself"])
async def test_left_over_processes_are_waited_for(directory, log, notes, told_by):
    """While a child of the killed postmaster is still attached, none is started; afterwards it heals by itself."""
    async with embedded.open_embedded(directory, log=log) as server, watching(server):
        client = await trio.to_thread.run_sync(psycopg.connect, server.dsn)
        if told_by == "Postgres itself":
            # A lock file that somebody removed locks nothing: the next one is another file.
            (directory / "server.lock").unlink()
        old, left_over = server.pid, client.info.backend_pid
        os.kill(left_over, signal.SIGSTOP)
        os.kill(old, signal.SIGKILL)
        waiting = "waiting for what is left of an earlier postgres"
        await wait_until(lambda: waiting in events(notes))
        assert server.known_down
        reason = next(note["reason"] for note in notes if note["event"] == waiting)
        assert ("server.lock" if told_by == "server.lock" else "shared memory block") in reason
        os.kill(left_over, signal.SIGCONT)
        await wait_healed(server, old)
        assert await ask(server.dsn, "SELECT 1") == (1,)
        client.close()


async def test_watch_does_not_give_up(directory, log, notes):
    """A Postgres that cannot be started again is tried again until it can."""
    configuration = directory / "data" / "postgresql.auto.conf"
    async with embedded.open_embedded(directory, log=log) as server, watching(server):
        old = server.pid
        configuration.write_text(BROKEN)
        os.kill(old, signal.SIGKILL)
        await wait_until(lambda: events(notes).count("cannot start postgres again") >= 2)
        assert server.known_down
        configuration.write_text("")
        await wait_healed(server, old)


# ------------------------------------------------------------------ refusing


async def test_a_start_that_fails_quotes_the_log(directory, log):
    """The error is one line with what Postgres said last, and nothing is left running."""
    (directory / "data" / "postgresql.auto.conf").write_text(BROKEN)
    with pytest.raises(
        EmbeddedFailed, match=r"cannot start Postgres .* exit status 1: .*shared_buffers"
    ) as caught:
        async with embedded.open_embedded(directory, log=log):
            pytest.fail("opened though it cannot start")
    assert "\n" not in str(caught.value)
    assert not processes_of(directory)


async def test_another_major_version_is_refused(directory, log):
    """A database of a version that is not here is left alone, and the message says what to do."""
    (directory / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(
        EmbeddedFailed, match=rf"cannot open the database in {directory}/data: Postgres 9 made it"
    ):
        async with embedded.open_embedded(directory, log=log):
            pytest.fail("opened though of another version")


@pytest.mark.parametrize("obstacle", ["a folder with things in it", "a file"])
async def test_what_is_no_database_is_not_touched(tmp_path, log, obstacle):
    """Something else in the database's place is neither used nor removed."""
    data = tmp_path / "pg" / "data"
    data.parent.mkdir()
    if obstacle == "a file":
        data.write_text("precious")
    else:
        data.mkdir()
        (data / "precious").write_text("precious")
    with pytest.raises(EmbeddedFailed, match="it is not empty and holds no whole database: move it away"):
        async with embedded.open_embedded(data.parent, log=log):
            pytest.fail("opened something else")
    assert "precious" in (data if obstacle == "a file" else data / "precious").read_text()


@pytest.mark.parametrize("place", ["a file", "below a file", "two\nlines"])
async def test_an_unusable_directory_is_an_error_of_one_line(tmp_path, log, place):
    """A place where no directory can be is named in the message."""
    (tmp_path / "a file").write_text("")
    where = tmp_path / ("a file/pg" if place == "below a file" else place)
    with pytest.raises(EmbeddedFailed, match="cannot ") as caught:
        async with embedded.open_embedded(where, log=log):
            pytest.fail("opened a file")
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ half-made, long, big


async def test_a_broken_off_initdb_is_done_again(tmp_path, log):
    """A daemon killed during its first start leaves no half a database to the next one."""
    directory = tmp_path / "pg"
    with start_daemon(directory) as daemon:
        await wait_until((directory / "data.new" / "global").exists)
        daemon.kill()
        await wait_ended(daemon)
    assert not (directory / "data").exists()
    async with embedded.open_embedded(directory, log=log) as server:
        assert await ask(server.dsn, "SELECT 1") == (1,)
    assert not (directory / "data.new").exists()


@pytest.mark.parametrize("name", ["long" * 40, "with, a comma 'and' \"quotes\""])
async def test_awkward_names_get_a_socket_elsewhere(made, tmp_path, log, name):
    """Where the socket's address would not fit, it lies in a private short place, is adopted there, and goes at the end."""
    directory = tmp_path / name
    shutil.copytree(made, directory)
    with start_daemon(directory) as daemon:
        first = await wait_opened(daemon)
        daemon.kill()
        await wait_ended(daemon)
    place = Path(psycopg.conninfo.conninfo_to_dict(first["dsn"])["host"])
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not place.is_relative_to(directory)
    async with embedded.open_embedded(directory, log=log) as server:
        assert (server.pid, server.dsn) == (first["pid"], first["dsn"])
        assert await ask(server.dsn, "SELECT 1") == (1,)
    assert not place.exists()


async def test_the_log_is_bounded(directory, log, monkeypatch):
    """A big log is set aside at the start, and emptied under a server that goes on writing."""
    path = directory / "postgres.log"
    monkeypatch.setattr("outlived.store.cluster.LOG_SET_ASIDE", 1000)
    monkeypatch.setattr("outlived.store.cluster.LOG_LIMIT", 2000)
    monkeypatch.setattr(embedded, "LOG_SECONDS", 0.01)
    path.write_text("old" * 1000)
    async with embedded.open_embedded(directory, log=log) as server, watching(server):
        assert (directory / "postgres.log.1").stat().st_size == 3000
        with path.open("a") as file:
            file.write("new" * 1000)
        await wait_until(lambda: path.stat().st_size < 2000)
    assert "database system is shut down" in path.read_text()
    assert path.stat().st_size < 3000


async def test_a_refused_statement_stays_out_of_the_log(directory, log):
    """What clients get wrong, and their text, is not written to the server's log."""
    async with embedded.open_embedded(directory, log=log) as server:
        with pytest.raises(psycopg.Error):
            await ask(server.dsn, "SELECT 'a secret' FROM nowhere")
    assert "secret" not in (directory / "postgres.log").read_text()


# ------------------------------------------------------------------ whose it is


async def test_the_wheel_works(tmp_path, log):
    """The programs of the [daemon] extra do as well as the system's."""
    places = list(wheel_directories())
    if not places:
        pytest.skip("the wheel with the server's programs is not installed")
    async with (
        embedded.open_embedded(tmp_path / "pg", log=log, bin_directories=places) as server,
        watching(server),
    ):
        old = server.pid
        os.kill(old, signal.SIGKILL)
        await wait_until(lambda: server.known_down)
        await wait_healed(server, old)
        wheel = find_binaries(tmp_path / "pg" / "data", places)
        assert await ask(server.dsn, "SELECT current_setting('server_version')") == (wheel.version,)


@as_root
async def test_root_runs_it_in_a_user_namespace(directory, log):
    """For root the server has another name inside, and everything belongs to root outside."""
    account = choose_account(directory, find_binaries(directory / "data").postgres)
    if account.apart:
        pytest.skip("user namespaces are refused here")
    async with embedded.open_embedded(directory, log=log) as server:
        inside, outside, count = Path(f"/proc/{server.pid}/uid_map").read_text().split()
        assert (inside != "0", outside, count) == (True, "0", "1")
        assert (directory / "data" / "postmaster.pid").stat().st_uid == 0


# A root without user namespaces, as in a container: a namespace with all users in it and no more namespaces below.
CONTAINER = """
import ctypes, os, sys
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(3, b"entered")
os.read(4, 1)
open("/proc/sys/user/max_user_namespaces", "w").write("0")
os.setgid(0), os.setuid(0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextlib.contextmanager
def start_contained_daemon(directory, *before):
    """A daemon of a root that may make no user namespace."""
    entered, say_entered = os.pipe()
    mapped, say_mapped = os.pipe()
    command = [
        sys.executable,
        "-c",
        CONTAINER.replace("(3,", f"({say_entered},").replace("(4,", f"({mapped},"),
        *before,
    ]
    with start_daemon(directory, before=command, pass_fds=[say_entered, mapped]) as daemon:
        for mine in (say_entered, mapped):
            os.close(mine)
        if os.read(entered, 7) != b"entered":
            pytest.skip("user namespaces are refused here, so that the other tests are such a test")
        for kind in ("uid", "gid"):
            Path(f"/proc/{daemon.pid}/{kind}_map").write_text("0 0 65536")
        os.write(say_mapped, b".")
        for mine in (entered, say_mapped):
            os.close(mine)
        yield daemon


@as_root
async def test_root_without_namespaces_becomes_somebody_else(made, log):
    """Where user namespaces are refused the server gets a user and the data, below a home closed to that user."""
    with tempfile.TemporaryDirectory() as closed:
        directory = Path(closed, "pg")
        shutil.copytree(made, directory)
        assert stat.S_IMODE(Path(closed).stat().st_mode) == 0o700
        with start_contained_daemon(directory) as daemon:
            opened = await wait_opened(daemon)
            assert await ask(opened["dsn"], "SELECT 1") == (1,)
            owner = (directory / "data").stat().st_uid
            assert owner != 0
            assert Path(f"/proc/{opened['pid']}").stat().st_uid == owner
            assert Postmaster.find(directory / "data").pid == opened["pid"]
            assert await wait_ended(daemon) == 0
        assert not processes_of(directory)
        # With namespaces allowed again the data goes back to root.
        async with embedded.open_embedded(directory, log=log) as server:
            assert await ask(server.dsn, "SELECT 1") == (1,)


@as_root
async def test_root_without_any_way_out_is_told(made):
    """With neither namespaces nor a user who reaches the data, the message says what can be done."""
    with tempfile.TemporaryDirectory() as closed:
        directory = Path(closed, "pg")
        shutil.copytree(made, directory)
        walking = "-dac_override,-dac_read_search"
        with start_contained_daemon(directory, "/usr/bin/setpriv", "--bounding-set", walking) as daemon:
            failed = (await wait_opened(daemon))["failed"]
    assert failed.startswith(
        "cannot run Postgres for root, which it refuses to be: a user namespace is not to be had"
    )
    assert "start outlived as an ordinary user" in failed


@as_root
async def test_an_ordinary_user_runs_it_as_itself(tmp_path_factory):
    """Somebody who is not root makes, uses and stops a database with no help."""
    home = Path(tempfile.mkdtemp(prefix="outlive-test-"))
    try:
        ours = Path(embedded.__file__).parents[2]
        for package in (ours / "outlived", ours.parent / "protocol" / "outlive"):
            if package.exists():
                shutil.copytree(package, home / "code" / package.name)
        shutil.copytree(Path(__file__).parents[1] / "support", home / "support")
        for path in (home, *home.rglob("*")):
            os.chown(path, 65534, 65534)
        options = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": home}
        env = {**environment(home / "code"), "HOME": str(home)}
        try:
            subprocess.run(
                [sys.executable, "-c", "import psycopg, structlog, trio"], env=env, check=True, **options
            )
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("an ordinary user cannot read this Python")
        with start_daemon(home / "pg", env=env, **options) as daemon:
            opened = await wait_opened(daemon)
            assert "failed" not in opened
            assert await ask(opened["dsn"], "SELECT 1") == (1,)
            assert Path(f"/proc/{opened['pid']}").stat().st_uid == 65534
            assert await wait_ended(daemon) == 0
        assert not processes_of(home)
    finally:
        shutil.rmtree(home)
