"""Where benchmarks happen: a temporary directory with a Postgres and, on demand, daemons in it.

1. Postgres is the daemon's embedded one, settings and all (fsync and synchronous_commit on), but for the number of
   connections: pgbench is tried with 64.
2. A daemon is `outlived serve --database DSN` in a process of its own, on a new database unless one is named.
3. Everything that was started is ended on the way out, whatever happens.

Not here: what is measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, LiteralString, TypeVar, cast

import attrs
import psycopg
import structlog
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.agents import AGENTS
from bench.figures import Broken
from bench.load import Caller
from bench.processes import Meter
from outlived.store import commands
from outlived.store.binaries import find_binaries
from outlived.store.embedded import open_embedded
from outlived.store.migrate import migrate
from outlived.store.postgres import Link

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
READY_SECONDS = 60
STOP_SECONDS = 60
QUICK_PART = 0.1


@attrs.define(eq=False)
class Daemon:
    """A running daemon. ``database``: its DSN."""

    socket: Path
    database: str
    log: Path
    process: trio.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def call(self, method: str, **params: Any) -> Any:
        """The result of one request, on a connection of its own. Raises Broken when it is an error."""
        async with Caller.connect(self.socket) as caller:
            return await caller.call(method, **params)

    async def wait_ready(self) -> None:
        """Return once it answers."""
        with trio.fail_after(READY_SECONDS):
            while True:
                if self.process.returncode is not None:
                    raise Broken(f"the daemon did not start: {self.log.read_text()[-2000:]}")
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    await self.call("server/info")
                    return
                await trio.sleep(0.01)

    async def stop(self) -> None:
        """SIGTERM, and wait. Raises Broken if it ended badly."""
        if self.process.returncode is None:
            self.process.terminate()
        with trio.move_on_after(STOP_SECONDS, shield=True) as patience:
            await self.process.wait()
        if patience.cancelled_caught:
            self.process.kill()
        if self.process.returncode != 0:
            raise Broken(f"the daemon ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")


@attrs.define(eq=False)
class Stage:
    """What a benchmark is given."""

    directory: Path
    dsn: str
    postgres: int
    """The postmaster's pid."""
    programs: Path
    """The directory of psql and pgbench."""
    quick: bool = False
    say: Callable[[str], None] = print
    _kept: dict[str, Any] = attrs.Factory(dict)
    _numbers: count[int] = attrs.Factory(lambda: count(1))

    def seconds(self, usual: float) -> float:
        """How long to measure."""
        return usual * QUICK_PART if self.quick else usual

    def size(self, usual: int) -> int:
        """How many to measure with."""
        return max(1, round(usual * QUICK_PART)) if self.quick else usual

    async def once(self, name: str, function: Callable[[], Awaitable[T]]) -> T:
        """The function's result, kept for this repetition: a limit that several figures stand beside."""
        if name not in self._kept:
            self._kept[name] = await function()
        return cast("T", self._kept[name])

    def forget(self) -> None:
        """Begin a new repetition."""
        self._kept.clear()

    # ---- Postgres

    async def create_database(self, template: str = "template1") -> str:
        """A new database; its DSN. ``template``: the name of one to copy, which nobody may be connected to."""
        name = f"b{next(self._numbers)}"
        await self.ask(self.dsn, f"CREATE DATABASE {name} TEMPLATE {template}")
        return make_conninfo(self.dsn, dbname=name)

    async def create_schema(self) -> str:
        """A new database with the daemon's own tables, and no daemon; its DSN."""
        dsn = await self.create_database()
        link = Link(dsn, "bench")
        try:
            await migrate(link)
        finally:
            link.close()
        return dsn

    async def drop_database(self, dsn: str) -> None:
        """Make room on the disk."""
        await self.ask(self.dsn, f"DROP DATABASE {conninfo_to_dict(dsn)['dbname']} WITH (FORCE)")

    async def ask(self, dsn: str, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """The rows of one statement, on a connection of its own, in a thread."""

        def ask() -> list[tuple[Any, ...]]:
            with psycopg.connect(dsn, autocommit=True) as connection:
                cursor = connection.execute(cast("LiteralString", sql), params)
                return cursor.fetchall() if cursor.description else []

        return await trio.to_thread.run_sync(ask)

    async def run_program(self, name: str, *arguments: str, dsn: str, **options: Any) -> str:
        """The output of psql, pgbench, … on a database. Raises Broken when it fails."""
        place = {f"PG{key.upper()}": value for key, value in _place(dsn).items()}
        done = await trio.run_process(
            [str(self.programs / name), *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **place},
            **options,
        )
        if done.returncode != 0:
            raise Broken(
                f"{name} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-1000:]}"
            )
        return done.stdout.decode()

    # ---- processes

    @contextlib.asynccontextmanager
    async def open_daemon(
        self, *, database: str | None = None, config: str = "", ready: bool = True
    ) -> AsyncIterator[Daemon]:
        """A daemon that answers, on a new database unless one is named; ``config``: further TOML."""
        directory = Path(tempfile.mkdtemp(prefix="d-", dir=self.directory))
        settings = directory / "outlived.toml"
        settings.write_text(AGENTS + config)
        database = database or await self.create_database()
        places = ["--config", settings, "--socket", directory / "s", "--state-dir", directory / "state"]
        log = directory / "log"
        with log.open("ab") as stderr:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "outlived", "serve", *map(str, places), "--database", database],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=environment(),
                cwd=directory,
            )
        daemon = Daemon(directory / "s", database, log, process)
        try:
            if ready:
                await daemon.wait_ready()
            yield daemon
        except BaseException:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            raise
        await daemon.stop()

    @contextlib.asynccontextmanager
    async def open_program(self, command: Sequence[str], **options: Any) -> AsyncIterator[trio.Process]:
        """Another process, which can import what this one can; ended on the way out.

        "python" stands for this Python. Its stdout is a pipe; a server prints a line when it is ready.
        """
        command = [sys.executable if command[0] == "python" else command[0], *command[1:]]
        process = await trio.lowlevel.open_process(
            command,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "env": environment(), **options},
        )
        try:
            yield process
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()

    def meter(self, daemon: Daemon | None = None, **others: int) -> Meter:
        """A meter of Postgres, of a daemon if there is one, and of other processes by name and pid."""
        daemons = {"daemon": daemon.pid} if daemon is not None else {}
        return Meter({**daemons, "postgres": self.postgres, **others})


@contextlib.asynccontextmanager
async def open_stage(
    *, quick: bool, say: Callable[[str], None], below: Path | None = None
) -> AsyncIterator[Stage]:
    """A stage in a temporary directory, below ``below`` if that is given; nothing is left of it."""
    commands.SETTINGS = (*commands.SETTINGS, ("max_connections", "100"))
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory(prefix="ob-", dir=below, ignore_cleanup_errors=True) as name:
        directory = Path(name)
        # Where root runs Postgres as another user, that one passes through here.
        await trio.Path(directory).chmod(0o711)
        async with open_embedded(directory / "pg", log=structlog.get_logger()) as server:
            assert server.pid is not None
            programs = find_binaries(directory / "pg" / "data").directory
            try:
                yield Stage(directory, server.dsn, server.pid, programs, quick, say)
            finally:
                os.kill(server.pid, signal.SIGQUIT)  # at once: nobody needs the checkpoint


def environment() -> dict[str, str]:
    """For a process that is to import what this one can."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTLIVE")}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


def _place(dsn: str) -> dict[str, Any]:
    """A DSN in the words of libpq's environment."""
    names = {"dbname": "database"}
    return {names.get(key, key): str(value) for key, value in conninfo_to_dict(dsn).items()}
