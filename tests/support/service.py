"""The installed service of a container: its units, its settings, its socket, from outside."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.container import Container
from tests.support.daemon import FAST
from tests.support.waits import wait_until
from tests.support.wire import Wire

PROJECT = Path(__file__).parents[2]
BUILT = ("pyproject.toml", "README.md", "LICENSE", "protocol", "daemon", "systemd")
PROGRAMS = "/opt/outlive/bin"
UNIT = "outlived.service"
SETTINGS = "/etc/outlived/outlived.toml"
DROP_INS = "/etc/systemd/system/outlived.service.d"
IMPATIENT = "[Service]\nRestartSec=100ms\n"


def install(machine: Container, lines: str) -> None:
    """Carry out the README's lines in a copy of the sources, as root."""
    source = machine.root / "src"
    for name in BUILT:
        if (PROJECT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(PROJECT / name, source / name, ignore=ignored)
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(PROJECT / name, source)
    for line in lines.splitlines():
        machine.run(f"cd /src && {line}", seconds=300, **pip_environment())


def pip_environment() -> dict[str, str]:
    """Where pip finds packages here, it finds them inside, too."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


class Service:
    """What tests do with the service. ``socket``: its path, seen from here."""

    def __init__(self, machine: Container) -> None:
        self.machine = machine
        self.socket = machine.outside("/run/outlived/outlived.sock")

    def connect(self, timeout: float = 30.0) -> Wire:
        return Wire(self.socket, timeout)

    def read(self, name: str) -> str:
        return self.machine.show(UNIT, name)[name]

    @property
    def pid(self) -> int:
        """The daemon's pid in the container; 0 while there is none."""
        return int(self.read("MainPID"))

    @property
    def state(self) -> str:
        return self.read("ActiveState")

    @property
    def restarts(self) -> int:
        return int(self.read("NRestarts"))

    def kill(self, number: signal.Signals) -> None:
        self.machine.run(f"kill -{number.value} {self.pid}")

    def systemctl(self, *words: str, seconds: float = 60) -> None:
        self.machine.run(f"systemctl {' '.join(words)} {UNIT}", seconds)

    def configure(self, text: str = FAST) -> None:
        """Write the settings; they hold from the next start or reload."""
        self.machine.write(SETTINGS, text)

    @contextmanager
    def drop_in(self, *texts: str) -> Iterator[None]:
        """The service with drop-ins, restarted before, and stopped after."""
        for number, text in enumerate(texts):
            self.machine.write(f"{DROP_INS}/{number}.conf", text)
        self.machine.run("systemctl daemon-reload")
        try:
            self.systemctl("restart")
            yield
        finally:
            self.machine.run(f"systemctl stop {UNIT}; rm -rf {DROP_INS}; systemctl daemon-reload")

    def wait_state(self, state: str, seconds: float = 30) -> None:
        wait_until(lambda: self.state == state, seconds, f"the service is {state}")

    def wait_replaced(self, pid: int, seconds: float = 30) -> int:
        """Wait until another process than ``pid`` serves; its pid."""

        def look() -> int:
            now = self.machine.show(UNIT, "MainPID", "ActiveState")
            return int(now["MainPID"]) if now["ActiveState"] == "active" and int(now["MainPID"]) != pid else 0

        return wait_until(look, seconds, f"the service has another process than {pid}")

    def read_journal(self, since: float, matches: str = f"-u {UNIT}") -> str:
        return self.machine.read_journal(matches, since)

    def wait_journal(self, text: str, since: float, seconds: float = 15) -> str:
        """Wait for a text in the journal; what it says by then."""

        def look() -> str:
            said = self.read_journal(since)
            return said if text in said else ""

        return wait_until(look, seconds, f"{text!r} is in the journal")


def read_now() -> float:
    """A moment for ``journalctl --since``."""
    return time.time()
