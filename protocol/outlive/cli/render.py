"""Objects as text for people: tables, ages, what a run is.

1. A cell is one line and holds no control characters, whatever an agent called itself.
2. A table fits the width it is given by shortening what may be shortened; without a width nothing is.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from outlive.strict_json import encode
from outlive.wire import Chat, Message, Run, ServerInfo, Usage

_GAP = "  "
_SHORTEST_CELL = 6


def short_id(run_id: str) -> str:
    """The last eight characters: in a UUIDv7 the end is the random part."""
    return run_id[-8:]


def what(run: Run) -> str:
    """The agent's name, or the command as one would type it."""
    return run.agent or shlex.join(run.command or [])


def ago(timestamp: str | None, now: datetime | None = None) -> str:
    """How long ago, in the largest unit that says enough."""
    if timestamp is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(timestamp)).total_seconds()
    return span(max(0.0, seconds))


def span(seconds: float) -> str:
    """A length of time: ``4 s``, ``12 min``, ``3 h``, ``5 d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def runs_table(runs: Sequence[Run], width: int | None) -> list[str]:
    """Lines of a table of runs."""
    rows = [
        (short_id(run.id), run.status, f"{ago(run.created_at)} ago", run.chat_id, what(run)) for run in runs
    ]
    return table(("RUN", "STATUS", "CREATED", "CHAT", "WHAT"), rows, width, flexible=(3, 4))


def chats_table(chats: Sequence[Chat], width: int | None) -> list[str]:
    """Lines of a table of chats."""
    rows = [
        (
            chat.id,
            chat.workspace,
            short_id(chat.active_run_id) if chat.active_run_id else "-",
            f"{ago(chat.updated_at)} ago",
            chat.title or "-",
        )
        for chat in chats
    ]
    return table(("CHAT", "WORKSPACE", "ACTIVE", "UPDATED", "TITLE"), rows, width, flexible=(0, 4))


def run_page(run: Run, message: Message | None) -> list[str]:
    """Everything about a run, and last what it said."""
    fields: dict[str, object] = {
        "run": run.id,
        "status": run.status,
        "what": what(run),
        "chat": f"{run.chat_id} (workspace {run.workspace}, position {run.position})",
        "started by": f"{run.created_by or '-'} ({run.trigger})",
        "created": _moment(run.created_at),
        "started": _moment(run.started_at),
        "finished": _moment(run.finished_at),
        "stop asked": _moment(run.stop_requested_at),
        "stop reason": run.stop_reason,
        "error": run.error,
        "attempt": f"{run.attempt} (epoch {run.epoch}, owner {run.owner or '-'})",
        "steps": run.step_count,
        "events": f"{run.first_seq} to {run.last_seq}",
        "usage": None if run.usage == Usage() else run.usage,
        "detached": run.detached,
        "on owner loss": run.on_owner_loss,
        "metadata": run.metadata,
        "message": None if message is None else f"{message.id} ({message.status})",
    }
    lines = sheet(fields)
    if message is not None and message.content:
        note = " (cut; the events hold all)" if message.truncated else ""
        lines += ["", f"content{note}:", message.content]
    return lines


def message_page(message: Message) -> list[str]:
    """A message under its heading."""
    run = f", run {short_id(message.run_id)}" if message.run_id else ""
    cut = ", cut" if message.truncated else ""
    return [
        f"--- {message.role} ({message.status}{run}{cut}, {_moment(message.created_at)})",
        message.content,
    ]


def info_page(info: ServerInfo, socket: str) -> list[str]:
    """Who answers at the socket."""
    workspaces = "any" if info.workspaces is None else ", ".join(info.workspaces)
    lines = sheet(
        {
            "daemon": f"{info.name} {info.version} (protocol {info.protocol})",
            "state": info.state,
            "socket": socket,
            "process": f"{info.pid} on {info.host}",
            "instance": info.instance_id,
            "started": _moment(info.started_at),
            "you are": f"{info.peer.user or '-'} (uid {info.peer.uid}, gid {info.peer.gid})",
            "workspaces": workspaces,
            "limits": info.limits,
        }
    )
    agents = [(agent.name, agent.kind, agent.description) for agent in info.agents]
    return [*lines, "", *table(("AGENT", "KIND", "DESCRIPTION"), agents, None)]


def sheet(fields: dict[str, object]) -> list[str]:
    """One line per field that has a value."""
    given = {name: value for name, value in fields.items() if value is not None}
    widest = max((len(name) for name in given), default=0)
    return [f"{name:<{widest}}{_GAP}{_cell(value)}" for name, value in given.items()]


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, flexible: Sequence[int] = ()
) -> list[str]:
    """Lines in columns; the ``flexible`` columns are shortened, the widest first, until they fit ``width``."""
    cells = [[_cell(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    if width is not None:
        _shrink(widths, width - len(_GAP) * (len(head) - 1), flexible)
    return [
        _GAP.join(_fit(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in cells
    ]


def _shrink(widths: list[int], room: int, flexible: Sequence[int]) -> None:
    while sum(widths) > room:
        column = max(flexible, key=lambda column: widths[column], default=None)
        if column is None or widths[column] <= _SHORTEST_CELL:
            return
        widths[column] -= 1


def _fit(cell: str, size: int) -> str:
    return f"{cell:<{size}}" if len(cell) <= size else f"{cell[: size - 1]}…"


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else encode(value).decode()
    return "".join(character if character.isprintable() else " " for character in text)


def _moment(timestamp: str | None) -> str | None:
    return None if timestamp is None else f"{timestamp} ({ago(timestamp)} ago)"
