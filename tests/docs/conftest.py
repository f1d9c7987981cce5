"""What carrying out pages needs: a person's home, with nothing in it or with a daemon at the usual place."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.play import Stage, make_environment
from tests.support.daemon import Daemon
from tests.support.effort import Effort


@pytest.fixture
def home(short_dir: Path) -> Iterator[Path]:
    """A new home; a daemon that was started in it is stopped afterwards."""
    home = Path(tempfile.mkdtemp(prefix="h-", dir=short_dir))
    yield home
    lock = home / "state/outlived/lock"
    if lock.exists():
        stop = [sys.executable, "-m", "outlive", "daemon", "stop"]
        subprocess.run(stop, check=False, env=make_environment(home), capture_output=True, timeout=60)
        kill_leftover(int(lock.read_text()))


def kill_leftover(pid: int) -> None:
    """End a daemon that did not stop; nothing if there is none."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return
    if b"outlived" in command:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def stage(home: Path, effort: Effort) -> Stage:
    """A person with a home and a directory to work in, who has our programs and no daemon."""
    directory = home / "work"
    directory.mkdir()
    long = effort.seed is not None
    if long:  # the pages install what is in their directory
        for name in ("daemon", "protocol"):
            shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, directory)
    return Stage(directory, make_environment(home), long=long)


@pytest.fixture
def place_daemon(home: Path, make_daemon: Callable[..., Daemon]) -> Callable[[], Daemon]:
    """Start a daemon at the usual place of that home."""

    def place() -> Daemon:
        daemon = make_daemon()
        daemon.socket = Path(make_environment(home)["XDG_RUNTIME_DIR"]) / "outlived/outlived.sock"
        return daemon.start()

    return place
