"""How the programs of the embedded Postgres are called, and how a client calls the server.

Settings are arguments of the server, not lines of its configuration file: so they hold for an old database too, and a
new version of ours changes them without touching anyone's files.

Not here: where the programs are (`binaries.py`), who runs them (`account.py`), when (`embedded.py`).
"""

import os
from pathlib import Path

from psycopg.conninfo import make_conninfo

from outlived.store.account import Account
from outlived.store.binaries import Binaries

USER = "outlive"
DATABASE = "postgres"
PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"

SETTINGS = (
    # Through the socket in the private directory and in no other way.
    ("listen_addresses", ""),
    ("port", str(PORT)),
    ("unix_socket_permissions", "0700"),
    # One daemon with a handful of named connections, a person with psql, tests with a few more.
    ("max_connections", "40"),
    # Enough for the active runs and the indexes; the rest is the operating system's cache.
    ("shared_buffers", "64MB"),
    # "try" crashed initdb and servers in containers whose host has huge pages that the container may not use.
    ("huge_pages", "off"),
    # Every statement here is short: compiling one, or forking workers for it, costs more than it saves.
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    # The promise about acknowledged runs rests on these three: never let a configuration file turn them off.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("timezone", "UTC"),
    # stderr is our log file. A refused statement is the client's news (a 409 is one), and its text may be private.
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] "),
    ("log_min_messages", "log"),
    ("log_min_error_statement", "panic"),
    ("log_checkpoints", "off"),
    ("log_autovacuum_min_duration", "-1"),
    ("autovacuum_naptime", "10s"),
    # Names the server's processes in ps(1).
    ("cluster_name", "outlive"),
)


def name_server(socket_directory: Path) -> str:
    """The libpq connection string of the server whose socket is in this directory."""
    return make_conninfo(host=str(socket_directory), port=PORT, dbname=DATABASE, user=USER)


def initdb_command(binaries: Binaries, account: Account, directory: Path) -> list[str]:
    """The command that fills `directory` with a new database."""
    return [
        *account.prefix,
        str(binaries.initdb),
        f"--pgdata={directory}",
        f"--username={USER}",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--data-checksums",
    ]


def postgres_command(binaries: Binaries, account: Account, data: Path, socket_directory: Path) -> list[str]:
    """The command that serves `data`. The settings are arguments, so that they hold for an old database too."""
    quoted = str(socket_directory).replace('"', '""')
    settings = (*SETTINGS, ("unix_socket_directories", f'"{quoted}"'))
    arguments = [word for name, value in settings for word in ("-c", f"{name}={value}")]
    return [*account.prefix, str(binaries.postgres), "-D", str(data), *arguments]


def plain_environment() -> dict[str, str]:
    """The environment for the server: nothing of the caller's but what finding programs and libraries takes.

    Above all no PG…, no TZ, and no NOTIFY_SOCKET: Debian's postgres would tell systemd that we are ready.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", **kept}
