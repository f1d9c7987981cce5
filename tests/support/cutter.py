"""A proxy between a client and a daemon that cuts connections after a given number of bytes."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import attrs

_CHUNK_BYTES = 64 << 10
_DEADLINE_SECONDS = 10.0


@attrs.frozen
class Cut:
    """When a connection ends: after so many bytes from the client, or from the daemon; None: never for that reason.

    The byte after the last one still has to arrive: ``received=0`` cuts when the daemon begins to answer.
    """

    sent: int | None = None
    received: int | None = None


WHOLE = Cut()


class Cutter:
    """``with Cutter(path, target) as cutter``: connections to ``path`` are passed on to ``target``.

    The first connections are cut as ``cuts`` says, one each; those after them are left whole.
    """

    def __init__(self, path: Path, target: Path, cuts: Iterable[Cut] = ()) -> None:
        self.path = path
        self.connections = 0
        self._target = target
        self._cuts = deque(cuts)
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut_all()
        for thread in self._threads:
            thread.join(_DEADLINE_SECONDS)
        self.cut_all()  # one that was accepted meanwhile
        for end in [self._listener, *self._ends]:
            end.close()
        self.path.unlink()

    def cut_all(self) -> None:
        """Cut every connection there is."""
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            _shut(end)

    def _run(self, function, *arguments) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._join(client)

    def _join(self, client: socket.socket) -> None:
        daemon = socket.socket(socket.AF_UNIX)
        with self._lock:
            self._ends += [client, daemon]
            cut = self._cuts.popleft() if self._cuts else WHOLE
            self.connections += 1
        try:
            daemon.connect(str(self._target))
        except OSError:
            _shut(client)
            return
        self._run(_pump, client, daemon, cut.sent)
        self._run(_pump, daemon, client, cut.received)


def _pump(source: socket.socket, sink: socket.socket, left: int | None) -> None:
    try:
        while data := source.recv(_CHUNK_BYTES):
            if left is not None and len(data) > left:
                sink.sendall(data[:left])
                break
            sink.sendall(data)
            left = None if left is None else left - len(data)
    except OSError:
        pass
    _shut(source)
    _shut(sink)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
