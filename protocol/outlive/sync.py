"""The same client for scripts without ``async``: a call returns when its answer is there.

::

    from outlive.sync import connect

    with connect() as client:
        started = client.start(agent="demo", input="hello")
        for event in client.tail(started):
            ...

1. Nothing is done twice: an event loop in a thread of its own runs ``client.py`` and ``tail.py``; here is only the
   handing over.
2. Any number of threads may use one client. They may even share one tail: each event goes to one of them.
3. Ctrl-C leaves a waiting call at once and gives it up. A tail gives nothing up: going on with it misses nothing.

Not here: what the methods do, and what they raise (``client.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import partial, wraps
from os import PathLike
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from outlive import client, tail, wire
from outlive.client import PATIENCE_SECONDS, TIMEOUT_SECONDS, RunLike
from outlive.patience import Notice

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def connect(
    socket: str | PathLike[str] | None = None,
    *,
    timeout: float = TIMEOUT_SECONDS,
    patience: float = PATIENCE_SECONDS,
    notice: Notice | None = None,
) -> Iterator[Client]:
    """Connect as ``outlive.connect`` does. ``notice`` is called in the thread of the event loop."""
    connection = client.connect(socket, timeout=timeout, patience=patience, notice=notice)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(connection) as connected:
        yield Client(connected, portal)


def _blocking(
    method: Callable[Concatenate[client.Client, P], Awaitable[T]],
) -> Callable[Concatenate[Client, P], T]:
    @wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _perform(self._portal, partial(method, self._client, *args, **kwargs))

    return call


def _perform(portal: BlockingPortal, work: Callable[[], Awaitable[T]]) -> T:
    future = portal.start_task_soon(work)
    try:
        return _answer(future)
    finally:
        future.cancel()  # it is done, unless a signal made us leave: then nobody wants the answer any more


def _answer(future: Future[T]) -> T:
    try:
        return future.result()
    except CancelledError as error:
        raise RuntimeError("cannot wait any longer: the client, or the tail, was closed") from error


class Client:
    """A daemon's methods: those of ``outlive.Client``, with the same parameters, results and errors.

    Made by ``connect``. When its block is left, calls that other threads wait for end with RuntimeError.
    """

    def __init__(self, connected: client.Client, portal: BlockingPortal) -> None:
        self._client = connected
        self._portal = portal

    @property
    def path(self) -> Path:
        """The daemon's socket."""
        return self._client.path

    start = _blocking(client.Client.start)
    get = _blocking(client.Client.get)
    latest = _blocking(client.Client.latest)
    list_runs = _blocking(client.Client.list_runs)
    stop = _blocking(client.Client.stop)
    wait = _blocking(client.Client.wait)
    create_chat = _blocking(client.Client.create_chat)
    get_chat = _blocking(client.Client.get_chat)
    list_chats = _blocking(client.Client.list_chats)
    messages = _blocking(client.Client.messages)
    info = _blocking(client.Client.info)
    owners = _blocking(client.Client.owners)
    stats = _blocking(client.Client.stats)
    drain = _blocking(client.Client.drain)
    describe = _blocking(client.Client.describe)

    def tail(
        self,
        run: RunLike,
        *,
        after_seq: int | None = 0,
        workspace: str | None = None,
        follow: bool = True,
    ) -> Tail:
        """Iterate over a run's events as ``outlive.Client.tail`` does."""
        tailing = self._client.tail(run, after_seq=after_seq, workspace=workspace, follow=follow)
        return Tail(tailing, self._portal)


class Tail:
    """An iterator of events: ``outlive.Tail`` for one or more threads. Use ``with`` when leaving before the end."""

    def __init__(self, tailing: tail.Tail, portal: BlockingPortal) -> None:
        self._tail = tailing
        self._portal = portal
        self._turn = Lock()
        self._events: deque[wire.Event] = deque()
        self._coming: Future[list[wire.Event]] | None = None
        self.last_seq = tailing.last_seq

    @property
    def tailed(self) -> wire.RunTailed | None:
        """The daemon's first reply, with the snapshot if one was asked for."""
        return self._tail.tailed

    @property
    def end(self) -> wire.TailEnd | None:
        """How the tail ended."""
        return self._tail.end

    def __enter__(self) -> Self:
        _perform(self._portal, self._tail.__aenter__)
        self.last_seq = self._tail.last_seq
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> wire.Event:
        with self._turn:
            if not self._events:
                self._events.extend(self._receive())
            if not self._events:
                raise StopIteration
            event = self._events.popleft()
            self.last_seq = event.seq
            return event

    def close(self) -> None:
        """Close the tail's connection. The run does not notice; another thread's waiting ends with RuntimeError."""
        if self._coming is not None:
            self._coming.cancel()
        _perform(self._portal, self._tail.aclose)

    def _receive(self) -> list[wire.Event]:
        if self._coming is None:
            self._coming = self._portal.start_task_soon(self._tail.read)
        arrived = Event()  # not concurrent.futures.wait: older versions of anyio do not tell it of a cancel
        self._coming.add_done_callback(lambda _: arrived.set())
        arrived.wait()  # a signal may make us leave here: what comes then is there for the next call
        coming, self._coming = self._coming, None
        return _answer(coming)
