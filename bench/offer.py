"""Runs that arrive by themselves: an open loop, for latency at a load that does not wait for its answers.

1. Arrivals are a Poisson stream with a seed: the same load every time, with its bursts.
2. A latency counts from the moment a run was due, not from the moment it could be sent: a daemon that falls behind shows.

Not here: a closed loop, whose load follows the daemon (``load.py``).
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.figures import Broken
from bench.load import Lines, decode_reply, format_request

CONNECTIONS = 8
IN_FLIGHT = 120
"""Per connection, of 256 that the daemon takes: what is due beyond that waits here, and counts as latency."""


@attrs.define(eq=False)
class Offer:
    """``rate`` runs of ``agent`` per second; latencies in seconds, of the runs that were due since ``begin``."""

    path: Path
    agent: str
    rate: float
    settled: list[float] = attrs.Factory(list)
    replied: list[float] = attrs.Factory(list)
    started: int = 0
    _since: float = 0.0
    _until: float = float("inf")
    _sent: dict[int, float] = attrs.Factory(dict)
    _numbers: count[int] = attrs.Factory(lambda: count(0, 2))
    _room: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    _stopped: bool = False

    def begin(self) -> None:
        """What was due until now was the warm-up."""
        self._since = time.perf_counter()
        self.settled.clear()
        self.replied.clear()

    def end(self) -> None:
        """What is due from now on is no longer counted."""
        self._until = time.perf_counter()

    @asynccontextmanager
    async def keep_going(self) -> AsyncIterator[None]:
        """Offer inside the block; on the way out wait until everything that was started is settled."""
        async with trio.open_nursery() as readers:
            connections = [await readers.start(self._connect) for _ in range(CONNECTIONS)]
            async with trio.open_nursery() as senders:
                senders.start_soon(self._send_all, connections)
                yield
                senders.cancel_scope.cancel()
            self._stopped = True
            while self._sent:
                await self._room.park()
            readers.cancel_scope.cancel()

    async def _send_all(self, connections: list[Lines]) -> None:
        request = format_request(0, "run/start", agent=self.agent, input="hello")
        head, _, tail = request.partition(b'"id":0')
        chance = random.Random(1)  # noqa: S311 - arrivals, not secrets
        due = time.perf_counter()
        while True:
            lines: dict[int, bytes] = {}
            while due <= time.perf_counter() and len(self._sent) < CONNECTIONS * IN_FLIGHT:
                number = next(self._numbers)
                self._sent[number] = due
                self.started += 1
                turn = number // 2 % len(connections)
                lines[turn] = lines.get(turn, b"") + b'%b"id":%d%b' % (head, number, tail)
                due += chance.expovariate(self.rate)
            with trio.CancelScope(shield=True):  # a line that is half sent would never be answered
                for turn, line in lines.items():
                    await connections[turn].send(line)
            if len(self._sent) >= CONNECTIONS * IN_FLIGHT:
                await self._room.park()
            else:
                await trio.sleep(max(0.0, due - time.perf_counter()))

    async def _connect(self, task_status: trio.TaskStatus[Lines]) -> None:
        async with Lines.connect(self.path) as connection:
            task_status.started(connection)
            while lines := await connection.read():
                answers = [answer for line in lines if (answer := self._take(line))]
                if answers:
                    await connection.send(b"".join(answers))
        raise Broken("the daemon closed a connection")

    def _take(self, line: bytes) -> bytes | None:
        """Note a reply; the request that follows from it."""
        reply = decode_reply(line)
        if reply.result is None:
            raise Broken(f"a request was refused: {line.decode()}")
        due = self._sent[reply.id & ~1]
        counts = self._since <= due <= self._until
        if not reply.id & 1:
            if counts:
                self.replied.append(time.perf_counter() - due)
            wait: dict[str, Any] = {"run_id": reply.result.run.id}
            return format_request(reply.id + 1, "run/wait", **wait)
        if reply.result.run.status != "succeeded":
            raise Broken(f"a run did not succeed: {line.decode()}")
        if counts:
            self.settled.append(time.perf_counter() - due)
        del self._sent[reply.id & ~1]
        self._room.unpark_all()
        return None
