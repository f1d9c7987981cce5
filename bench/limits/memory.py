"""What a bare Trio task and a bare Trio socket hold: ``python -m bench.limits.memory tasks N`` or ``sockets PATH``.

It prints "ready" and its parent looks at its RSS; ``tasks`` then prints "parked" when N tasks are parked, each in a
cancel scope of its own; ``sockets`` serves: a task per connection that has answered one line and waits for the next.
"""

from __future__ import annotations

import sys

import msgspec
import psycopg
import trio

NEEDED = (msgspec, psycopg)
"""Imported, so that an idle process is one that could do the daemon's work."""


async def park() -> None:
    """A run that says nothing."""
    with trio.CancelScope():
        await trio.sleep_forever()


async def hold_tasks(number: int) -> None:
    print("ready", flush=True)
    await trio.sleep(1)
    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(park)
        await trio.sleep(0.1)
        print("parked", flush=True)


async def answer(stream: trio.SocketStream) -> None:
    """One connection."""
    while data := await stream.receive_some(64 << 10):
        await stream.send_all(data)


async def hold_sockets(path: str) -> None:
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen(512)
    print("ready", flush=True)
    async with trio.open_nursery() as nursery:
        while True:
            connection, _ = await sock.accept()
            nursery.start_soon(answer, trio.SocketStream(connection))


if __name__ == "__main__":
    if sys.argv[1] == "tasks":
        trio.run(hold_tasks, int(sys.argv[2]))
    else:
        trio.run(hold_sockets, sys.argv[2])
