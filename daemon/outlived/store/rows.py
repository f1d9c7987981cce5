"""Rows and what they are outside: the column lists, and the wire objects made from them.

1. A column list and the function that reads it stand together; SQL names the list, never the columns.
2. JSON columns are text; they are decoded here and nowhere else.

Not here: statements (``sql/runs.sql``), folding a message's later events (``reads.py``).
"""

from __future__ import annotations

from typing import Any

import attrs
import msgspec

from outlive import wire

Row = tuple[Any, ...]

_RUN = (
    "id", "workspace", "chat_id", "position", "agent", "command", "status", "trigger", "created_by", "message_id",
    "attempt", "epoch", "owner", "step_count", "first_seq", "last_seq", "error", "input_tokens", "output_tokens",
    "cached_tokens", "cost_micro_usd", "metadata", "detached", "on_owner_loss", "stop_requested_at", "stop_reason",
    "created_at", "started_at", "finished_at", "updated_at",
)  # fmt: skip
_MESSAGE = (
    "id", "chat_id", "run_id", "position", "role", "status", "content", "truncated", "parts", "created_at",
    "updated_at", "as_of_seq",
)  # fmt: skip

RUN_WIDTH = len(_RUN)

COLUMNS = {
    "run_columns": ", ".join(f"r.{name}" for name in _RUN),
    "message_columns": ", ".join(f"m.{name}" for name in _MESSAGE),
    "chat_columns": """c.chat_id, c.workspace, c.title, c.metadata, c.created_at, c.active_at,
        (SELECT r.id FROM outlived.runs r
         WHERE r.workspace = c.workspace AND r.chat_id = c.chat_id AND r.status IN {active}),
        (SELECT r.id FROM outlived.runs r
         WHERE r.workspace = c.workspace AND r.chat_id = c.chat_id ORDER BY r.position DESC LIMIT 1)""",
}


@attrs.frozen
class StoredMessage:
    """A message as it is stored: a run's later events are still to be folded in."""

    message: wire.Message
    as_of_seq: int


def read_run(row: Row) -> wire.Run:
    """A run from ``{run_columns}``."""
    named = dict(zip(_RUN, row[:RUN_WIDTH], strict=True))
    named["usage"] = wire.Usage(**{field.name: named.pop(field.name) for field in attrs.fields(wire.Usage)})
    for column in ("command", "error", "metadata"):
        if named[column] is not None:
            named[column] = msgspec.json.decode(named[column])
    return wire.Run(**named)


def read_message(row: Row) -> StoredMessage:
    """A message from ``{message_columns}``."""
    named = dict(zip(_MESSAGE, row, strict=True))
    as_of_seq = named.pop("as_of_seq")
    named["parts"] = msgspec.json.decode(named["parts"])
    return StoredMessage(wire.Message(**named), as_of_seq)


def read_chat(row: Row) -> wire.Chat:
    """A chat from ``{chat_columns}``; its last start counts as its last change."""
    chat_id, workspace, title, metadata, created_at, active_at, active_run_id, last_run_id = row
    return wire.Chat(
        id=chat_id,
        workspace=workspace,
        title=title,
        metadata=msgspec.json.decode(metadata),
        active_run_id=active_run_id,
        last_run_id=last_run_id,
        created_at=created_at,
        updated_at=active_at,
    )
