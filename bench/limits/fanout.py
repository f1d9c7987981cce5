"""Raw Trio fan-out: one speaker, N sockets, nothing durable; ``python -m bench.limits.fanout SOCKET N COUNT RATE SIZE``.

A writer task per subscriber sends everything that is pending for it in one send: what a subscriber costs at
least. The lines have the length of the daemon's events, but are formatted once for all of them.
It prints "ready" when it listens, speaks when N subscribers have sent something, and ends when all was sent.
"""

from __future__ import annotations

import sys
import time

import trio

BATCH = 100
"""Lines between two checkpoints of a speaker without a rate."""


class Hall:
    """What was said, and who listens: each listener has its own place in it."""

    def __init__(self, subscribers: int) -> None:
        self.said: list[bytes] = []
        self.done = False
        self.more = trio.Event()
        self._missing = subscribers
        self.full = trio.Event()

    def wake(self) -> None:
        self.more.set()
        self.more = trio.Event()

    def enter(self) -> None:
        self._missing -= 1
        if not self._missing:
            self.full.set()

    async def speak(self, count: int, rate: float, size: int) -> None:
        """``count`` lines of ``size`` bytes, ``rate`` per second."""
        await self.full.wait()
        start = trio.current_time()
        for number in range(count):
            if rate:
                await trio.sleep_until(start + number / rate)
            self.said.append(b'{"text":"%d %b"}\n' % (time.monotonic_ns(), b"." * (size - 29)))
            if rate or number % BATCH == 0:
                self.wake()
                await trio.lowlevel.checkpoint()
        self.done = True
        self.wake()

    async def listen(self, stream: trio.SocketStream) -> None:
        """One subscriber."""
        await stream.receive_some()
        self.enter()
        place = 0
        while place < len(self.said) or not self.done:
            if place == len(self.said):
                await self.more.wait()
                continue
            pending = self.said[place:]
            place += len(pending)
            await stream.send_all(b"".join(pending))
        await stream.aclose()


async def serve(path: str, subscribers: int, count: int, rate: float, size: int) -> None:
    """Speak once to all of them."""
    hall = Hall(subscribers)
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen(512)
    print("ready", flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.speak, count, rate, size)
        for _ in range(subscribers):
            connection, _ = await sock.accept()
            nursery.start_soon(hall.listen, trio.SocketStream(connection))


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[2:]]
    trio.run(serve, sys.argv[1], numbers[0], numbers[1], numbers[2], numbers[3])
