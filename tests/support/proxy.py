"""Stands between a client and Postgres, Unix socket to Unix socket, and breaks what it is told to break.

It reads the frontend/backend protocol (version 3) just far enough to see a COMMIT go by, in either direction.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

import trio
from psycopg import conninfo

PORT = 5432
CHUNK = 1 << 16


class Cut(Enum):
    """What happens to a COMMIT."""

    PASS = "nothing"
    BEFORE = "it is not forwarded; both sides are cut"
    AFTER = "it is forwarded and happens; its answer is not passed on, and both sides are cut"
    HELD = (
        "the client is cut; the server hears nothing, neither of it nor of the end, until `deliver` or `drop`"
    )


class Messages:
    """Cuts a stream of bytes into whole messages; a client's first one has no type byte."""

    def __init__(self, *, of_client: bool) -> None:
        self._buffer = b""
        self._untyped = of_client

    def feed(self, data: bytes) -> list[tuple[bytes, bytes, bytes]]:
        """(type, body, everything) of each message that is complete now."""
        self._buffer += data
        found = []
        while True:
            head = 0 if self._untyped else 1
            if len(self._buffer) < head + 4:
                return found
            end = head + int.from_bytes(self._buffer[head : head + 4], "big")
            if len(self._buffer) < end:
                return found
            whole, self._buffer = self._buffer[:end], self._buffer[end:]
            found.append((whole[:head], whole[head + 4 :], whole))
            self._untyped = False


def is_commit(kind: bytes, body: bytes) -> bool:
    """Whether a client's message asks for COMMIT: a Parse (name, query) or a Query."""
    query = {b"P": body.split(b"\0")[1:2], b"Q": body.split(b"\0")[:1]}.get(kind, [])
    return query == [b"COMMIT"]


class Proxy:
    """``faults``: what happens to the next COMMITs, one each; then they pass. ``commits``: how many came by.

    ``mute``: who connects hears nothing. ``swallow``: what clients say is not forwarded, and nobody is told.
    """

    def __init__(self, dsn: str, directory: Path) -> None:
        server = conninfo.conninfo_to_dict(dsn)
        self._server = f"{server['host']}/.s.PGSQL.{server['port']}"
        self._path = directory / f".s.PGSQL.{PORT}"
        self.dsn = conninfo.make_conninfo(dsn, host=str(directory), port=PORT)
        self.faults: deque[Cut] = deque()
        self.commits = 0
        self.mute = False
        self.swallow = False
        self._away = False
        self._scopes: set[trio.CancelScope] = set()
        self._held: deque[tuple[bytes, trio.SocketStream]] = deque()

    # ---- what a test says

    def leave(self) -> None:
        """The server is gone: every connection is cut, every new one too."""
        self._away = True
        for scope in self._scopes:
            scope.cancel()

    def come_back(self) -> None:
        self._away = False

    @property
    def held(self) -> int:
        """How many COMMITs are held back."""
        return len(self._held)

    async def deliver(self) -> None:
        """Give the server the held COMMIT; return when it has happened."""
        message, stream = self._held.popleft()
        async with stream:
            await stream.send_all(message)
            answers = Messages(of_client=False)
            while data := await stream.receive_some(CHUNK):
                if any(kind == b"C" and body == b"COMMIT\0" for kind, body, _ in answers.feed(data)):
                    return
        raise AssertionError("the server did not commit what was delivered")

    async def drop(self) -> None:
        """Let the server know that nobody is there any more."""
        _, stream = self._held.popleft()
        await stream.aclose()

    # ---- what it does

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as door:
            await door.bind(str(self._path))
            door.listen()
            task_status.started()
            async with trio.open_nursery() as nursery:
                while True:
                    client, _ = await door.accept()
                    nursery.start_soon(self._pass_on, trio.SocketStream(client))

    async def _pass_on(self, client: trio.SocketStream) -> None:
        async with client:
            if self._away:
                return
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                if self.mute:
                    await trio.sleep_forever()
                connection = _Connection(self, client, await trio.open_unix_socket(self._server))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(connection.pass_answers, nursery.cancel_scope)
                    nursery.start_soon(connection.pass_requests, nursery.cancel_scope)
            self._scopes.discard(scope)

    def next_cut(self) -> Cut:
        self.commits += 1
        return self.faults.popleft() if self.faults else Cut.PASS

    def hold(self, message: bytes, server: trio.SocketStream) -> None:
        self._held.append((message, server))


class _Connection:
    """One client and its server."""

    def __init__(self, proxy: Proxy, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._cut = Cut.PASS
        self._kept = b""

    async def pass_requests(self, end: trio.CancelScope) -> None:
        messages = Messages(of_client=True)
        try:
            while data := await self._client.receive_some(CHUNK):
                for kind, body, whole in messages.feed(data):
                    if not await self._pass_request(kind, body, whole):
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            end.cancel()
            if self._cut is not Cut.HELD:
                await trio.aclose_forcefully(self._server)

    async def _pass_request(self, kind: bytes, body: bytes, whole: bytes) -> bool:
        """Forward one message; False: the connection ends here."""
        if is_commit(kind, body):
            self._cut = self._proxy.next_cut()
        if self._cut is Cut.BEFORE:
            return False
        if self._cut is Cut.HELD:
            self._kept += whole
            if kind != b"S":
                return True
            self._proxy.hold(self._kept, self._server)
            return False
        if not self._proxy.swallow:
            await self._server.send_all(whole)
        return True

    async def pass_answers(self, end: trio.CancelScope) -> None:
        messages = Messages(of_client=False)
        try:
            while data := await self._server.receive_some(CHUNK):
                for kind, body, whole in messages.feed(data):
                    if self._cut is Cut.AFTER and kind == b"C" and body == b"COMMIT\0":
                        return
                    await self._client.send_all(whole)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            end.cancel()


@asynccontextmanager
async def open_proxy(dsn: str, directory: Path) -> AsyncIterator[Proxy]:
    """A proxy before the server of ``dsn``, its socket in a directory with a short name."""
    proxy = Proxy(dsn, directory)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        yield proxy
        nursery.cancel_scope.cancel()
    while proxy.held:
        await proxy.drop()
