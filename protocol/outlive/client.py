"""The client: every method of the contract as a typed function, and what to do when the daemon goes away.

1. Replies become wire types, errors the classes of ``errors.py``.
2. A call that may be repeated is repeated after a lost connection and after retryable errors, until ``patience`` seconds
   have passed. ``start`` always may: it sends an idempotency key of its own when none is given, so a second attempt
   finds the first one's run. Only ``create_chat`` without a ``chat_id`` may not.
3. Calls share one connection. It lives as long as the client, because ``detached=False`` runs end with it. Every
   tail has its own (``tail.py`` says why).

Not here: sockets (``connection.py``), lines (``peer.py``), the same without ``async`` (``sync.py``), the command line
(``cli``).
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from weakref import WeakSet

import anyio
import attrs
import msgspec

from outlive import wire
from outlive.connection import Calls, Connection, ConnectionLost
from outlive.errors import OutliveError
from outlive.patience import Notice, Patience
from outlive.peer import understand
from outlive.places import socket_path
from outlive.tail import Tail

T = TypeVar("T", bound=attrs.AttrsInstance | msgspec.Struct)
RunLike: TypeAlias = str | wire.Run | wire.RunStarted

TIMEOUT_SECONDS = 30.0
PATIENCE_SECONDS = 30.0


@asynccontextmanager
async def connect(
    socket: str | PathLike[str] | None = None,
    *,
    timeout: float = TIMEOUT_SECONDS,
    patience: float = PATIENCE_SECONDS,
    notice: Notice | None = None,
) -> AsyncIterator[Client]:
    """Connect to the daemon at ``socket``, else at the usual place.

    ``timeout`` is how many seconds a single answer may take, ``patience`` how many a lost daemon is waited for (0: not at
    all), ``notice`` is called with a sentence when it is lost and when it is back. Raises Unreachable, ValueError.
    """
    client = Client(socket_path(socket), timeout=timeout, patience=patience, notice=notice)
    try:
        await client.open()
        yield client
    finally:
        await client.aclose()


class Client:
    """A daemon's methods. Any number of tasks may use one client at once.

    Calls raise the daemon's errors (``errors.py``), ConnectionLost after the patience, TimeoutError when an answer takes too
    long, and BrokenPeer when the daemon says what this client does not understand. A run is given as its id,
    as a Run, or as what ``start`` returned.
    """

    def __init__(
        self,
        path: Path,
        *,
        timeout: float = TIMEOUT_SECONDS,
        patience: float = PATIENCE_SECONDS,
        notice: Notice | None = None,
    ) -> None:
        self.path = path
        self._timeout = timeout
        self._patience = patience
        self._notice = notice
        self._calls: Calls | None = None
        self._connecting = anyio.Lock()
        self._tailing: WeakSet[Connection] = WeakSet()
        self._closed = False

    async def open(self) -> None:
        """Connect now, to learn early whether anybody is there. Raises Unreachable."""
        await self._connected()

    async def aclose(self) -> None:
        """Close every connection, those of open tails too. Runs started with ``detached=False`` end."""
        self._closed = True
        for connection in list(self._tailing):
            await connection.aclose()
        if self._calls is not None:
            await self._calls.aclose()

    # ------------------------------------------------------------ runs

    async def start(
        self,
        *,
        agent: str | None = None,
        command: list[str] | None = None,
        input: str | list[dict[str, Any]] = "",  # noqa: A002 - the wire's word
        chat_id: str | None = None,
        workspace: str = "default",
        trigger: wire.StartTrigger = "user",
        on_active: wire.OnActive = "reject",
        idempotency_key: str | None = None,
        detached: bool = True,
        on_owner_loss: wire.OwnerLoss = "abort",
        created_by: str | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> wire.RunStarted:
        """Start an agent, or a command; ``created`` is false when your key or ``join`` found a run.

        With ``detached=False`` the run ends with this client, or with its connection if that is lost.
        """
        params = wire.RunStartParams(
            agent=agent,
            command=command,
            input=input,
            chat_id=chat_id,
            workspace=workspace,
            trigger=trigger,
            on_active=on_active,
            idempotency_key=str(uuid.uuid4()) if idempotency_key is None else idempotency_key,
            detached=detached,
            on_owner_loss=on_owner_loss,
            created_by=created_by,
            cwd=cwd,
            env=env,
            metadata=metadata,
        )
        started = await self._ask("run/start", params, wire.RunStarted)
        if idempotency_key is None and on_active == "reject":
            return attrs.evolve(
                started, created=True
            )  # who else had that key? An earlier attempt of this call
        return started

    async def get(self, run: RunLike, *, workspace: str | None = None) -> wire.RunFound:
        """A run and its assistant message."""
        return await self._ask("run/get", wire.RunIdParams(run_id(run), workspace), wire.RunFound)

    async def latest(self, chat_id: str, *, workspace: str = "default") -> wire.RunAndMessage:
        """A chat's newest run and its assistant message, both None when there is none."""
        return await self._ask("run/latest", wire.RunLatestParams(chat_id, workspace), wire.RunAndMessage)

    async def list_runs(
        self,
        *,
        workspace: str | None = None,
        chat_id: str | None = None,
        status: list[wire.Status] | None = None,
        agent: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> wire.RunPage:
        """One page of runs, newest first; give its ``next_cursor`` for the next page."""
        params = wire.RunListParams(workspace, chat_id, status, agent, limit, cursor)
        return await self._ask("run/list", params, wire.RunPage)

    async def stop(
        self,
        run: RunLike | None = None,
        *,
        chat_id: str | None = None,
        workspace: str | None = None,
        reason: str | None = None,
        wait_seconds: float = 0.0,
    ) -> wire.RunStopped:
        """Ask a run (or a chat's active one) to stop, and wait up to ``wait_seconds`` for its end."""
        params = wire.RunStopParams(
            None if run is None else run_id(run), chat_id, workspace, reason, wait_seconds
        )
        return await self._ask("run/stop", params, wire.RunStopped, extra=wait_seconds)

    async def wait(
        self, run: RunLike, *, workspace: str | None = None, timeout_seconds: float | None = None
    ) -> wire.RunWaited:
        """Return when the run is settled, or after ``timeout_seconds`` with ``settled=False``."""
        started = anyio.current_time()

        async def attempt() -> wire.RunWaited:
            left = None
            if timeout_seconds is not None:
                left = max(0.0, timeout_seconds - (anyio.current_time() - started))
            params = wire.RunWaitParams(run_id(run), workspace, left)
            return await self._ask_once("run/wait", params, wire.RunWaited, extra=left)

        return await self._persist(attempt)

    def tail(
        self,
        run: RunLike,
        *,
        after_seq: int | None = 0,
        workspace: str | None = None,
        follow: bool = True,
    ) -> Tail:
        """Iterate over a run's events after ``after_seq``, and on as they happen until the run is settled.

        ``after_seq=None`` starts at a snapshot: ``async with`` the tail, read ``tail.tailed``, then iterate. With
        ``follow=False`` the tail ends when it has caught up.
        """
        params = wire.RunTailParams(run_id(run), workspace, after_seq, follow)
        patience = Patience(self._patience, self._notice)
        return Tail(self._connect_for_a_tail, given(params), timeout=self._timeout, patience=patience)

    # ------------------------------------------------------------ chats

    async def create_chat(
        self,
        chat_id: str | None = None,
        *,
        workspace: str = "default",
        title: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> wire.ChatCreated:
        """Make a chat, or return the one that is there."""
        params = wire.ChatCreateParams(chat_id, workspace, title, metadata)
        if chat_id is None:
            return await self._ask_once("chat/create", params, wire.ChatCreated)
        return await self._ask("chat/create", params, wire.ChatCreated)

    async def get_chat(self, chat_id: str, *, workspace: str = "default") -> wire.Chat:
        """One chat."""
        found = await self._ask("chat/get", wire.ChatGetParams(chat_id, workspace), wire.ChatFound)
        return found.chat

    async def list_chats(
        self, *, workspace: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> wire.ChatPage:
        """One page of chats, most recently active first."""
        return await self._ask("chat/list", wire.ChatListParams(workspace, limit, cursor), wire.ChatPage)

    async def messages(
        self, chat_id: str, *, workspace: str = "default", limit: int = 50, cursor: str | None = None
    ) -> wire.MessagePage:
        """One page of a chat's messages, oldest first."""
        params = wire.ChatMessagesParams(chat_id, workspace, limit, cursor)
        return await self._ask("chat/messages", params, wire.MessagePage)

    # ------------------------------------------------------------ the daemon

    async def info(self) -> wire.ServerInfo:
        """Who answers, what it allows, and which agents it has."""
        return await self._ask("server/info", wire.NoParams(), wire.ServerInfo)

    async def owners(self) -> list[wire.OwnerInfo]:
        """The daemons that share the database, the living first."""
        return (await self._ask("server/owners", wire.NoParams(), wire.OwnerList)).owners

    async def stats(self) -> wire.ServerStats:
        """How the daemon is doing: gauges, totals since its start, quantiles of the last minutes."""
        return await self._ask("server/stats", wire.NoParams(), wire.ServerStats)

    async def drain(self, grace_seconds: float | None = None) -> wire.ServerDraining:
        """Have the daemon start nothing more and end its runs; it stays. For its own user and root."""
        params = wire.ServerDrainParams(grace_seconds)
        return await self._ask("server/drain", params, wire.ServerDraining)

    async def describe(self, method: str | None = None) -> wire.ServerDescription:
        """The contract that the daemon serves, of one method or of all, as JSON Schema."""
        return await self._ask("server/describe", wire.ServerDescribeParams(method), wire.ServerDescription)

    # ------------------------------------------------------------ asking

    async def _ask(
        self, method: str, params: attrs.AttrsInstance, result: type[T], *, extra: float = 0.0
    ) -> T:
        return await self._persist(lambda: self._ask_once(method, params, result, extra=extra))

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        patience = Patience(self._patience, self._notice)
        while True:
            try:
                answer = await attempt()
            except (ConnectionLost, OutliveError) as error:
                await patience.wait(error)
            else:
                patience.connected("connected again")
                return answer

    async def _ask_once(
        self, method: str, params: attrs.AttrsInstance, result: type[T], *, extra: float | None = 0.0
    ) -> T:
        """``extra`` seconds are what the daemon itself was asked to wait; None is for ever."""
        limit = None if extra is None else self._timeout + extra
        try:
            with anyio.fail_after(limit):
                calls = await self._connected()
                return understand(result, await calls.call(method, given(params)))
        except TimeoutError as error:
            raise TimeoutError(f"cannot get an answer to {method} from {self.path} in {limit} s") from error

    async def _connected(self) -> Calls:
        async with self._connecting:
            if self._calls is None or self._calls.lost is not None:
                if self._calls is not None:
                    await self._calls.aclose()
                self._calls = Calls(await self._connect())
            return self._calls

    async def _connect_for_a_tail(self) -> Connection:
        connection = await self._connect()
        self._tailing.add(connection)
        return connection

    async def _connect(self) -> Connection:
        self._check_open()
        connection = await Connection.open(self.path)
        try:
            self._check_open()
        except RuntimeError:
            await connection.aclose()
            raise
        return connection

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"cannot use the client of {self.path}: it is closed")


def run_id(run: RunLike) -> str:
    """The id of whatever names a run."""
    if isinstance(run, wire.RunStarted):
        return run.run.id
    return run.id if isinstance(run, wire.Run) else run


def given(params: attrs.AttrsInstance) -> dict[str, Any]:
    """Only what differs from its default is sent: an older daemon refuses fields it does not know."""
    fields = attrs.fields(type(params))
    return {field.name: value for field in fields if (value := getattr(params, field.name)) != field.default}
