"""Making a chat by itself; a start makes its chat in the journal's batch."""

from __future__ import annotations

from typing import Any

import msgspec

from outlived.store.postgres import Link
from outlived.store.queries import load_queries
from outlived.store.rows import COLUMNS

SQL = load_queries("runs.sql", COLUMNS)


async def create(
    link: Link, workspace: str, chat_id: str, title: str | None, metadata: dict[str, Any]
) -> bool:
    """Insert the chat; False if it was there."""
    params = {
        "workspace": workspace,
        "chat_id": chat_id,
        "title": title,
        "metadata": msgspec.json.encode(metadata).decode(),
    }
    [rows] = await link.transact([(SQL["create_chat"], params)])
    return bool(rows)
