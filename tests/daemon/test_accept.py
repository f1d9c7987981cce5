"""A daemon without room for another connection: it waits, says so once, and is there again when there is room."""

import contextlib
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.runs import perform
from tests.support.waits import wait_until

FILES = 64
_LIMIT = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES})); os.execvp(sys.argv[1], sys.argv[1:])"


def read_cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_no_file_descriptor_is_left(make_daemon: Callable[..., Daemon]):
    """With no descriptor left the daemon neither floods its log nor spins, serves whom it has, and then whoever waited."""
    daemon = make_daemon()
    daemon.before = [sys.executable, "-c", _LIMIT]
    daemon.start()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(daemon.connect())
        first.call("server/stats")
        for _ in range(FILES + 20):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(daemon.socket))
        daemon.wait_logged("cannot accept connections")
        assert daemon.process is not None
        before = read_cpu_ticks(daemon.process.pid)
        until = time.monotonic() + 2
        wait_until(lambda: time.monotonic() > until, 5)
        assert read_cpu_ticks(daemon.process.pid) - before < 60  # of some 200 that a spin would take
        assert first.call("server/info")["state"] == "serving"
        assert first.call("server/stats")["rss_bytes"] > 0
        assert daemon.read_log().count("cannot accept connections") == 1
    with daemon.connect() as wire:
        assert perform(wire)["status"] == "succeeded"
    assert "Traceback" not in daemon.read_log()
