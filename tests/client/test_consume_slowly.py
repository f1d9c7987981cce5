"""A slow consumer costs little memory: its tails stop the daemon's sending, and no side keeps what is not read."""

import tempfile
from pathlib import Path

import anyio
import pytest

from outlive import connect
from tests.support.daemon import Daemon
from tests.support.programs import python
from tests.support.waits import wait_until

LOG_BYTES = 16 << 20
TAILS = 10
CLIENT_BYTES = 16 << 20
DAEMON_BYTES = 64 << 20
"""Far below what unread events would take: 16 MiB for each of 10 tails."""


def read_memory(pid="self"):
    """The resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def read_busy(pid):
    """The processor time of a process so far, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def wait_idle(pid):
    """Wait until the daemon does no more than its regular actors do."""
    seen = [read_busy(pid)]

    def is_idle():
        seen.append(read_busy(pid))
        return len(seen) > 30 and seen[-1] - seen[-30] <= 2

    wait_until(is_idle, 15, "the daemon has sent what it could")


@pytest.fixture(scope="module")
def loud(postgres, short_dir):
    """A daemon of our own, and a settled run of its with a large log."""
    directory = Path(tempfile.mkdtemp(prefix="d-", dir=short_dir))
    daemon = Daemon(directory, database=postgres.create_database()).start()
    script = f"import sys; [sys.stderr.write('x' * 32768) for _ in range({LOG_BYTES >> 15})]"
    with daemon.connect() as wire:
        run = wire.call("run/start", command=python(script))["run"]
        assert wire.call("run/wait", run_id=run["id"])["run"]["status"] == "succeeded"
    yield daemon, run["id"]
    assert daemon.stop() == 0, daemon.read_log()


def test_tails_that_are_not_read_take_little_memory(backend, loud):
    """With many tails waiting to be read, neither client nor daemon grows with the log; then each gives all of it."""
    daemon, run_id = loud
    daemon.stop()
    daemon.start()  # with memory that is as small as can be
    pid = daemon.process.pid

    async def read_rest(tail):
        size = 0
        while events := await tail.read():
            size += sum(len(event.data.get("text", "")) for event in events)
        return size

    async def main():
        async with connect(daemon.socket) as client:
            before, daemon_before = read_memory(), read_memory(pid)
            tails = [client.tail(run_id) for _ in range(TAILS)]
            for tail in tails:
                assert (await anext(tail)).seq == 1
            await anyio.to_thread.run_sync(wait_idle, pid)
            assert read_memory() - before < CLIENT_BYTES
            assert read_memory(pid) - daemon_before < DAEMON_BYTES
            assert (await client.info()).state == "serving", "other calls are answered meanwhile"
            for tail in tails:
                assert await read_rest(tail) == LOG_BYTES
            assert read_memory() - before < CLIENT_BYTES

    anyio.run(main, backend=backend)
