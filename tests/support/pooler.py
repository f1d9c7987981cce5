"""A pgbouncer in transaction mode before the session's Postgres, on a Unix socket of its own.

It refuses to be root as Postgres does; the daemon's way out of being root serves it too.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from outlived.store.account import choose_account
from tests.support.waits import wait_until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
PORT = 6432
SETTINGS = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
auth_type = any
listen_addr =
listen_port = {own_port}
unix_socket_dir = {directory}
server_lifetime = 3600
"""


@contextmanager
def open_pooler(dsn: str, directory: Path, size: int) -> Iterator[str]:
    """The DSN of ``dsn``'s database through a pooler with so many server connections."""
    assert PROGRAM is not None
    server = psycopg.conninfo.conninfo_to_dict(dsn)
    settings = directory / "pgbouncer.ini"
    with psycopg.connect(dsn) as connection:
        user = connection.info.user
    settings.write_text(
        SETTINGS.format(
            host=server["host"], port=server["port"], user=user, size=size, own_port=PORT, directory=directory
        )
    )
    account = choose_account(directory, Path(PROGRAM))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*account.prefix, PROGRAM, str(settings)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    through = psycopg.conninfo.make_conninfo(dsn, host=str(directory), port=PORT)

    def answers() -> bool:
        assert process.poll() is None, (directory / "log").read_text()
        try:
            psycopg.connect(through, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        wait_until(answers, 20, "pgbouncer answers")
        yield through
    finally:
        process.terminate()
        process.wait(20)
