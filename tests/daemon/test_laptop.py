"""A personal daemon on a machine that sleeps: daemon and Postgres stop together, and go on together."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.history import assert_history
from tests.support.processes import is_suspended
from tests.support.runs import read_text, settle, start, wait_text
from tests.support.waits import wait_until

LEASE = 1.5
BRISK = f"""
[owner]
lease_seconds = {LEASE}
heartbeat_seconds = 0.3
[sweep]
interval_seconds = 0.3
"""


def list_processes(daemon: Daemon) -> list[int]:
    """The daemon, its postmaster and everything below that."""
    assert daemon.process is not None
    postmaster = daemon.postmaster.pid
    entries = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    children = [int(entry.name) for entry in entries if read_parent(entry) == postmaster]
    return [daemon.process.pid, postmaster, *children]


def read_parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_a_sleep_longer_than_the_lease_ends_no_run(make_daemon: Callable[..., Daemon]):
    """With a Postgres of its own, and nobody else on it, a daemon that slept for longer than its lease goes on with its runs."""
    daemon = make_daemon(None, BRISK).start()
    with daemon.connect(60) as wire:
        run = start(wire, input="tick ", metadata={"demo": {"delay_ms": 20, "repeat": 150}})
        wait_text(wire, run["id"], "tick ")
        asleep = list_processes(daemon)
        for pid in asleep:
            os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: all(is_suspended(pid) for pid in asleep), what="everything sleeps")
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 2 * LEASE, what="the lease is over")
        finally:
            for pid in asleep:
                os.kill(pid, signal.SIGCONT)
        assert settle(wire, run["id"])["status"] == "succeeded"
        events, _ = wire.tail(run["id"])
        assert read_text(events) == "tick " * 150
        assert "does not trust itself" not in daemon.read_log()
        assert_history(daemon.dsn, settled=True)
