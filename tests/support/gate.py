"""A gate between one daemon and Postgres: counts the calls that go through, and ends or blocks the traffic when told.

A *call* is what the daemon sends up to a Sync or as a simple Query: one exchange, with at most one commit in it.
``Proxy`` (``proxy.py``) does more to single commits, inside a Trio test; this one serves a process of its own.
"""

import socket
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Self

from psycopg import conninfo

from tests.support.proxy import PORT, Messages

_CHUNK_BYTES = 64 << 10
_DEADLINE_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_OF_A_CALL = {b"P", b"B", b"D", b"E", b"C"}
"""Parse, Bind, Describe, Execute, Close: a Sync follows."""


class Moment(Enum):
    """When somebody is to be told of a call."""

    BEFORE = "nothing of its end has been passed on: it does not happen"
    AFTER = "it has happened, and its answer has not been passed on"


class Gate:
    """``with Gate(dsn, directory) as gate``: the daemon's way to the database is ``gate.dsn``.

    ``calls`` counts what came by since the last ``arm`` (or the beginning).
    """

    def __init__(self, dsn: str, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        server = conninfo.conninfo_to_dict(dsn)
        self._server = f"{server['host']}/.s.PGSQL.{server['port']}"
        self._path = directory / f".s.PGSQL.{PORT}"
        self.dsn = conninfo.make_conninfo(dsn, host=str(directory), port=PORT)
        self.calls = 0
        self._armed: tuple[int, Moment, Callable[[], None]] | None = None
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self.lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self.refuse()
        for thread in self._threads:
            thread.join(_DEADLINE_SECONDS)
        self._listener.close()
        self._path.unlink()

    # ---- what a test says

    def arm(self, number: int, moment: Moment, act: Callable[[], None]) -> None:
        """Count anew; at the moment of that call do this, in the middle of it, and pass nothing more on of it."""
        with self.lock:
            self.calls, self._armed = 0, (number, moment, act)

    def disarm(self) -> bool:
        """Do nothing more about any call; whether it was done already."""
        with self.lock:
            done, self._armed = self._armed is None, None
            return done

    def block(self) -> None:
        """From now on nothing passes, in no direction, and nobody is told (a blackhole)."""
        self._open.clear()

    def refuse(self) -> None:
        """Cut every connection, and refuse every new one."""
        with self.lock:
            self._refusing = True
        self.cut()

    def mend(self) -> None:
        """Let everything pass again; what was blocked arrives late."""
        self._refusing = False
        self._open.set()

    def cut(self) -> None:
        """Cut every connection there is."""
        with self.lock:
            ends = list(self._ends)
        for end in ends:
            _shut(end)

    # ---- what it does

    def _run(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads = [known for known in self._threads if known.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._server)
                self._let_in(client, server)
            except OSError:
                client.close()
                server.close()
                continue
            pair = _Pair(self, client, server)
            self._run(pair.pass_requests)
            self._run(pair.pass_answers)

    def _let_in(self, *ends: socket.socket) -> None:
        with self.lock:  # between this look and the note nobody else says that all are to be cut
            if self._refusing:
                raise ConnectionRefusedError
            self._ends |= set(ends)

    def wait_open(self) -> None:
        """Stand before the gate while it is blocked."""
        while not self._open.wait(_LOOK_SECONDS):
            continue

    def count(self) -> tuple[Moment, Callable[[], None]] | None:
        """A call comes by; what is to be done about it, if it is the one."""
        with self.lock:
            self.calls += 1
            if self._armed is None or self._armed[0] != self.calls:
                return None
            _, moment, act = self._armed
            self._armed = None
            return moment, act

    def leave(self, *ends: socket.socket) -> None:
        with self.lock:
            self._ends -= set(ends)


class _Pair:
    """One client and its server."""

    def __init__(self, gate: Gate, client: socket.socket, server: socket.socket) -> None:
        self._gate = gate
        self._client = client
        self._server = server
        self._afterwards: Callable[[], None] | None = None
        self._kept = b""
        self._left = 2

    def pass_requests(self) -> None:
        requests = Messages(of_client=True)
        try:
            while data := self._client.recv(_CHUNK_BYTES):
                self._gate.wait_open()
                if not self._pass_whole(requests.feed(data)):
                    break
        except OSError:
            pass
        self._end()

    def _pass_whole(self, messages: list[tuple[bytes, bytes, bytes]]) -> bool:
        """Pass complete calls on, and what is no call; False: the traffic ends here."""
        for kind, _, whole in messages:
            self._kept += whole
            if kind in _OF_A_CALL:
                continue  # the server would begin with it at once
            if kind in {b"S", b"Q"} and (due := self._gate.count()) is not None:
                moment, act = due
                if moment is Moment.BEFORE:
                    act()
                    return False
                self._afterwards = act
            self._server.sendall(self._kept)
            self._kept = b""
        return True

    def pass_answers(self) -> None:
        answers = Messages(of_client=False)
        try:
            while data := self._server.recv(_CHUNK_BYTES):
                self._gate.wait_open()
                if self._afterwards is None:
                    answers.feed(data)
                    self._client.sendall(data)
                elif any(kind == b"Z" for kind, _, _ in answers.feed(data)):
                    break
        except OSError:
            pass
        self._end()

    def _end(self) -> None:
        """Either direction has ended: so does the other. A daemon may hang up before it is answered: that is no escape."""
        if (act := self._take_afterwards()) is not None:
            act()
        _shut(self._client)
        _shut(self._server)
        self._gate.leave(self._client, self._server)
        self._left -= 1
        if self._left == 0:
            self._client.close()
            self._server.close()

    def _take_afterwards(self) -> Callable[[], None] | None:
        """What is to be done after the call, for the one who does it."""
        with self._gate.lock:
            act, self._afterwards = self._afterwards, None
            return act


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
