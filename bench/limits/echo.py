"""A bare Trio socket echo: ``python -m bench.limits.echo SOCKET``. It prints "ready", and never ends by itself."""

from __future__ import annotations

import sys

import trio


async def serve(path: str) -> None:
    """Give back what comes."""
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    async with trio.open_nursery() as nursery:
        while True:
            connection, _ = await listener.accept()
            nursery.start_soon(_echo, connection)


async def _echo(connection: trio.socket.SocketType) -> None:
    with connection:
        while data := await connection.recv(65_536):
            await connection.send(data)


if __name__ == "__main__":
    trio.run(serve, sys.argv[1])
