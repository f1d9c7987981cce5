"""A real daemon in a process of its own, on a real socket, in a directory of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from outlived.store.commands import name_server
from outlived.store.postmaster import PidFile
from tests.support.waits import wait_until
from tests.support.wire import Wire

FAST = """
[owner]
lease_seconds = 6
heartbeat_seconds = 0.5
[sweep]
interval_seconds = 0.5
[run]
grace_seconds = 2
drain_seconds = 0.2
adopt_seconds = 0
"""
"""Times shortened for tests; behaviour is that of the defaults, but that no daemon leaves a dead one's commands to it."""


class Daemon:
    """One home: started, killed, started again. ``database`` None means the embedded Postgres."""

    def __init__(self, directory: Path, *, database: str | None, config: str = FAST) -> None:
        self.directory = directory
        self.database = database
        self.config = directory / "outlived.toml"
        self.socket = directory / "s"
        self.state = directory / "state"
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.before: list[str] = []
        """A command that runs the daemon's, such as ``unshare``."""
        self.environment: dict[str, str] = {}
        self.own_socket = True
        """Whether it is told where to listen."""
        self.full_command: list[str] = []
        """In place of the usual one."""
        self.handed_down: list[int] = []
        """Descriptors that it inherits; ``tests/support/manager.py`` says how it learns of them."""
        directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(config)

    @property
    def command(self) -> list[str]:
        if self.full_command:
            return self.full_command
        database = ["--database", self.database] if self.database else []
        places = ["--config", str(self.config), "--state-dir", str(self.state)]
        places += ["--socket", str(self.socket)] if self.own_socket else []
        return [*self.before, sys.executable, "-m", "outlived", "serve", *places, *database]

    def start(self, wait: bool = True) -> "Daemon":
        """Start it; return once it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "PYTHONPATH": str(Path(__file__).parents[1] / "agents"),
                    **self.environment,
                },
                pass_fds=self.handed_down,
                cwd=self.directory,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        wait_until(self._answers, 60, f"the daemon answers; its log: {self.log}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended: {self.read_log()}"
        try:
            with Wire(self.socket) as wire:
                return wire.call("server/info")["name"] == "outlived"
        except (FileNotFoundError, ConnectionRefusedError, EOFError, ConnectionResetError):
            return False

    def connect(self, timeout: float = 20.0) -> Wire:
        return Wire(self.socket, timeout)

    @property
    def postmaster(self) -> PidFile:
        """What the embedded Postgres says of itself."""
        found = PidFile.read(self.state / "postgres" / "data")
        assert found is not None, f"no Postgres runs below {self.state}"
        return found

    @property
    def dsn(self) -> str:
        """Where its database is, given or embedded; an embedded one only while it runs."""
        return self.database or name_server(Path(self.postmaster.socket_directory or self.state))

    @property
    def pid(self) -> int:
        """The daemon's own process, also behind a command that runs it."""
        assert self.process is not None
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if self.before else []
        return int(children[0]) if children else pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """``kill -9``: nothing is said, nothing is cleaned up."""
        assert self.process is not None
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def wait_logged(self, text: str, seconds: float = 15.0) -> None:
        """Wait until the daemon's own log holds ``text``."""
        wait_until(lambda: text in self.read_log(), seconds, f"{text!r} is in {self.log}")

    def read_log(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""
