"""One real Postgres for a test session, a database for each test that asks for one.

Run as a module it is the server's owner: it starts the embedded Postgres in a directory, prints its DSN, and stops
it when its stdin ends, however the test session ended.
"""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg

from outlived.store.postmaster import PidFile
from tests.support.waits import wait_until


class Postgres:
    """A running server. Databases are numbered and never reused."""

    def __init__(self, directory: Path) -> None:
        self._data = directory / "data"
        environment = {**os.environ, "PYTHONWARNINGS": "default"}
        self._owner = subprocess.Popen(
            [sys.executable, "-m", "tests.support.postgres", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=environment,
        )
        assert self._owner.stdout is not None
        self.dsn = self._owner.stdout.readline().strip()
        assert self.dsn, "the test session's Postgres did not start"
        self._numbers = itertools.count(1)

    def create_database(self) -> str:
        """A new, empty database; its DSN."""
        name = f"t{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return psycopg.conninfo.make_conninfo(self.dsn, dbname=name)

    def kill(self) -> int:
        """``kill -9`` of the postmaster, which is started again by itself; its pid. Waits for it if it is not back yet."""
        return wait_until(self._kill_once, 60, "there is a postmaster to kill")

    def _kill_once(self) -> int:
        """The pid; 0 if nobody was there, and the file is left over from the last one."""
        found = PidFile.read(self._data)
        try:
            if found is not None:
                os.kill(found.pid, signal.SIGKILL)
        except ProcessLookupError:
            return 0
        return 0 if found is None else found.pid

    def close(self) -> None:
        assert self._owner.stdin is not None
        self._owner.stdin.close()
        self._owner.wait(60)
        assert self._owner.stdout is not None
        self._owner.stdout.close()


class Detour:
    """A way to a database that can be cut, and mended: a link to the directory of the server's socket."""

    def __init__(self, dsn: str, link: Path) -> None:
        self._direct = dsn
        self._link = link
        self._target = psycopg.conninfo.conninfo_to_dict(dsn)["host"]
        self.dsn = psycopg.conninfo.make_conninfo(dsn, host=str(link))
        self.mend()

    def mend(self) -> None:
        self._link.symlink_to(str(self._target))

    def cut(self) -> None:
        """Take the way away, and break every connection there is."""
        self._link.unlink()
        with psycopg.connect(self._direct, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


async def _own(directory: Path) -> None:
    import structlog
    import trio

    from outlived.store import commands
    from outlived.store.embedded import open_embedded

    # Many daemons at once, where a person's Postgres has one.
    commands.SETTINGS = tuple({**dict(commands.SETTINGS), "max_connections": "200"}.items())
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    async with open_embedded(directory, log=structlog.get_logger()) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.watch)
            print(server.dsn, flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)
            nursery.cancel_scope.cancel()
        if server.pid is not None:
            os.kill(
                server.pid, signal.SIGQUIT
            )  # at once: a checkpoint of many databases nobody needs takes long


if __name__ == "__main__":
    import trio

    trio.run(_own, Path(sys.argv[1]))
