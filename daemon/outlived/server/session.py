"""One connection: lines in, requests dispatched, answers out; errors never leave it.

1. Requests run concurrently; each is answered exactly once under its id, a notification never.
2. A faulty line is answered and forgotten; the reader goes on at the next newline.
3. At end of file subscriptions end at once, requests in flight have ``LINGER_SECONDS``, and runs that were
   started with ``detached: false`` are stopped.
4. What a handler raises becomes an answer: an error of the contract as it is, anything else as
   ``internal_error`` with an incident id that is in the log too.

Not here: what methods do (``methods``), the socket (``listener.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import structlog
import trio

from outlive import errors, wire
from outlive.framing import OVERLONG, Line, LineSplitter
from outlive.methods import METHODS, Method
from outlive.peer import Rejected, Request, encode_error, encode_result, parse_request
from outlive.strict_json import convert_params
from outlived.identifiers import make_id
from outlived.journal.items import JournalRefused, OwnershipLost
from outlived.server.outbox import Outbox, Stalled
from outlived.store.postgres import DatabaseLost, QueryRefused
from outlived.supervisor import Supervisor
from outlived.supervisor.start import Caller

if TYPE_CHECKING:
    from outlived.server.subscription import Subscription

log = structlog.get_logger("outlived.session")

READ_BYTES = 64 << 10
LINGER_SECONDS = 10.0
MAX_UNLIMITED = 1024
MAX_HELD_BYTES = 4 << 20
"""So many bytes of requests may be in flight; then the connection is read no further until one is answered."""
FAREWELL_SECONDS = 2.0

Handler = Callable[["Session", Any, "Call"], Awaitable[Any]]


@attrs.define(eq=False)
class Call:
    """One request in flight. ``after`` runs when its answer, if it gets one, is queued."""

    request: Request
    method: Method
    size: int
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    refusal: errors.OutliveError | None = None
    after: Callable[[], None] | None = None

    def cancel(self, refusal: errors.OutliveError) -> None:
        """Answer with ``refusal`` instead, if that is still possible."""
        if self.method.cancellable:
            self.refusal = refusal
            self.scope.cancel()


@attrs.define(eq=False)
class Session:
    """A connection. ``leave_run`` is called with each attached run when the connection is gone.

    ``sessions``: those that are open, this one among them.
    """

    supervisor: Supervisor
    handlers: Mapping[str, Handler]
    caller: Caller
    sock: trio.socket.SocketType
    leave_run: Callable[[str], None]
    sessions: Collection[Session]
    outbox: Outbox = attrs.field(init=False)
    nursery: trio.Nursery = attrs.field(init=False)
    subscriptions: dict[str, Subscription] = attrs.Factory(dict)
    _feeding: trio.Lock = attrs.Factory(trio.Lock)
    _calls: dict[str | int, Call] = attrs.Factory(dict)
    _limited: int = 0
    _unlimited: int = 0
    _held_bytes: int = 0
    _ended: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    _attached: set[str] = attrs.Factory(set)
    _tidy_at: int = 64
    gone: bool = False
    draining: trio.Event = attrs.Factory(trio.Event)

    # ---- life

    async def serve(self) -> None:
        """Serve the connection to its end."""
        self.outbox = Outbox(self.sock)
        try:
            async with trio.open_nursery() as self.nursery:
                self.nursery.start_soon(self._write)
                self.nursery.start_soon(self._bid_farewell)
                await self._read_all()
                await self._linger()
                self.nursery.cancel_scope.cancel()
        finally:
            self._leave()
            self.sock.close()

    async def _write(self) -> None:
        try:
            await self.outbox.send_all()
        except (Stalled, OSError) as error:
            if isinstance(error, Stalled):
                log.info("closing a connection", uid=self.caller.uid, reason=str(error))
            self.nursery.cancel_scope.cancel()

    async def _read_all(self) -> None:
        """Read to the end of file."""
        lines = LineSplitter(wire.MAX_CLIENT_LINE)
        while True:
            try:
                data = await self.sock.recv(READ_BYTES)
            except OSError:
                data = b""
            if not data:
                return
            for line in lines.feed(data):
                await self._take_line(line)

    async def _linger(self) -> None:
        """The client has said all it will say: end what follows it, answer what it asked."""
        self._leave()
        for subscription in list(self.subscriptions.values()):
            subscription.end("unsubscribed")
        with trio.move_on_after(LINGER_SECONDS):
            while self._calls_in_flight or self.subscriptions:
                await self._ended.park()
            await self.outbox.wait_sent()

    async def _bid_farewell(self) -> None:
        """The daemon stops: say so to whoever waits, and close once that is said."""
        await self.draining.wait()
        for call in list(self._calls.values()):
            call.cancel(errors.Draining("cannot go on waiting: the daemon stops"))
        for subscription in list(self.subscriptions.values()):
            subscription.end("draining")
        with trio.move_on_after(FAREWELL_SECONDS):
            while self._calls_in_flight or self.subscriptions:
                await self._ended.park()
            await self.outbox.wait_sent()
        self.nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """To be held around the last read of what may be large: one at a time, and only when there is room.

        What was read is queued without a checkpoint in between, so that a client that asks much and reads
        nothing makes us hold one large answer, not hundreds.
        """
        async with self._feeding:
            await self.outbox.wait_room()
            yield

    def attach(self, run_id: str) -> None:
        """This run shall not outlive the connection."""
        if self.gone:
            self.leave_run(run_id)
            return
        self._attached.add(run_id)
        if len(self._attached) >= self._tidy_at:  # those that have ended need nobody to stop them
            self._attached = {each for each in self._attached if self.supervisor.registry.find(each)}
            self._tidy_at = max(64, 2 * len(self._attached))

    def _leave(self) -> None:
        self.gone = True
        for run_id in self._attached:
            self.leave_run(run_id)
        self._attached.clear()

    # ---- requests

    @property
    def _calls_in_flight(self) -> int:
        return self._limited + self._unlimited

    async def _take_line(self, line: Line) -> None:
        if line is OVERLONG:
            error = errors.TooLarge(f"cannot accept a line of more than {wire.MAX_CLIENT_LINE} bytes")
            await self.outbox.put(encode_error(None, error))
            return
        while self._calls_in_flight and self._held_bytes + len(line) > MAX_HELD_BYTES:
            await self._ended.park()
        try:
            request = parse_request(line)
        except Rejected as rejected:
            await self.outbox.put(encode_error(rejected.id, rejected.error))
            return
        if (refusal := self._refuse(request)) is not None:
            if request.id is not None:
                await self.outbox.put(encode_error(request.id, refusal))
            return
        method = METHODS[request.method]
        if method.needs_id and request.is_notification:
            return
        while method.unlimited and self._unlimited >= MAX_UNLIMITED:
            await self._ended.park()
        self._dispatch(Call(request, method, len(line)))

    def _refuse(self, request: Request) -> errors.OutliveError | None:
        """What is wrong with a request before anything of it is done."""
        if request.id is not None and request.id in self._calls:
            return errors.InvalidRequest(f"cannot take request {request.id!r}: that id is in flight")
        method = METHODS.get(request.method)
        if method is None:
            return errors.MethodNotFound(f"cannot find method {request.method[:200]!r}")
        if not method.unlimited and self._limited >= wire.MAX_IN_FLIGHT:
            return errors.Overloaded(f"cannot take more than {wire.MAX_IN_FLIGHT} requests at once")
        return None

    def _dispatch(self, call: Call) -> None:
        if call.request.id is not None:
            self._calls[call.request.id] = call
        self._held_bytes += call.size
        if call.method.unlimited:
            self._unlimited += 1
        else:
            self._limited += 1
        self.nursery.start_soon(self._answer, call)

    async def _answer(self, call: Call) -> None:
        request_id = call.request.id
        try:
            line = await self._perform(call)
            if request_id is not None:
                del self._calls[request_id]
                await self.outbox.put(line)
            if call.after is not None:
                call.after()
        finally:
            self._held_bytes -= call.size
            if call.method.unlimited:
                self._unlimited -= 1
            else:
                self._limited -= 1
            self.note_ended()

    def note_ended(self) -> None:
        """A call or a subscription has ended: whoever waits for that looks again."""
        self._ended.unpark_all()

    async def _perform(self, call: Call) -> bytes:
        """The line that answers a call."""
        request_id = call.request.id if call.request.id is not None else 0
        try:
            if not call.method.cancellable:
                return _encode_bounded(request_id, await self._handle(call))
            with call.scope:
                return _encode_bounded(request_id, await self._handle(call))
            assert call.refusal is not None
            refusal = call.refusal
        except errors.OutliveError as error:
            refusal = error
        except (DatabaseLost, OwnershipLost) as error:
            refusal = errors.DatabaseUnavailable(f"cannot reach the database: {error}")
        except (Exception, BaseExceptionGroup) as error:
            if isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled) is not None:
                raise
            refusal = self._report(call, error)
        call.after = None  # what was refused has no sequel
        return encode_error(request_id, refusal)

    async def _handle(self, call: Call) -> Any:
        params = convert_params(call.method.params, call.request.params)
        return await self.handlers[call.method.name](self, params, call)

    def _report(self, call: Call, error: BaseException) -> errors.InternalError:
        incident = make_id()
        refused = isinstance(error, (QueryRefused, JournalRefused))
        log.error(
            "a request failed", incident=incident, method=call.method.name, refused=refused, exc_info=error
        )
        return errors.InternalError(
            f"cannot answer {call.method.name}: a bug of the daemon, in its log as incident {incident}",
            incident=incident,
        )

    def cancel_request(self, request_id: str | int) -> None:
        """The client does not want that answer any more."""
        if (call := self._calls.get(request_id)) is not None:
            call.cancel(errors.RequestCancelled(f"request {request_id!r} was cancelled"))


def _encode_bounded(request_id: str | int, result: Any) -> bytes:
    line = encode_result(request_id, result)
    if len(line) > wire.MAX_SERVER_LINE:
        raise errors.TooLarge(
            f"cannot answer in one line: {len(line)} bytes, the limit is {wire.MAX_SERVER_LINE}; tail the run instead"
        )
    return line
