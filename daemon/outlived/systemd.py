"""Systemd: what it handed down to this process, and what this process tells it.

A leaf. 1. What was handed down is taken once, at the start, and is gone from the environment and from what children
inherit: nobody speaks in our name, or takes our socket for theirs. 2. What names another process (``LISTEN_PID``,
``WATCHDOG_PID``) was not meant for us. 3. The watchdog is fed from the event loop, by a datagram that never waits: what
it proves is that the loop turns, and nothing else (no database, no run). 4. What has to arrive (READY, STOPPING) is
waited for, for a while; a manager that takes nothing for so long stops no daemon.

The words are those of sd_notify(3) and sd_listen_fds(3). Why no library: docs/decisions/0030.

Not here: the journal (``journald.py``), what is done with a socket (``server/listener.py``), when things are said
(``house.py``).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import trio

FIRST_FD = 3
TELL_SECONDS = 5.0
EXTENSION_SECONDS = 30
LOOK_SECONDS = 2.0
_EXTEND = f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}"

_SPOKEN_FOR = (
    "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "MAINPID",
    "FDSTORE", "JOURNAL_STREAM", "INVOCATION_ID", "SYSTEMD_EXEC_PID", "MANAGERPID", "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE", "CREDENTIALS_DIRECTORY", "CONFIGURATION_DIRECTORY", "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY",
)  # fmt: skip


@attrs.frozen
class Handed:
    """What came down. ``fds``: inherited descriptors with their names. ``to_journal``: stderr is the journal's."""

    notify_socket: str | None = None
    watchdog_seconds: float | None = None
    fds: tuple[tuple[str, int], ...] = ()
    to_journal: bool = False
    credentials: Path | None = None
    configuration: Path | None = None
    state: Path | None = None

    def read_credential(self, name: str) -> str | None:
        """The text of a credential (``LoadCredential=NAME:…``), None where it was not given. Raises OSError, ValueError."""
        if self.credentials is None:
            return None
        with suppress(FileNotFoundError):
            return (self.credentials / name).read_text("utf-8").strip() or None
        return None


def take_environment(environ: MutableMapping[str, str] = os.environ) -> Handed:
    """Take what is ours out of the environment, once."""
    found = {name: environ.pop(name) for name in _SPOKEN_FOR if name in environ}
    watchdog = _read_number(found.get("WATCHDOG_USEC"))
    if _names_another(found.get("WATCHDOG_PID")):
        watchdog = 0
    return Handed(
        notify_socket=found.get("NOTIFY_SOCKET") or None,
        watchdog_seconds=watchdog / 1e6 if watchdog else None,
        fds=_take_fds(found),
        to_journal=_is_stderr(found.get("JOURNAL_STREAM", "")),
        credentials=_read_place(found.get("CREDENTIALS_DIRECTORY")),
        configuration=_read_place(found.get("CONFIGURATION_DIRECTORY")),
        state=_read_place(found.get("STATE_DIRECTORY")),
    )


def _take_fds(found: MutableMapping[str, str]) -> tuple[tuple[str, int], ...]:
    if found.get("LISTEN_PID") != str(os.getpid()):
        return ()
    count = _read_number(found.get("LISTEN_FDS"))
    names = found.get("LISTEN_FDNAMES", "").split(":")
    fds = []
    for index in range(count):
        fd = FIRST_FD + index
        with suppress(OSError):  # it is not open: whoever promised it was wrong
            os.set_inheritable(fd, False)
            fds.append((names[index] if index < len(names) else "", fd))
    return tuple(fds)


def _names_another(pid: str | None) -> bool:
    return pid is not None and pid != str(os.getpid())


def _read_number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else 0


def _read_place(text: str | None) -> Path | None:
    """The first of the directories, where several were configured."""
    return Path(text.partition(":")[0]) if text else None


def _is_stderr(stream: str) -> bool:
    """Whether standard error is still what systemd connected to the journal: nobody has redirected it since."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


@attrs.define(eq=False)
class Manager:
    """The service manager, to be spoken to. Without an address every word is spoken to nobody."""

    address: str | None = None
    watchdog_seconds: float | None = None
    _patience: int = attrs.field(default=0, init=False)

    @property
    def listens(self) -> bool:
        return self.address is not None

    async def tell(self, *words: str) -> bool:
        """Say something that has to arrive; False if it did not within ``TELL_SECONDS``."""
        with trio.move_on_after(TELL_SECONDS):
            while not self.tell_nowait(*words):
                await self._wait_room()
            return True
        return False

    def tell_nowait(self, *words: str) -> bool:
        """Say it now, if there is room for it (a queue of datagrams is short); else it is not said."""
        if self.address is None:
            return True
        try:
            with self._open() as sock:
                sock.send("\n".join(words).encode())
        except BlockingIOError:
            return False
        except OSError:  # the manager is gone, or being executed anew: nothing of ours depends on it
            return True
        return True

    async def _wait_room(self) -> None:
        with suppress(OSError), self._open() as sock:
            await trio.lowlevel.wait_writable(sock)
        await trio.sleep(0.01)

    def _open(self) -> socket.socket:
        assert self.address is not None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            # Connected: only so does "writable" mean room at the other side. A leading @ names no file.
            sock.connect("\0" + self.address[1:] if self.address.startswith("@") else self.address)
        except OSError:
            sock.close()
            raise
        return sock

    @contextmanager
    def taking_time(self) -> Iterator[None]:
        """Around what may take longer than the unit's timeout allows, and has bounds of its own."""
        self._patience += 1
        self.tell_nowait(_EXTEND)
        try:
            yield
        finally:
            self._patience -= 1

    async def attend(self) -> None:
        """Actor: feed the watchdog at a third of its interval, and ask for more time where it is being taken."""
        if self.address is None:
            return
        pause = LOOK_SECONDS
        if self.watchdog_seconds is not None:
            pause = min(pause, self.watchdog_seconds / 3)
        while True:
            words = [] if self.watchdog_seconds is None else ["WATCHDOG=1"]
            if self._patience:
                words.append(_EXTEND)
            if words:
                self.tell_nowait(*words)
            await trio.sleep(pause)


def stamp_reload() -> tuple[str, str]:
    """How a reload begins: the manager compares the time with that of its own request (``Type=notify-reload``)."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def make_status(text: str) -> str:
    """A line of ``systemctl status``."""
    return "STATUS=" + " ".join(text.split())
