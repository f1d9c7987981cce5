"""Spools: what a command says is on disk until it is durable in the database, and bounded all the while."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.effort import Effort
from tests.support.history import assert_history
from tests.support.memory import read_rss
from tests.support.runs import perform, read_text, settle, start, start_shell, wait_text
from tests.support.waits import wait_until

MakeDaemon = Callable[..., Daemon]

MIB = 1 << 20
SMALL = 4 * MIB


def can_mount() -> bool:
    """Whether a small file system can be had here; root may."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


@pytest.fixture
def small_disk(short_dir: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = short_dir / "small"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def read_disk_bytes(daemon: Daemon, run_id: str) -> int:
    """What a run's spool takes of the disk; holes take nothing."""
    return sum(file.stat().st_blocks * 512 for file in (daemon.state / "spool" / f"{run_id}-1").iterdir())


def test_a_flood_with_nobody_reading_costs_neither_memory_nor_disk(make_daemon: MakeDaemon, effort: Effort):
    """As much as a command says, the daemon holds little of it, and the disk what is not durable yet, and what is said
    until a busy machine has stopped it.
    """
    size = effort.choose(24, 1024) * MIB
    daemon = make_daemon(config=f"{FAST}max_spool_bytes = {8 * MIB}\n").start()
    with daemon.connect(timeout=1200) as wire:
        perform(
            wire, command=["sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x"]
        )  # it has its usual size
        before = read_rss(daemon.pid)
        run = start(wire, command=["sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x"])
        most_memory, most_disk = 0.0, 0

        def look() -> bool:
            nonlocal most_memory, most_disk
            most_memory = max(most_memory, read_rss(daemon.pid))
            try:
                most_disk = max(most_disk, read_disk_bytes(daemon, run["id"]))
            except FileNotFoundError:
                return True
            return False

        wait_until(look, 1200, "the run has ended")
        settled = settle(wire, run["id"])
        message = wire.call("run/get", run_id=run["id"])["message"]
    assert settled["status"] == "succeeded"
    assert message["truncated"]
    assert most_memory - before < 64
    assert most_disk < max(48 * MIB, size // 4)


@pytest.mark.skipif(not can_mount(), reason="only root can mount a small file system")
def test_a_full_disk_fails_the_run_and_nothing_else(make_daemon: MakeDaemon, small_disk: Path):
    """Without room for a spool a run says so and fails; others go on; with room again the next one succeeds."""
    daemon = make_daemon()
    daemon.state = small_disk / "state"
    daemon.start()
    filler = small_disk / "filler"
    with daemon.connect() as wire:
        running = start_shell(
            wire, "echo up; while [ ! -e go ]; do sleep 0.02; done; echo down", cwd=str(daemon.directory)
        )
        wait_text(wire, running["id"], "up\n")
        fill(filler)
        failed = perform(wire, command=["echo", "hello"], input="x" * 100_000)
        assert (failed["status"], failed["error"]["code"]) == ("failed", "agent_unavailable")
        assert "No space left on device" in failed["error"]["message"]
        assert perform(wire, input="words need no disk here")["status"] == "succeeded"
        filler.unlink()
        (daemon.directory / "go").touch()
        assert settle(wire, running["id"])["status"] == "succeeded"
        assert read_text(wire.tail(running["id"])[0]) == "up\ndown\n"
        assert perform(wire, command=["echo", "hello"])["status"] == "succeeded"
    assert "Traceback" not in daemon.read_log()
    assert_history(daemon.dsn, settled=True)


@pytest.mark.skipif(not can_mount(), reason="only root can mount a small file system")
def test_a_disk_that_fills_under_a_command_is_the_commands_to_see(make_daemon: MakeDaemon, small_disk: Path):
    """A command whose output finds no room is told so by the system; what it could say is kept, and how it ended."""
    daemon = make_daemon()
    daemon.state = small_disk / "state"
    daemon.start()
    filler = small_disk / "filler"
    script = (
        "import errno, os, sys, time\n"
        "os.write(1, b'before\\n')\n"
        f"while not os.path.exists({str(daemon.directory / 'go')!r}): time.sleep(0.02)\n"
        "try:\n"
        "    for _ in range(100_000): os.write(1, b'x' * 65536)\n"
        "except OSError as error:\n"
        "    sys.exit(40 if error.errno == errno.ENOSPC else 41)\n"
    )
    with daemon.connect() as wire:
        run = start(wire, command=["python3", "-S", "-c", script])
        wait_text(wire, run["id"], "before\n")
        fill(filler)
        (daemon.directory / "go").touch()
        settled = settle(wire, run["id"])
        assert (settled["status"], settled["error"]["exit_status"]) == ("failed", 40)
        content = wire.call("run/get", run_id=run["id"])["message"]["content"]
        assert content.startswith("before\n")
        assert not set(content.removeprefix("before\n")) - {"x"}
        filler.unlink()
        assert perform(wire, command=["echo", "hello"])["status"] == "succeeded"
    assert "Traceback" not in daemon.read_log()


def fill(path: Path) -> None:
    """Leave no room beside this file."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
