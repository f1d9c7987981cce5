"""Connections to Postgres from Trio; the only file that knows how psycopg waits.

psycopg's asynchronous classes are built on generators that say what they wait for; only ``wait`` touches an
event loop. ``TrioConnection`` overrides that one method. Two things measured here are worth keeping:

- waiting for "readable or writable" asks the kernel first (``poll`` with timeout 0) and opens a nursery only
  if neither is true: a pipeline of five statements takes 175 us instead of 830 us;
- a plain ``SELECT`` takes 77 us over a Unix socket.

Rules:
1. Whatever interrupts a query - a cancel, a deadline, an error - closes its connection; it is never used again.
2. Every call has a client-side deadline, in seconds, besides the server's own timeouts.
3. A transaction pooler may stand in between: then nothing is prepared and no session state is kept. Whether one
   does is asked at connect: a pooler gives its clients another backend's number than the backend's own.
4. The rest of the daemon sees two errors: ``DatabaseLost`` (try again later; the outcome of a commit may be
   unknown) and ``QueryRefused`` (the database answered, and the answer is no).

Not here: SQL (``sql/``), and which purposes there are (``store/__init__.py``).
"""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, LiteralString, TypeVar

import psycopg
import trio
from psycopg import conninfo
from psycopg.abc import Buffer, PQGen
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.string import TextLoader
from psycopg.waiting import Ready, Wait

T = TypeVar("T")

CONNECT_SECONDS = 5.0
QUERY_SECONDS = 10.0


class DatabaseLost(Exception):
    """The database cannot be reached, or went away in the middle. Retry; a commit may have happened."""


class QueryRefused(Exception):
    """The database refused a statement: a conflict, a deadlock, a timeout, bad data, or a bug of ours.

    ``passing``: the same statement may succeed later, for the refusal was about what others did at that moment.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class WireTimeLoader(TimestamptzLoader):
    """Times leave the database as they go over the wire: RFC 3339, UTC, microseconds, ``Z``.

    Where the session's time zone is UTC the text is nearly that already; making a datetime of it and a text again
    was half of the time of re-reading a log.
    """

    def load(self, data: Buffer) -> Any:
        text = bytes(data)
        if text[-3:] == b"+00" and text[10:11] == b" " and 22 <= len(text) <= 29:
            fraction = text[20:-3].ljust(6, b"0")
            return (b"%bT%b.%bZ" % (text[:10], text[11:19], fraction)).decode()
        return write_time(super().load(data))


def write_time(moment: datetime) -> str:
    """An aware datetime as the wire writes it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class TrioConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A psycopg connection whose waiting is Trio's.

    ``direct``: no pooler stands in between; ``prepared``: names of the statements this session has (``exchange.py``).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = trio.Lock()  # type: ignore[assignment]
        self.direct = False
        self.prepared: set[bytes] = set()

    async def wait(self, gen: PQGen[T], interval: float = 0, timeout: float | None = None) -> T:  # noqa: ARG002
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send(await _wait_for(self.pgconn.socket, wanted))
        except StopIteration as end:
            result: T = end.value
            return result
        except BaseException:
            self.pgconn.finish()
            _abandon(gen)
            raise


def _abandon(gen: PQGen[T]) -> None:
    """End a generator whose connection is gone; leaving a pipeline it would wait once more on the way out."""
    for _ in range(3):
        try:
            gen.close()
        except RuntimeError:
            continue  # it did wait
        except psycopg.Error:
            pass  # what it had to clean up is gone with the connection
        return


async def _wait_for(fd: int, wanted: Wait) -> Ready:
    if wanted is Wait.R:
        await trio.lowlevel.wait_readable(fd)
        return Ready.R
    if wanted is Wait.W:
        await trio.lowlevel.wait_writable(fd)
        return Ready.W
    return _look(fd) or await _wait_for_either(fd)


def _look(fd: int) -> Ready | None:
    """What is true of ``fd`` at this moment."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT)
    answer = poll.poll(0)
    if not answer:
        return None
    events = answer[0][1]
    readable = Ready.R if events & ~select.POLLOUT else 0  # a hang-up or an error is read
    return Ready(readable | (Ready.W if events & select.POLLOUT else 0))


async def _wait_for_either(fd: int) -> Ready:
    ready = 0

    async def wait_one(wait: Callable[[int], Awaitable[None]], flag: Ready) -> None:
        nonlocal ready
        await wait(fd)
        ready |= flag
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_one, trio.lowlevel.wait_readable, Ready.R)
        nursery.start_soon(wait_one, trio.lowlevel.wait_writable, Ready.W)
    return Ready(ready)


async def connect(dsn: str, purpose: str) -> TrioConnection:
    """Open one connection in autocommit mode. Raises DatabaseLost, which says for whom and why."""
    try:
        params = conninfo.conninfo_to_dict(
            dsn, application_name=f"outlived {purpose}", client_encoding="UTF8"
        )
        params.setdefault("target_session_attrs", "read-write")
        with trio.fail_after(CONNECT_SECONDS):
            connection = await _drive_connect(conninfo.make_conninfo("", **await _resolve(params)))
    except (psycopg.Error, trio.TooSlowError, OSError) as error:
        raise DatabaseLost(f"cannot connect to the database ({purpose}): {_one_line(error)}") from error
    connection.prepare_threshold = None
    connection.adapters.register_loader("uuid", TextLoader)
    connection.adapters.register_loader("timestamptz", WireTimeLoader)
    return connection


async def _resolve(params: dict[str, Any]) -> dict[str, Any]:
    """Give every host name its addresses, so that libpq does not block the loop to look them up."""
    hosts = str(params.get("host") or "").split(",")
    if params.get("hostaddr") or all(not host or host[0] in "/@" for host in hosts):
        return params
    ports = str(params.get("port") or "5432").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    attempts = [(host, await _find_addresses(host), port) for host, port in zip(hosts, ports, strict=True)]
    flat = [(host, address, port) for host, addresses, port in attempts for address in addresses]
    names = ("host", "hostaddr", "port")
    return {
        **params,
        **{name: ",".join(column) for name, column in zip(names, zip(*flat, strict=True), strict=True)},
    }


async def _find_addresses(host: str) -> list[str]:
    if not host or host[0] in "/@":
        return [""]
    found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


async def _drive_connect(info: str) -> TrioConnection:
    gen = TrioConnection._connect_gen(info)  # noqa: SLF001 - the seam this file is for
    try:
        fd, wanted = next(gen)
        while True:
            fd, wanted = gen.send(await _wait_for(fd, wanted))
    except StopIteration as end:
        connection: TrioConnection = end.value
    try:
        await connection.set_autocommit(True)
        asked = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
        connection.direct = asked == (connection.pgconn.backend_pid,)
        if not (connection.info.parameter_status("DateStyle") or "").startswith("ISO"):
            # psycopg reads no other style. This one setting a transaction pooler keeps for each client.
            await connection.execute("SET datestyle = 'ISO'")
    except BaseException:  # nobody else knows of it yet
        connection.pgconn.finish()
        raise
    return connection


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@asynccontextmanager
async def _take_turn(turn: trio.Lock | trio.Semaphore, seconds: float, purpose: str) -> AsyncIterator[None]:
    """Hold ``turn``; waiting for it has a deadline of its own, so that a queue is not taken for a slow query."""
    try:
        turn.acquire_nowait()
    except trio.WouldBlock:
        with trio.move_on_after(seconds) as waiting:
            await turn.acquire()
        if waiting.cancelled_caught:
            raise DatabaseLost(f"cannot get a turn at the database in time ({purpose})") from None
    try:
        yield
    finally:
        turn.release()


class Link:
    """One connection for one purpose, opened when it is needed and again after it failed."""

    def __init__(self, dsn: str, purpose: str) -> None:
        self._dsn = dsn
        self._purpose = purpose
        self._lock = trio.Lock()
        self._connection: TrioConnection | None = None

    @staticmethod
    def _hung_up(connection: TrioConnection) -> bool:
        """Whether the server has spoken on an idle connection: it says nothing there but goodbye."""
        ready = _look(connection.pgconn.socket)
        return ready is not None and bool(ready & Ready.R)

    @asynccontextmanager
    async def use(self, seconds: float = QUERY_SECONDS) -> AsyncIterator[TrioConnection]:
        """The connection, for one exchange of at most ``seconds``. Raises DatabaseLost, QueryRefused."""
        async with _take_turn(self._lock, seconds, self._purpose):
            try:
                with trio.fail_after(seconds):
                    if self._connection is None or self._connection.closed or self._hung_up(self._connection):
                        self.close()
                        self._connection = await connect(self._dsn, self._purpose)
                    yield self._connection
            except BaseException as error:
                self.close()
                if (meaning := _translate(error, self._purpose)) is None:
                    raise
                raise meaning from error

    async def query(
        self, sql: LiteralString, params: dict[str, Any] | None = None, seconds: float = QUERY_SECONDS
    ) -> list[tuple[Any, ...]]:
        """Run one statement on its own; the rows of its result."""
        async with self.use(seconds) as connection:
            cursor = await connection.execute(sql, params)
            return await cursor.fetchall() if cursor.description else []

    async def transact(
        self, statements: Sequence[tuple[LiteralString, dict[str, Any]]], seconds: float = QUERY_SECONDS
    ) -> list[list[tuple[Any, ...]]]:
        """Run statements in one transaction and one round trip; the rows of each."""
        async with self.use(seconds) as connection:
            async with connection.pipeline():
                await connection.execute("BEGIN")
                await connection.execute(LIMIT_TIME)
                cursors = [await connection.execute(sql, params) for sql, params in statements]
                await connection.execute("COMMIT")
            return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]

    def close(self) -> None:
        """Hang up; the next use connects anew."""
        if self._connection is not None:
            self._connection.pgconn.finish()
            self._connection = None


LIMIT_TIME: LiteralString = (
    "SELECT set_config('lock_timeout', '2000', true), set_config('statement_timeout', '8000', true),"
    " set_config('idle_in_transaction_session_timeout', '8000', true)"
)


def _translate(error: BaseException, purpose: str) -> DatabaseLost | QueryRefused | None:
    if isinstance(error, (trio.TooSlowError, psycopg.InterfaceError)):
        return DatabaseLost(f"cannot hear from the database in time ({purpose}): {_one_line(error)}")
    if isinstance(error, psycopg.OperationalError) and _means_lost(error):
        return DatabaseLost(f"cannot go on with the database ({purpose}): {_one_line(error)}")
    if isinstance(error, UnicodeError):  # bad data, noticed on our side
        return QueryRefused(f"cannot send this to the database ({purpose}): {_one_line(error)}")
    if isinstance(error, psycopg.Error):
        passing = (error.sqlstate or "").startswith((*_CROWDED, _CONFLICT))
        return QueryRefused(
            f"cannot do this in the database ({purpose}): {_one_line(error)}", passing=passing
        )
    return None


_CROWDED = ("40", "55", "57014")  # deadlock and serialization, lock timeout, statement timeout
_CONFLICT = "23505"  # somebody else's row came first: it can be seen now


def _means_lost(error: psycopg.OperationalError) -> bool:
    """Without a SQLSTATE the connection broke; most with one mean that the server is going or coming."""
    return error.sqlstate is None or not error.sqlstate.startswith(_CROWDED)


class LinkPool:
    """A few links for one purpose; a caller waits for a free one."""

    def __init__(self, dsn: str, purpose: str, size: int) -> None:
        self._purpose = purpose
        self._free = [Link(dsn, f"{purpose} {number}") for number in range(1, size + 1)]
        self._all = list(self._free)
        self._turn = trio.Semaphore(size)

    async def query(
        self, sql: LiteralString, params: dict[str, Any] | None = None, seconds: float = QUERY_SECONDS
    ) -> list[tuple[Any, ...]]:
        """Run one statement on a free link; waits for one at most ``seconds``."""
        async with _take_turn(self._turn, seconds, self._purpose):
            link = self._free.pop()
            try:
                return await link.query(sql, params, seconds)
            finally:
                self._free.append(link)

    def close(self) -> None:
        """Hang up on all of them."""
        for link in self._all:
            link.close()
