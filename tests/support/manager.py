"""A service manager of the tests' own, as far as a daemon can see: it hands sockets down and hears what it is told."""

import socket
import sys
import time
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.waits import wait_until

_HAND_DOWN = """
import os, sys
names, *fds = sys.argv[1].split(",")
for number, fd in enumerate(map(int, fds), 3):
    os.dup2(fd, number + 100)
for number in range(3, 3 + len(fds)):
    os.dup2(number + 100, number)
    os.close(number + 100)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def hand_down(daemon: Daemon, **sockets: socket.socket) -> None:
    """Have the daemon inherit these when it is started, under their names, as systemd does."""
    fds = [sock.fileno() for sock in sockets.values()]
    words = ",".join([":".join(sockets), *map(str, fds)])
    daemon.before = [sys.executable, "-c", _HAND_DOWN, words]
    daemon.handed_down = fds


def listen_at(path: Path) -> socket.socket:
    """A listening socket as a unit would make it."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    path.chmod(0o600)
    sock.listen(64)
    return sock


class Manager:
    """``with Manager(path) as manager``: hears what daemons say that are ``attach``-ed to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[tuple[float, int, list[str]]] = []
        """When, from which process, which lines."""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def __enter__(self) -> "Manager":
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.bind(str(self.path))
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def attach(self, daemon: Daemon, watchdog_seconds: float | None = None) -> None:
        """Have the daemon speak to us when it is started."""
        daemon.environment["NOTIFY_SOCKET"] = str(self.path)
        if watchdog_seconds is not None:
            daemon.environment["WATCHDOG_USEC"] = str(int(watchdog_seconds * 1e6))

    def listen(self) -> None:
        """Take in what was said since."""
        while True:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(4096, 256)
            except BlockingIOError:
                return
            pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
            self.heard.append((time.monotonic(), pid, data.decode().split("\n")))

    def list_words(self) -> list[str]:
        """Every line so far."""
        self.listen()
        return [word for _, _, words in self.heard for word in words]

    def wait_word(self, beginning: str, seconds: float = 30) -> str:
        """The first line that begins so."""

        def look() -> str:
            return next((word for word in self.list_words() if word.startswith(beginning)), "")

        return wait_until(look, seconds, f"the manager hears {beginning}; it heard {self.list_words()}")

    def forget(self) -> None:
        self.listen()
        self.heard.clear()
