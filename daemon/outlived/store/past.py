"""What a run may know of what was before it in its chat: the messages, and its agent program's own session.

1. Everything here only looks; a session is kept by the journal, under the run's fence (``batches.py``).
2. A session belongs to a chat, an agent and a host: a program keeps its conversations where it is.
3. History is bounded in bytes and in rows; the newest message always fits.

Not here: who wants to know (``supervisor/past.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from outlive import wire
from outlived.store.postgres import LinkPool
from outlived.store.queries import load_queries
from outlived.store.rows import COLUMNS, read_message

SQL = load_queries("past.sql", COLUMNS)

HISTORY_BYTES = 1 << 20
HISTORY_MESSAGES = 1000


class NewSession(NamedTuple):
    """A session to keep; ``session_id`` None: forget the one that was kept. ``note`` is JSON text."""

    workspace: str
    chat_id: str
    agent: str
    host: str
    session_id: str | None
    note: str
    run_id: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What there is one session of."""
        return self.workspace, self.chat_id, self.agent


async def read_history(pool: LinkPool, workspace: str, chat_id: str, before: int) -> list[wire.Message]:
    """The chat's messages before that position, oldest first: the newest that fit."""
    params = {
        "workspace": workspace, "chat_id": chat_id, "before_position": before, "bytes": HISTORY_BYTES,
        "limit": HISTORY_MESSAGES,
    }  # fmt: skip
    return [read_message(row).message for row in await pool.query(SQL["read_history"], params)]


async def read_last_finished_step(pool: LinkPool, run_id: str) -> int:
    """The highest number of a step that is done in the log, kept or not; 0 if none is."""
    [(number,)] = await pool.query(SQL["read_last_finished_step"], {"run_id": run_id})
    return int(number or 0)


async def read_session(
    pool: LinkPool, workspace: str, chat_id: str, agent: str, host: str
) -> tuple[str, dict[str, object]] | None:
    """The id and the note of the session that was kept."""
    params = {"workspace": workspace, "chat_id": chat_id, "agent": agent, "host": host}
    rows = await pool.query(SQL["read_session"], params)
    return (rows[0][0], msgspec.json.decode(rows[0][1])) if rows else None
