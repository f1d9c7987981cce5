"""Our own Postgres: started or adopted, watched, healed and stopped.

1. One daemon per directory, by a lock. A postmaster that outlived its daemon is adopted, not started beside.
2. Nothing is started on the data while any process of an earlier server is left: server.lock says so on the day,
   and Postgres itself ("pre-existing shared memory block") where the lock cannot. Both are waited for.
3. The postmaster runs in its own session: a Ctrl-C in the daemon's terminal is not for it. It is never tied to a thread
   or a parent (PR_SET_PDEATHSIG): Trio spawns from worker threads, which end.
4. It is stopped fast (SIGINT), then at once (SIGQUIT), never by SIGKILL. One that stays is left for the next
   start to adopt.
5. A Postgres that dies is started again, for ever, with growing pauses: only the first start may fail.

Not here: the files (`cluster.py`), commands and settings (`commands.py`), telling processes apart (`postmaster.py`),
being root (`account.py`), finding the programs (`binaries.py`), connections (`postgres.py`).
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NoReturn

import attrs
import psycopg
import trio
from structlog.typing import FilteringBoundLogger

from outlived.store.account import Account, choose_account
from outlived.store.binaries import Binaries, EmbeddedFailed, find_binaries
from outlived.store.cluster import Cluster, owns, quote
from outlived.store.commands import initdb_command, name_server, plain_environment, postgres_command
from outlived.store.postmaster import PidFile, Postmaster

__all__ = ["Embedded", "EmbeddedFailed", "open_embedded"]

# All in seconds. A crash recovery replays at most the default max_wal_size, 1 GB, be the disk ever so slow.
START_SECONDS = 300
# For one found running, and not in its recovery, to answer through its socket or end; else it is replaced.
ANSWER_SECONDS = 10
# For the left-overs of an earlier server to end.
LEFTOVER_SECONDS = 15
# Stopping fast writes a checkpoint; stopping at once only signals.
FAST_STOP_SECONDS = 20
QUICK_STOP_SECONDS = 10
# Between two signals to a server that is to stop.
AGAIN_SECONDS = 1
# For one attempt to connect; libpq knows no shorter time.
CONNECT_SECONDS = 2
# Between two looks at a server that is coming up, and two lines in the log meanwhile.
LOOK_SECONDS = 0.02
STILL_SECONDS = 10
# Between two looks at the size of the log.
LOG_SECONDS = 60
# Between two attempts to start again: the first and the longest pause.
PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 10


class _Leftover(Exception):  # Not a failure yet: it is waited for.
    """Something of an earlier server is in the way; it should pass by itself."""


@attrs.define(eq=False)
class Embedded:
    """The embedded Postgres, from `open_embedded`."""

    # A libpq connection string; the same after Postgres was started again.
    dsn: str = attrs.field(init=False, default="")
    # From the moment its death is noticed until it accepts connections again.
    known_down: bool = attrs.field(init=False, default=True)
    _cluster: Cluster
    _log: FilteringBoundLogger
    _bin_directories: Sequence[Path] | None = None
    _tools: tuple[Binaries, Account] | None = attrs.field(init=False, default=None)
    _socket_directory: Path | None = attrs.field(init=False, default=None)
    _postmaster: Postmaster | None = attrs.field(init=False, default=None)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, for logs."""
        return self._postmaster.pid if self._postmaster is not None else None

    def is_alive(self) -> bool:
        """Whether the postmaster runs, which is not yet that it accepts connections."""
        return self._postmaster is not None and self._postmaster.is_alive()

    async def watch(self) -> NoReturn:
        """Run for ever: start Postgres again whenever it has died, and bound its log meanwhile."""
        while True:
            await self._outlast()
            self.known_down = True
            how = self._postmaster.describe_end() if self._postmaster is not None else ""
            self._log.error(
                "postgres died, starting it again", pid=self.pid, how=how, log=str(self._cluster.log)
            )
            await self._bring_back()

    async def _outlast(self) -> None:
        while self._postmaster is not None and self._postmaster.is_alive():
            with trio.move_on_after(LOG_SECONDS):
                await self._postmaster.wait_gone()
            self._cluster.bound_log()

    async def _bring_back(self) -> None:
        pause = PAUSE_SECONDS
        while True:
            try:
                await self.bring_up()
            except (EmbeddedFailed, OSError) as error:
                # A full disk, for one, ends when somebody makes room.
                self._log.warning("cannot start postgres again", error=str(error), retry_in=pause)
                self._tools = None  # An upgrade may have moved the programs.
            else:
                return
            await trio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    async def bring_up(self) -> None:
        """Adopt the postmaster that runs, or start one; return once it accepts connections.

        Raises EmbeddedFailed, or OSError when the system refuses a file or a process.
        """
        deadline = trio.current_time() + LEFTOVER_SECONDS
        pause = LOOK_SECONDS
        while True:
            try:
                if await self._adopt_or_start():
                    self.known_down = False
                    return
            except _Leftover as leftover:
                if trio.current_time() > deadline:
                    raise EmbeddedFailed(
                        f"cannot start Postgres on {self._cluster.data}: {leftover}"
                    ) from None
                if pause == LOOK_SECONDS:
                    self._log.info("waiting for what is left of an earlier postgres", reason=str(leftover))
                await trio.sleep(pause)
                pause = min(2 * pause, 1)

    async def _adopt_or_start(self) -> bool:
        """False when there was one to adopt and it has ended, so that there may be one to start."""
        lock = self._cluster.take_server_lock()
        try:
            found = Postmaster.find(self._cluster.data)
            if found is not None:
                return await self._adopt(found)
            if lock is not None:
                await self._start(lock)
                return True
            raise _Leftover(
                f"another process still holds {self._cluster.directory / 'server.lock'}: what is left of an earlier "
                "server, or one in another container"
            )
        finally:
            # Those it was handed down to hold it on.
            if lock is not None:
                os.close(lock)

    async def _adopt(self, found: Postmaster) -> bool:
        self._keep(found)
        written = PidFile.read(self._cluster.data)
        coming_up = written is None or written.status in {"", "starting"}
        if await self._accepts(found, START_SECONDS if coming_up else ANSWER_SECONDS):
            self._log.info("adopted the postgres that was running", pid=found.pid)
            return True
        if found.is_alive():
            self._log.warning("the postgres that was running does not answer, stopping it", pid=found.pid)
            await self.stop()
        if found.is_alive():
            raise EmbeddedFailed(
                f"cannot use the database in {self._cluster.data}: process {found.pid} serves it, and neither answers nor stops"
            )
        return False

    async def _start(self, lock: int) -> None:
        binaries, account = await self._choose_tools()
        if not self._cluster.is_made():
            await self._make(binaries, account, lock)
        await trio.to_thread.run_sync(self._cluster.give_to, account)
        if self._socket_directory is None or not owns(account, self._socket_directory):
            self._socket_directory = self._cluster.place_socket(account)
        self._cluster.clear_stale(self._socket_directory)
        log = self._cluster.open_log()
        try:
            since = os.fstat(log).st_size
            process = await trio.lowlevel.open_process(
                postgres_command(binaries, account, self._cluster.data, self._socket_directory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=plain_environment(),
                cwd=self._cluster.directory,
                start_new_session=True,
                pass_fds=[lock],
            )
        finally:
            os.close(log)
        started = Postmaster.own(process)
        self._keep(started)
        self._log.info("starting postgres", pid=started.pid, version=binaries.version, run_as=account.how)
        if await self._accepts(started, START_SECONDS):
            return
        said = self._cluster.quote_log(since)
        if not started.is_alive() and "shared memory block" in said:
            raise _Leftover(said)
        how = started.describe_end() or f"not ready after {START_SECONDS} s"
        await self.stop()
        raise EmbeddedFailed(
            f"cannot start Postgres {binaries.version} on {self._cluster.data}: {how}: {said} (all of it in {self._cluster.log})"
        )

    async def _choose_tools(self) -> tuple[Binaries, Account]:
        if self._tools is None:
            binaries = await trio.to_thread.run_sync(find_binaries, self._cluster.data, self._bin_directories)
            account = await trio.to_thread.run_sync(
                choose_account, self._cluster.directory, binaries.postgres
            )
            self._tools = binaries, account
        return self._tools

    async def _make(self, binaries: Binaries, account: Account, lock: int) -> None:
        self._log.info(
            "creating the database (first start)", directory=str(self._cluster.data), version=binaries.version
        )
        await trio.to_thread.run_sync(self._cluster.make_room, account)
        done = await trio.run_process(
            initdb_command(binaries, account, self._cluster.unfinished),
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            env=plain_environment(),
            cwd=self._cluster.directory,
            start_new_session=True,
            pass_fds=[lock],
        )
        if done.returncode != 0:
            raise EmbeddedFailed(
                f"cannot create the database in {self._cluster.data}: {binaries.initdb} ended with status "
                f"{done.returncode}: {quote(done.stdout)}"
            )
        try:
            self._cluster.finish()
        except OSError as error:
            raise EmbeddedFailed(f"cannot create the database in {self._cluster.data}: {error}") from error

    async def _accepts(self, postmaster: Postmaster, seconds: float) -> bool:
        """Wait until connections are accepted; False when the process ended or the time is over."""
        still = trio.current_time() + STILL_SECONDS
        with trio.move_on_after(seconds):
            while postmaster.is_alive():
                written = PidFile.read(self._cluster.data)
                if written is not None and written.pid == postmaster.pid and written.status == "ready":
                    # The pid file names the socket, of an adopted server too, which may have another place for it.
                    self._socket_directory = Path(written.socket_directory or self._cluster.directory)
                    self.dsn = name_server(self._socket_directory)
                    if await trio.to_thread.run_sync(_can_connect, self.dsn, abandon_on_cancel=True):
                        return True
                if trio.current_time() > still:
                    self._log.info("postgres is still coming up", pid=postmaster.pid)
                    still += STILL_SECONDS
                await trio.sleep(LOOK_SECONDS)
        return False

    async def stop(self) -> None:
        """Stop Postgres within half a minute, whatever is cancelled around this."""
        postmaster = self._postmaster
        if postmaster is None or not postmaster.is_alive():
            return
        for number, seconds in ((signal.SIGINT, FAST_STOP_SECONDS), (signal.SIGQUIT, QUICK_STOP_SECONDS)):
            with trio.move_on_after(seconds, shield=True):
                await _signal_until_gone(postmaster, number)
                self._log.info("stopped postgres", pid=postmaster.pid)
                return
            self._log.warning(
                "postgres does not stop", pid=postmaster.pid, signal=number.name, seconds=seconds
            )
        self._log.error("postgres is left running, the next start adopts it", pid=postmaster.pid)
        self._keep(None)

    def close(self) -> None:
        """Let go of the process and tidy up; a server that could not be stopped goes on."""
        self._keep(None)
        if self._socket_directory is not None:
            self._cluster.remove_socket_directory(self._socket_directory)

    def _keep(self, postmaster: Postmaster | None) -> None:
        if self._postmaster is not None:
            self._postmaster.close()
        self._postmaster = postmaster


@contextlib.asynccontextmanager
async def open_embedded(
    directory: Path, *, log: FilteringBoundLogger, bin_directories: Sequence[Path] | None = None
) -> AsyncIterator[Embedded]:
    """The embedded Postgres of `directory`, made at the first start, accepting connections; stopped on the way out.

    `bin_directories` replaces the places where the server's programs are searched. Let a nursery inside run `watch`.
    Raises EmbeddedFailed, one line that says what to do, when it cannot be had.
    """
    cluster = Cluster.prepare(directory)
    with cluster.hold_daemon_lock():
        server = Embedded(cluster, log, bin_directories)
        try:
            try:
                await server.bring_up()
            except OSError as error:
                raise EmbeddedFailed(f"cannot run Postgres in {cluster.directory}: {error}") from error
            yield server
        finally:
            await server.stop()
            server.close()


async def _signal_until_gone(postmaster: Postmaster, number: signal.Signals) -> None:
    """One signal can be lost: at first the process is not yet the server, but what makes it an ordinary user's."""
    while postmaster.is_alive():
        postmaster.signal(number)
        with trio.move_on_after(AGAIN_SECONDS):
            await postmaster.wait_gone()


def _can_connect(dsn: str) -> bool:
    """Whether the server lets us in, to be asked in a thread. libpq's own ping would hold the GIL while it waits."""
    try:
        psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.OperationalError:
        return False
    return True
