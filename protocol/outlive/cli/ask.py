"""What a daemon knows that may be typed: its runs, chats, agents and workspaces.

1. One short question; whatever goes wrong, there is nothing to offer.
2. Runs are offered by the end of their id, which is what ``outlive list`` shows; by its front if that is what was typed.

Not here: which argument is being typed (``complete.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

import anyio
import attrs

from outlive import wire
from outlive.cli.layout import ago
from outlive.cli.render import short_id, what
from outlive.client import Client, connect
from outlive.places import socket_path

Candidate: TypeAlias = tuple[str, str]

_SECONDS = 0.4
_NEWEST = 200
_SHOWN = 30
_ACTIVE: Final[list[wire.Status]] = ["queued", "pending", "running", "waiting"]


@attrs.frozen
class Question:
    """The value of which argument of which command; what is typed of it, and the arguments before it."""

    argument: str
    command: str
    typed: str
    given: dict[str, list[str]]


def candidates(question: Question) -> list[Candidate]:
    """Values that may be meant, or nothing."""
    return anyio.run(_ask, question) if question.argument in _ANSWERS else []


async def _ask(question: Question) -> list[Candidate]:
    found: list[Candidate] = []
    with anyio.move_on_after(_SECONDS):
        try:
            async with connect(_socket(question), timeout=_SECONDS, patience=0) as client:
                found = await _ANSWERS[question.argument](client, question)
        except Exception:  # noqa: BLE001 - rule 1
            return []
    return found


def _socket(question: Question) -> Path:
    """The socket as the shell would have expanded it."""
    given = question.given.get("socket", [""])[-1]
    return socket_path(Path(given).expanduser() if given else None)


async def _runs(client: Client, question: Question) -> list[Candidate]:
    settled_too = question.command not in {"stop", "wait"}
    page = await client.list_runs(limit=_NEWEST, status=None if settled_too else _ACTIVE)
    found = [("@last", "the newest run")] if page.runs and settled_too else []
    for run in page.runs:
        names = [short_id(run.id), run.id]
        if set(names).isdisjoint(question.given.get("run", [])):
            description = f"{run.status}, {ago(run.created_at)} ago: {what(run)}"
            found += [(name, description) for name in names if name.startswith(question.typed)][:1]
    return found[:_SHOWN]


async def _agents(client: Client, question: Question) -> list[Candidate]:  # noqa: ARG001 - all are offered
    return [(agent.name, agent.description or agent.kind) for agent in (await client.info()).agents]


async def _chats(client: Client, question: Question) -> list[Candidate]:
    workspace = question.given.get("workspace", ["default"])[-1]
    page = await client.list_chats(workspace=workspace, limit=_NEWEST)
    found = [(chat.id, chat.title or f"{ago(chat.updated_at)} ago") for chat in page.chats]
    return [(name, description) for name, description in found if name.startswith(question.typed)][:_SHOWN]


async def _workspaces(client: Client, question: Question) -> list[Candidate]:  # noqa: ARG001 - all are offered
    page = await client.list_chats(limit=_NEWEST)
    return [(workspace, "") for workspace in sorted({chat.workspace for chat in page.chats})]


_ANSWERS: Final[dict[str, Callable[[Client, Question], Awaitable[list[Candidate]]]]] = {
    "run": _runs,
    "agent": _agents,
    "chat": _chats,
    "workspace": _workspaces,
}
