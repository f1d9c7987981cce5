"""Following one run: every event once and in order, across lost connections and restarted daemons.

1. The cursor is the last event received; what was received and not yet handed out is kept. So nothing is repeated and
   nothing skipped, whichever daemon answers next: an event was only ever sent after its commit.
2. A tail has a connection of its own, and reads it only while somebody waits for an event: a slow consumer stops
   the daemon's sending by the socket's own buffers and delays no other call. At most one chunk of events is held.
3. ``draining`` ends a subscription, not a tail: the next daemon is asked to go on. So is the same one after
   ``cursor_expired``: it answers with the error, which says what is kept.

Not here: how long to try again (``patience.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import anyio

from outlive.connection import Connection, ConnectionLost
from outlive.errors import OutliveError
from outlive.patience import Patience
from outlive.peer import BrokenPeer, Notification, Reply, understand
from outlive.wire import Event, RunTailed, TailEnd


class Tail:
    """An async iterator of events, for one task at a time. Close it, or use ``async with``, when leaving before the end;
    a tail that is forgotten closes its connection.

    ``tailed`` is the daemon's first reply (with the snapshot, if one was asked for), ``last_seq`` the event last handed
    out, ``end`` how the tail ended. Iterating raises the daemon's errors, ConnectionLost after the patience,
    TimeoutError when a daemon accepts the connection but does not answer, and BrokenPeer. An iteration that
    was cancelled, or that raised, may simply be continued.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        params: dict[str, Any],
        *,
        timeout: float,
        patience: Patience,
    ) -> None:
        self._connect = connect
        self._params = params
        self._timeout = timeout
        self._patience = patience
        self._connection: Connection | None = None
        self._received: int | None = params.get("after_seq")
        self._events: deque[Event] = deque()
        self._drained = False
        self._expired = False
        self.tailed: RunTailed | None = None
        self.last_seq: int | None = self._received
        self.end: TailEnd | None = None

    async def __aenter__(self) -> Self:
        while self.tailed is None:
            await self._advance()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not await self._wait_events():
            raise StopAsyncIteration
        event = self._events.popleft()
        self.last_seq = event.seq
        return event

    async def read(self) -> list[Event]:
        """Wait for an event, and return all that have come with it; none at the end."""
        if not await self._wait_events():
            return []
        events = list(self._events)
        self._events.clear()
        self.last_seq = events[-1].seq
        return events

    async def aclose(self) -> None:
        """Close the tail's connection. The run does not notice."""
        if self._connection is not None:
            await self._connection.aclose()
            self._connection = None

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.abandon()

    async def _wait_events(self) -> bool:
        """Whether there is an event; not at the end."""
        while not self._events and self.end is None:
            await self._advance()
        return bool(self._events)

    async def _advance(self) -> None:
        """Receive something, or subscribe again after a pause. Raises when that is hopeless."""
        try:
            if self._drained:
                self._drained = False
                raise ConnectionLost("the daemon is stopping")
            if self._expired:
                self._expired = False
                await self.aclose()
            if self._connection is None:
                await self._subscribe()
            else:
                self._take(await self._connection.receive())
        except (ConnectionLost, OutliveError) as error:
            await self.aclose()
            await self._patience.wait(error)
        except BrokenPeer:
            await self.aclose()
            raise
        if self.end is not None:
            await self.aclose()

    async def _subscribe(self) -> None:
        try:
            with anyio.fail_after(self._timeout):
                connection = self._connection = await self._connect()
                tailed, rest = await self._ask(connection)
        except TimeoutError as error:
            await self.aclose()
            raise TimeoutError(f"cannot follow: no answer within {self._timeout:g} s") from error
        except BaseException:  # a cancelled question may still be answered: nobody could tell what that is
            await self.aclose()
            raise
        if self.tailed is None:
            self.tailed = tailed
        if self._received is None:
            self._received = self.last_seq = tailed.as_of_seq
        self._patience.connected(f"connected again, going on after event {self._received}")
        self._take(rest)

    async def _ask(self, connection: Connection) -> tuple[RunTailed, list[Reply | Notification]]:
        params = self._params if self._received is None else {**self._params, "after_seq": self._received}
        _, line = connection.peer.request("run/tail", params)
        await connection.send(line)
        messages: list[Reply | Notification] = []
        while not messages:
            messages = await connection.receive()
        reply, *rest = messages
        if not isinstance(reply, Reply):
            raise BrokenPeer("cannot follow: the daemon spoke before it answered")
        if reply.error is not None:
            raise reply.error
        return understand(RunTailed, reply.result), rest

    def _take(self, messages: list[Reply | Notification]) -> None:
        for message in messages:
            if not isinstance(message, Notification):
                continue
            if message.method == "run/event":
                self._take_event(understand(Event, message.params))
            elif message.method == "run/tail_end":
                end = understand(TailEnd, message.params)
                if end.reason == "draining":
                    self._drained = True
                elif end.reason == "cursor_expired":
                    self._expired = True
                else:
                    self.end = end

    def _take_event(self, event: Event) -> None:
        expected = (self._received or 0) + 1
        if event.seq != expected:
            raise BrokenPeer(f"cannot follow: event {event.seq} came instead of {expected}")
        self._received = event.seq
        self._patience.progress()
        self._events.append(event)
