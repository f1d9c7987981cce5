"""What is so: runs, chats, messages and events as anyone may read them.

1. Reading changes nothing and takes no locks; every answer is one statement, one snapshot.
2. A message is the stored one with the run's later events folded in: it is never behind the row it comes with.
3. A page is bounded in rows by the caller and in bytes here.
4. A log may be settled and pruned between a message and its later events: then both are read again, and complete.

Not here: who may read what (``server``), writing (``batches.py``), live events (``journal/hub.py``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, LiteralString, NamedTuple, TypeVar

import attrs
import msgspec

from outlive import wire
from outlived.rules import message as rules_message
from outlived.rules.run import TERMINAL, Event
from outlived.store.postgres import LinkPool
from outlived.store.queries import load_queries
from outlived.store.rows import COLUMNS, RUN_WIDTH, StoredMessage, read_chat, read_message, read_run

SQL = load_queries("runs.sql", COLUMNS)
T = TypeVar("T")

PAGE_BYTES = 8 << 20
EVENT_PAGE_ROWS = 1000
EVENT_PAGE_BYTES = 256 << 10
SHAPING_PAGE_BYTES = 1 << 20
EVENT_BYTES = 300
"""What an event weighs in a page besides its data: about the rest of its line on the wire."""


class LoggedEvent(NamedTuple):
    """A row of a log as a tail passes it on: ``data`` is JSON text, byte for byte as stored."""

    seq: int
    at: str
    type: str
    data: str


@attrs.frozen
class Progress:
    """How far a run's log is, and whose it is."""

    last_seq: int
    settled: bool
    owner: str | None


@attrs.frozen
class Page(Generic[T]):
    """Some rows of a list; ``more``: there are others behind them. A few very large rows make a short page."""

    rows: list[T]
    more: bool


def _is_cut(rows: list[tuple[Any, ...]], limit: int) -> bool:
    """Whether rows were left out; their last column says how many there would be without a bound in bytes."""
    return len(rows) > limit or (bool(rows) and len(rows) < rows[0][-1])


@attrs.frozen
class Reads:
    """The reading side of the store. ``message_limit``: bytes a message may hold."""

    pool: LinkPool
    message_limit: int

    async def get_run(self, run_id: str) -> wire.Run | None:
        rows = await self.pool.query(SQL["read_run"], {"run_id": run_id})
        return read_run(rows[0]) if rows else None

    async def get_run_and_message(self, run_id: str) -> tuple[wire.Run, wire.Message] | None:
        return await self._read_complete(SQL["read_run_and_message"], {"run_id": run_id})

    async def get_latest(self, workspace: str, chat_id: str) -> tuple[wire.Run, wire.Message] | None:
        return await self._read_complete(SQL["read_latest"], {"workspace": workspace, "chat_id": chat_id})

    async def find_stoppable(self, workspace: str, chat_id: str) -> str | None:
        """The id of the chat's active run, else of its latest."""
        rows = await self.pool.query(SQL["read_stoppable"], {"workspace": workspace, "chat_id": chat_id})
        return rows[0][0] if rows else None

    async def list_runs(
        self,
        *,
        workspace: str | None,
        allowed: list[str] | None = None,
        chat_id: str | None,
        statuses: list[str] | None,
        agent: str | None,
        before: str | None,
        limit: int,
    ) -> Page[wire.Run]:
        """Newest first, before the run ``before``; only of the ``allowed`` workspaces, if not of all."""
        params = {
            "workspace": workspace,
            "allowed": allowed,
            "chat_id": chat_id,
            "statuses": statuses,
            "agent": agent,
            "before": before,
            "limit": limit + 1,
            "bytes": PAGE_BYTES,
        }
        rows = await self.pool.query(SQL["list_runs"], params)
        return Page([read_run(row) for row in rows[:limit]], more=_is_cut(rows, limit))

    async def get_chat(self, workspace: str, chat_id: str) -> wire.Chat | None:
        rows = await self.pool.query(SQL["read_chat"], {"workspace": workspace, "chat_id": chat_id})
        return read_chat(rows[0]) if rows else None

    async def list_chats(
        self,
        *,
        workspace: str | None,
        allowed: list[str] | None = None,
        after: tuple[datetime, str, str] | None,
        limit: int,
    ) -> Page[wire.Chat]:
        """Most recently active first, after the chat (time, workspace, id) ``after``; of ``allowed`` workspaces."""
        at, after_workspace, after_chat = after or (None, None, None)
        params = {
            "workspace": workspace,
            "allowed": allowed,
            "at": at,
            "after_workspace": after_workspace,
            "after_chat": after_chat,
            "limit": limit + 1,
        }
        rows = await self.pool.query(SQL["list_chats"], params)
        return Page([read_chat(row) for row in rows[:limit]], more=len(rows) > limit)

    async def list_messages(
        self, *, workspace: str, chat_id: str, after: int, limit: int
    ) -> Page[wire.Message]:
        """Oldest first, after position ``after``."""
        params = {
            "workspace": workspace,
            "chat_id": chat_id,
            "after": after,
            "limit": limit + 1,
            "bytes": PAGE_BYTES,
        }
        while True:
            rows = await self.pool.query(SQL["list_messages"], params)
            found = [await self._fold(read_message(row[:-2]), row[-2]) for row in rows[:limit]]
            messages = [message for message in found if message is not None]
            if len(messages) == len(found):
                return Page(messages, more=_is_cut(rows, limit))

    async def list_events(
        self, run_id: str, after: int, limit: int = EVENT_PAGE_ROWS, size: int = EVENT_PAGE_BYTES
    ) -> list[LoggedEvent]:
        """One page of a log, from ``after`` (exclusive), of about ``size`` bytes; empty at its end."""
        params = {
            "run_id": run_id, "after": after, "limit": limit, "bytes": min(size, EVENT_PAGE_BYTES),
            "each": EVENT_BYTES,
        }  # fmt: skip
        return [LoggedEvent(*row) for row in await self.pool.query(SQL["read_events"], params)]

    async def read_first_seq(self, run_id: str) -> int:
        """From where on the log of a run is kept; one after its end where nothing is."""
        [(first_seq,)] = await self.pool.query(SQL["read_first_seq"], {"run_id": run_id})
        return int(first_seq)

    async def read_progress(self, run_ids: list[str]) -> dict[str, Progress]:
        rows = await self.pool.query(SQL["read_progress"], {"ids": run_ids})
        return {
            run_id: Progress(last_seq, status in TERMINAL, owner) for run_id, last_seq, status, owner in rows
        }

    async def _read_complete(
        self, sql: LiteralString, params: dict[str, Any]
    ) -> tuple[wire.Run, wire.Message] | None:
        while rows := await self.pool.query(sql, params):
            run = read_run(rows[0])
            message = await self._fold(read_message(rows[0][RUN_WIDTH:]), run.last_seq)
            if message is not None:
                return run, message
        return None

    async def _fold(self, stored: StoredMessage, upto: int | None) -> wire.Message | None:
        """The message as of ``upto``: what was stored, and what the log says since, until the message is full.

        None: some of that is pruned by now.
        """
        message = stored.message
        if message.role != "assistant" or upto is None or stored.as_of_seq >= upto or message.truncated:
            return message
        draft = rules_message.restore(
            message.parts, truncated=message.truncated, as_of_seq=stored.as_of_seq, limit=self.message_limit
        )
        after, more = stored.as_of_seq, True
        while more and not draft.truncated:
            params = {
                "run_id": message.run_id, "after": after, "upto": upto, "types": sorted(rules_message.SHAPING),
                "limit": EVENT_PAGE_ROWS, "bytes": SHAPING_PAGE_BYTES,
            }  # fmt: skip
            rows = await self.pool.query(SQL["read_shaping_events"], params)
            if not rows or rows[0][0] > after + 1:
                return None
            for _, seq, at, type_, data, _ in rows:
                if seq is not None:
                    draft.add(Event(seq, at, type_, msgspec.json.decode(data)))
                    after = seq
            found = rows[0][-1] or 0
            more = found == EVENT_PAGE_ROWS or len(rows) < found
        parts = draft.parts
        return attrs.evolve(
            message, content=rules_message.read_content(parts), parts=parts, truncated=draft.truncated
        )
