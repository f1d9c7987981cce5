"""What the tests of the embedded Postgres share: asking it, waiting for it, a daemon of its own to kill."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import trio

import outlived.store.embedded

DAEMON = Path(__file__).with_name("embedded_daemon.py")

# Seconds. Generous: a deadline is there to end a broken test, not to measure.
DEADLINE = 30


async def ask(dsn, sql):
    """The first row that the database answers; None when the statement has no rows."""

    def connect_and_ask():
        with psycopg.connect(dsn, connect_timeout=5) as connection:
            answer = connection.execute(sql)
            return answer.fetchone() if answer.description else None

    return await trio.to_thread.run_sync(connect_and_ask)


async def wait_until(condition, *, seconds=DEADLINE):
    """Wait for a condition that only another process can bring about."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.002)


def processes_of(directory):
    """The processes that work on the data below a directory, as far as their command line or folder tells."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            arguments = os.fsdecode((entry / "cmdline").read_bytes())
            folder = ""
            with contextlib.suppress(PermissionError):
                folder = str((entry / "cwd").readlink())
            is_server = Path(arguments.split("\0")[0]).name.startswith(("postgres", "initdb"))
            if is_server and (str(directory) in arguments or folder.startswith(str(directory))):
                found.append(int(entry.name))
    return found


def environment(*first):
    """The environment for a Python that imports what this one imports; `first` goes before all of it."""
    ours = Path(outlived.store.embedded.__file__).parents[2]
    path = [*first, ours, ours.parent / "protocol", *(place for place in sys.path if place)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}


@contextlib.contextmanager
def start_daemon(directory, *programs, before=(), **options):
    """A real daemon process on a directory; killed on the way out, if it still runs."""
    process = subprocess.Popen(
        [*before, sys.executable, str(DAEMON), str(directory), *map(str, programs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **{"env": environment(), **options},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def wait_opened(process):
    """What the daemon says once it has opened the database, or has failed to."""
    with trio.fail_after(DEADLINE):
        line = await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
    return json.loads(line)


async def wait_ended(process):
    """Let the daemon end by itself; its exit status."""
    process.stdin.close()
    with trio.fail_after(DEADLINE):
        return await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
