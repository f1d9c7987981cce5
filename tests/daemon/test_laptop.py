"""A personal daemon on a machine that sleeps: daemon and Postgres stop together, and go on together."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.history import assert_history
from tests.support.processes import is_alive, is_suspended
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


def fall_asleep(daemon: Daemon) -> list[int]:
    """Suspend the daemon, its postmaster, and then, for it starts no more, everything below that; who sleeps."""
    assert daemon.process is not None
    postmaster = daemon.postmaster.pid
    parents = [daemon.process.pid, postmaster]
    send(parents, signal.SIGSTOP)
    wait_until(lambda: all(is_suspended(pid) for pid in parents), what="daemon and postmaster sleep")
    entries = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    children = [int(entry.name) for entry in entries if read_parent(entry) == postmaster]
    send(children, signal.SIGSTOP)
    wait_until(
        lambda: all(is_suspended(pid) or not is_alive(pid) for pid in children), what="everything sleeps"
    )
    return parents + children


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


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
        asleep = fall_asleep(daemon)
        try:
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 2 * LEASE, what="the lease is over")
        finally:
            send(asleep, signal.SIGCONT)
        assert settle(wire, run["id"])["status"] == "succeeded"
        events, _ = wire.tail(run["id"])
        assert read_text(events) == "tick " * 150
        assert "does not trust itself" not in daemon.read_log()
        assert_history(daemon.dsn, settled=True)
