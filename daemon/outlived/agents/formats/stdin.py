"""What a program is told on its stdin.

1. ``text`` and the formats of other people's programs: the text of the input, as it is.
2. ``jsonl``: one line, one JSON object: ``run``, ``input`` (its text), ``parts`` (the input as it was given, in parts)
   and ``history``, the chat's messages before this run as ``chat/messages`` shows them, oldest first.
3. The object only ever grows fields.

Not here: how much history there is (``desk.history``), how a session is continued (``sessions.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from outlive import wire
from outlived.agents import Assignment

TOLD_ALL = frozenset({"jsonl", "python"})
"""The formats whose programs are told of the run and its chat's history."""


@attrs.frozen(slots=False)
class RunGiven:
    """The run, as its agent is told of it."""

    id: str
    workspace: str
    chat_id: str
    attempt: int
    metadata: dict[str, Any]


@attrs.frozen(slots=False)
class Given:
    """What a ``jsonl`` agent reads."""

    run: RunGiven
    input: str
    parts: list[dict[str, Any]]
    history: Sequence[wire.Message]


def write_stdin(format: str, assignment: Assignment, history: Sequence[wire.Message] = ()) -> str:  # noqa: A002
    """All that the program reads before the end of its stdin."""
    if format not in TOLD_ALL:
        return assignment.input
    run = RunGiven(
        assignment.run_id, assignment.workspace, assignment.chat_id, assignment.attempt, assignment.metadata
    )
    given = Given(run, assignment.input, _list_parts(assignment), history)
    return msgspec.json.encode(given).decode() + "\n"


def _list_parts(assignment: Assignment) -> list[dict[str, Any]]:
    if assignment.parts is not None:
        return assignment.parts
    return [{"type": "text", "text": assignment.input}] if assignment.input else []
