"""Requests as fast as they go: sockets, bytes that are formatted once, replies that are barely looked at.

It shares the machine with what it measures, so it is light on purpose: no task per request, one decoding per reply of
the fields that are needed, everything that is to be sent after one read in one send.

1. ``Caller`` is for the request now and then: it decodes everything.
2. ``Loop`` keeps a number of runs in flight on a few connections: each run is started, waited for, and replaced.
3. Every reply that is no result raises ``Broken``, with what it says.

Not here: what is measured with it; CPU (``processes.py``).
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, Self

import attrs
import msgspec
import trio

from bench.figures import Broken

READ_BYTES = 256 << 10
ENOUGH_SECONDS = 60
"""For as many runs as are in flight, once the window should have ended."""


class Lines:
    """A socket of whole lines."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._rest = b""

    @classmethod
    @asynccontextmanager
    async def connect(cls, path: Path | str) -> AsyncIterator[Self]:
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        with sock:
            await sock.connect(str(path))
            yield cls(sock)

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        view = memoryview(data)
        while view:
            view = view[await self._sock.send(view) :]

    async def read(self) -> list[bytes]:
        """The whole lines that have come, at least one; empty at the end of file."""
        while True:
            data = await self._sock.recv(READ_BYTES)
            if not data:
                return []
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            if lines:
                return lines


class Caller:
    """One connection, one request at a time; notifications that come meanwhile are kept."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._ids = count(1)
        self.notifications: list[Any] = []

    @classmethod
    @asynccontextmanager
    async def connect(cls, path: Path | str) -> AsyncIterator[Self]:
        async with Lines.connect(path) as lines:
            yield cls(lines)

    async def call(self, method: str, **params: Any) -> Any:
        """The result. Raises Broken when it is an error."""
        number = next(self._ids)
        await self._lines.send(format_request(number, method, **params))
        while True:
            for line in await self._read():
                message = msgspec.json.decode(line)
                if "method" in message:
                    self.notifications.append(message)
                elif message.get("id") == number:
                    if "error" in message:
                        raise Broken(f"{method} was refused: {message['error']}")
                    return message["result"]

    async def _read(self) -> list[bytes]:
        if lines := await self._lines.read():
            return lines
        raise Broken("the daemon closed a connection")


def format_request(number: int, method: str, **params: Any) -> bytes:
    """One line."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + b"\n"


class _Run(msgspec.Struct):
    id: str
    status: str


class _Result(msgspec.Struct):
    run: _Run
    settled: bool = False


class Reply(msgspec.Struct):
    """Of a reply to run/start or run/wait, what is looked at."""

    id: int
    result: _Result | None = None
    error: msgspec.Raw | None = None


decode_reply = msgspec.json.Decoder(Reply).decode


@attrs.define(eq=False)
class Loop:
    """A closed loop: ``in_flight`` runs at any time over ``connections`` connections, until ``stop`` is called.

    ``settled``, ``replied``: for every run since ``begin``, seconds from sending its start to seeing it settled, and to
    the start's reply.
    """

    path: Path
    agent: str
    in_flight: int
    connections: int = 4
    metadata: dict[str, Any] = attrs.Factory(dict)
    settled: list[float] = attrs.Factory(list)
    replied: list[float] = attrs.Factory(list)
    started: int = 0
    """Every run that was ever started, warm-up and all; once ``run`` has returned, all are settled."""
    _running: bool = True

    async def run(self) -> None:
        """Drive it. Returns once everything that was started is settled."""
        connections = min(self.connections, self.in_flight)
        shares = [len(range(each, self.in_flight, connections)) for each in range(connections)]
        async with trio.open_nursery() as nursery:
            for share in shares:
                nursery.start_soon(self._drive, share)

    def begin(self) -> None:
        """The measured window begins: what was seen until now was the warm-up."""
        self.settled.clear()
        self.replied.clear()

    def stop(self) -> None:
        """Start no more."""
        self._running = False

    async def _drive(self, share: int) -> None:
        """Ids: ``2 n`` starts, ``2 n + 1`` waits for the same run."""
        request = format_request(0, "run/start", agent=self.agent, input="hello", metadata=self.metadata)
        head, _, tail = request.partition(b'"id":0')
        wait = b'{"jsonrpc":"2.0","id":%d,"method":"run/wait","params":{"run_id":"%b"}}\n'
        sent: dict[int, float] = {}
        numbers = count(0, 2)

        def start() -> bytes:
            number = next(numbers)
            sent[number] = time.perf_counter()
            self.started += 1
            return b'%b"id":%d%b' % (head, number, tail)

        async with Lines.connect(self.path) as lines:
            await lines.send(b"".join(start() for _ in range(share)))
            while sent:
                answers = []
                for line in await lines.read() or _refuse_end():
                    reply = decode_reply(line)
                    result = reply.result
                    if result is None:
                        raise Broken(f"a request was refused: {line.decode()}")
                    if not reply.id & 1:
                        self.replied.append(time.perf_counter() - sent[reply.id])
                        answers.append(wait % (reply.id + 1, result.run.id.encode("ascii")))
                        continue
                    if result.run.status != "succeeded":
                        raise Broken(f"a run did not succeed: {line.decode()}")
                    self.settled.append(time.perf_counter() - sent.pop(reply.id - 1))
                    if self._running:
                        answers.append(start())
                if answers:
                    await lines.send(b"".join(answers))


def _refuse_end() -> list[bytes]:
    raise Broken("the daemon closed a connection")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection of ours in a measured window."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def observe(loop: Loop, *, warm_up: float, seconds: float, window: Callable[[], Any]) -> Any:
    """Run a loop for a while and meter the middle of it; what ``window`` opened, closed again. On a machine so busy that
    not even as many runs as are in flight are settled by then, the window is longer.

    ``window`` makes a context manager, such as ``stage.meter(daemon)``.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run)
        await trio.sleep(warm_up)
        with quiet():
            loop.begin()
            with window() as meter:
                await trio.sleep(seconds)
                with trio.fail_after(ENOUGH_SECONDS):
                    while len(loop.settled) < loop.in_flight:
                        await trio.sleep(0.05)
            loop.settled, loop.replied = list(loop.settled), list(loop.replied)
            settled, replied = loop.settled, loop.replied
            loop.settled, loop.replied = [], []
        loop.stop()
    loop.settled, loop.replied = settled, replied
    return meter


async def call_all(
    path: Path | str, method: str, params: Sequence[dict[str, Any]], *, connections: int = 4, share: int = 200
) -> list[Any]:
    """The results of many requests in the order of ``params``; ``share`` in flight on each connection. Raises Broken."""
    results: list[Any] = [None] * len(params)

    async def drive(numbers: Sequence[int]) -> None:
        async with Lines.connect(path) as lines:
            waiting, missing = iter(numbers), len(numbers)
            first = list(islice(waiting, share))
            await lines.send(b"".join(format_request(number, method, **params[number]) for number in first))
            while missing:
                answered = await lines.read() or _refuse_end()
                for line in answered:
                    reply = msgspec.json.decode(line)
                    if "error" in reply:
                        raise Broken(f"{method} was refused: {reply['error']}")
                    results[reply["id"]] = reply["result"]
                missing -= len(answered)
                following = islice(waiting, len(answered))
                if more := b"".join(format_request(number, method, **params[number]) for number in following):
                    await lines.send(more)

    async with trio.open_nursery() as nursery:
        for each in range(connections):
            nursery.start_soon(drive, range(each, len(params), connections))
    return results
