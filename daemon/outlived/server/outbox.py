"""What a connection still has to say: bounded, gathered, and sent with a deadline on progress.

1. ``add`` never waits and never splits a line; who may have much to say calls ``wait_room`` first.
2. Everything that is waiting goes out in one send.
3. A peer that takes nothing for ``STALL_SECONDS`` while something is waiting is given up.

Not here: what is said (``session.py``, ``subscription.py``).
"""

from __future__ import annotations

import trio

ROOM_BYTES = 16 << 10
CHUNK_BYTES = 256 << 10
STALL_SECONDS = 30.0


class Stalled(Exception):
    """The peer does not read what it asked for."""


class Outbox:
    """One writer's queue of whole lines."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._lines: list[bytes] = []
        self._waiting = 0
        self._sending = False
        self._arrived = trio.Event()
        self._room = trio.lowlevel.ParkingLot()
        self._idle = trio.lowlevel.ParkingLot()

    def add(self, lines: bytes) -> None:
        """Queue whole lines."""
        self._lines.append(lines)
        self._waiting += len(lines)
        self._arrived.set()

    async def wait_room(self) -> None:
        """Wait until there is little waiting."""
        while self._waiting >= ROOM_BYTES:
            await self._room.park()

    async def put(self, lines: bytes) -> None:
        """Queue whole lines once there is room."""
        await self.wait_room()
        self.add(lines)

    async def wait_sent(self) -> None:
        """Wait until everything queued so far, and since, was taken by the kernel."""
        while self._lines or self._sending:
            await self._idle.park()

    async def send_all(self) -> None:
        """Send what comes, for ever. Raises Stalled, OSError."""
        while True:
            if not self._lines:
                self._idle.unpark_all()
                self._arrived = trio.Event()
                await self._arrived.wait()
            gathered = b"".join(self._lines) if len(self._lines) > 1 else self._lines[0]
            self._lines.clear()
            self._sending = True
            await self._send(memoryview(gathered))
            self._sending = False

    async def _send(self, data: memoryview) -> None:
        while data:
            with trio.move_on_after(STALL_SECONDS) as patience:
                sent = await self._sock.send(data[:CHUNK_BYTES])
            if patience.cancelled_caught:
                raise Stalled(
                    f"the peer took nothing for {STALL_SECONDS:g} s while {self._waiting} bytes waited"
                )
            data = data[sent:]
            self._waiting -= sent
            if self._waiting < ROOM_BYTES:
                self._room.unpark_all()
