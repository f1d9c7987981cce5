"""One socket: lines out, messages in; and many calls at once over it.

1. Every way in which a socket can fail becomes ConnectionLost, or Unreachable where nothing was sent.
2. Nothing reads in the background: of the tasks that wait for a reply, one reads for all of them, and when it has
   its own it hands the reading to the next. So no task outlives a call, and no buffer grows that nobody reads.
3. A call that is given up tells the server so; its reply, if one still comes, is dropped.

Not here: typed methods and trying again (``client.py``), following a run (``tail.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import attrs
from anyio.abc import SocketAttribute, SocketStream

from outlive.peer import BrokenPeer, ClientPeer, Notification, Reply, RequestId

_CHUNK_BYTES = 64 << 10
_GIVE_UP_SECONDS = 1.0


class ConnectionLost(Exception):
    """The connection ended while something was in flight: whether it was done is not known."""


class Unreachable(ConnectionLost):
    """Nothing answers at the socket: nothing was sent."""


class Connection:
    """A connected socket. Any task may send; one at a time may receive."""

    def __init__(self, stream: SocketStream, path: Path) -> None:
        self._stream = stream
        self._socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django's "extra"
        self._path = path
        self._sending = anyio.Lock()
        self.peer = ClientPeer()

    @classmethod
    async def open(cls, path: Path) -> Connection:
        """Connect to the socket at ``path``. Raises Unreachable."""
        try:
            return cls(await anyio.connect_unix(path), path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Unreachable(f"cannot reach a daemon at {path}: {reason}") from error

    async def send(self, line: bytes) -> None:
        """Send one line. A line cut short by a cancellation ends the connection. Raises ConnectionLost."""
        async with self._sending:
            whole = False
            try:
                await self._stream.send(line)
                whole = True
            except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise self._lost("it was closed") from error
            finally:
                if not whole:
                    await self.aclose()

    async def receive(self) -> list[Reply | Notification]:
        """Return what the next bytes complete, often nothing. Raises ConnectionLost."""
        try:
            return self.peer.receive(await self._stream.receive(_CHUNK_BYTES))
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise self._lost("it was closed") from error
        except BrokenPeer as error:
            raise self._lost(str(error)) from error

    async def aclose(self) -> None:
        """Close the socket; a second time does nothing."""
        with anyio.CancelScope(shield=True):  # closing does not wait, but it would raise before the next one
            await self._stream.aclose()

    def abandon(self) -> None:
        """Close the socket at once, where nothing can be awaited and nobody is sending or receiving."""
        self._socket.close()

    def _lost(self, reason: str) -> ConnectionLost:
        return ConnectionLost(f"lost the connection to the daemon at {self._path}: {reason}")


@attrs.define(eq=False)
class _Call:
    reply: Reply | None = None
    woken: anyio.Event = attrs.Factory(anyio.Event)


class Calls:
    """Requests and their replies over one connection that carries nothing else."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._open: dict[RequestId, _Call] = {}
        self._reading = False
        self.lost: ConnectionLost | None = None

    async def call(self, method: str, params: Any) -> bytes:
        """Return the result as JSON text. Raises the reply's error, or ConnectionLost (then ``lost`` is set)."""
        request_id, line = self._connection.peer.request(method, params)
        call = self._open[request_id] = _Call()
        try:
            await self._connection.send(line)
            reply = await self._reply(call)
        except ConnectionLost as error:
            self.lost = error
            raise
        except anyio.get_cancelled_exc_class():
            await self._give_up(request_id)
            raise
        finally:
            del self._open[request_id]
        if reply.error is not None:
            raise reply.error
        return reply.result

    async def aclose(self) -> None:
        """Close the connection; calls in flight raise ConnectionLost."""
        await self._connection.aclose()

    async def _reply(self, call: _Call) -> Reply:
        while call.reply is None:
            if self.lost is not None:
                raise ConnectionLost(str(self.lost)) from self.lost
            if self._reading:
                await call.woken.wait()
                call.woken = anyio.Event()
            else:
                await self._read()
        return call.reply

    async def _read(self) -> None:
        self._reading = True
        try:
            for message in await self._connection.receive():
                self._deliver(message)
        except ConnectionLost as error:
            self.lost = error
        finally:
            self._reading = False
            for call in self._open.values():  # all: a single one might be cancelled before it could read on
                call.woken.set()

    def _deliver(self, message: Reply | Notification) -> None:
        if isinstance(message, Notification):
            return
        if message.id is None:
            raise ConnectionLost(f"the daemon could not read a request: {message.error}")
        if call := self._open.get(message.id):
            call.reply = message

    async def _give_up(self, request_id: RequestId) -> None:
        line = self._connection.peer.notify("$/cancel_request", {"id": request_id})
        with anyio.move_on_after(_GIVE_UP_SECONDS, shield=True):
            try:
                await self._connection.send(line)
            except ConnectionLost as error:
                self.lost = error
