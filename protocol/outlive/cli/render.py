"""Objects as text for people: what a run, a chat, a message, a daemon is.

1. Lists are tables, single things are sheets; times are relative, sizes and money have their units.
2. Nothing of an object is left out of its sheet but what it does not have.

Not here: columns, widths and cells (``layout.py``); a daemon's figures (``figures.py``); ``--json``, which shows objects
as they are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from outlive.cli.layout import Paint, ago, moment, one_line, plain, seconds_between, sheet, size, span, table
from outlive.wire import Chat, Containment, Message, OwnerInfo, Run, ServerInfo, Usage

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OF_STATUS = {
    "queued": "cyan",
    "pending": "cyan",
    "running": "cyan",
    "waiting": "magenta",
    "succeeded": "green",
    "failed": "red",
    "aborted": "yellow",
}


def short_id(run_id: str) -> str:
    """The last eight characters: in a UUIDv7 the end is the random part."""
    return run_id[-8:]


def what(run: Run) -> str:
    """The agent's name, or the command as one would type it."""
    return run.agent or shlex.join(run.command or [])


def runs_table(runs: Sequence[Run], width: int | None, paint: Paint = plain) -> list[str]:
    """Lines of a table of runs."""
    rows = [
        (
            short_id(run.id),
            run.status,
            f"{ago(run.created_at)} ago",
            _took(run),
            run.chat_id if width is None else _short_chat(run.chat_id),
            what(run),
        )
        for run in runs
    ]
    head = ("RUN", "STATUS", "CREATED", "TOOK", "CHAT", "WHAT")
    return table(head, rows, width, flexible=(4, 5), spare=(4, 3, 2), paint=paint, style=_run_style)


def chats_table(chats: Sequence[Chat], width: int | None, paint: Paint = plain) -> list[str]:
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
    head = ("CHAT", "WORKSPACE", "ACTIVE", "UPDATED", "TITLE")
    return table(head, rows, width, flexible=(4, 1, 0), spare=(1, 4, 3), paint=paint, style=_chat_style)


def run_page(run: Run, message: Message | None, paint: Paint = plain) -> list[str]:
    """Everything about a run, and last what it said."""
    fields: dict[str, object] = {
        "run": run.id,
        "status": run.status,
        "error": None if run.error is None else _error(run.error),
        "agent": run.agent,
        "command": None if run.command is None else shlex.join(run.command),
        "chat": f"{run.chat_id} (workspace {run.workspace}, position {run.position})",
        "started by": f"{run.created_by or '-'} ({run.trigger})",
        "created": moment(run.created_at),
        "started": moment(run.started_at),
        "finished": moment(run.finished_at),
        "took": _took(run),
        "stop asked": moment(run.stop_requested_at),
        "stop reason": run.stop_reason,
        "usage": None if run.usage == Usage() else _usage(run.usage),
        "steps": f"{run.step_count}",
        "events": _kept(run),
        "attempt": f"{run.attempt} (epoch {run.epoch}, owner {run.owner or '-'})",
        "if its client leaves": "it goes on" if run.detached else "it is stopped",
        "if its owner dies": _describe_loss(run),
        "metadata": run.metadata or None,
        "message": None if message is None else f"{message.id} ({message.status})",
    }
    lines = sheet(fields, paint=paint, styles={"status": _OF_STATUS.get(run.status, "")})
    if message is not None and message.content:
        all_kept = ": the run's events hold all, see outlive tail" if run.first_seq == 1 else ""
        cut = f" (cut{all_kept})" if message.truncated else ""
        lines += ["", f"{paint('it said', 'dim')}{cut}", message.content]
    return lines


def _describe_loss(run: Run) -> str:
    """What becomes of a run whose daemon dies."""
    loss = {"abort": "it is aborted", "resume": "it is resumed"}[run.on_owner_loss]
    lives_on = run.command is not None and run.detached
    return f"its command goes on with the next daemon, else {loss}" if lives_on else loss


def message_page(message: Message, paint: Paint = plain) -> list[str]:
    """A message under its heading."""
    run = f", run {short_id(message.run_id)}" if message.run_id else ""
    cut = ", cut" if message.truncated else ""
    heading = f"--- {message.role} ({message.status}{run}{cut}, {moment(message.created_at)})"
    return [paint(heading, "bold"), message.content]


def info_page(info: ServerInfo, socket: str, width: int | None, paint: Paint = plain) -> list[str]:
    """Who answers at the socket."""
    limits = {name: _limit(name, value) for name, value in info.limits.items()}
    widest = max((len(value[0]) for value in limits.values()), default=0)
    lines = sheet(
        {
            "daemon": f"{info.name} {info.version} (protocol {info.protocol})",
            "state": info.state,
            "socket": socket,
            "process": f"{info.pid} on {info.host}",
            "instance": info.instance_id,
            "started": moment(info.started_at),
            "you are": f"{info.peer.user or '-'} (uid {info.peer.uid}, gid {info.peer.gid})",
            "workspaces": "any" if info.workspaces is None else ", ".join(info.workspaces) or "none",
            "contained": _contained(info.containment),
            "limits": [f"{label:<{widest}}  {value}" for label, value in limits.values()],
        },
        paint=paint,
        styles={"state": "green" if info.state == "serving" else "yellow"},
    )
    agents = [(agent.name, agent.kind, agent.description) for agent in info.agents]
    head = ("AGENT", "KIND", "DESCRIPTION")
    return [*lines, "", *table(head, agents, width, flexible=(2, 0), paint=paint)]


def _contained(found: Containment | None) -> str:
    """What holds the processes of a run."""
    if found is None:
        return "-"
    kill = "by a cgroup for each run" if found.cgroups else "by descent from each run's first process"
    held = ", ".join(
        f"{name} by {holder}" for name, holder in (("memory", found.memory), ("pids", found.pids))
    )
    return f"{kill}; {held.replace('by none', 'not limited')}"


def _kept(run: Run) -> str:
    """Which of its events there are still."""
    if run.first_seq > run.last_seq:
        return f"{run.last_seq}, no longer kept"
    gone = " (earlier ones are no longer kept)" if run.first_seq > 1 else ""
    return f"{run.first_seq} to {run.last_seq}{gone}"


def owners_table(owners: Sequence[OwnerInfo], width: int | None, paint: Paint = plain) -> list[str]:
    """Lines of a table of the daemons that share a database."""
    rows = [
        (
            short_id(owner.id),
            owner.state,
            _lease(owner),
            owner.host,
            str(owner.pid),
            owner.version,
            str(owner.runs),
            "this daemon" if owner.answering else owner.dead_reason or "-",
        )
        for owner in owners
    ]
    head = ("OWNER", "STATE", "LEASE", "HOST", "PID", "VERSION", "RUNS", "WHAT")
    return table(head, rows, width, flexible=(7, 3), spare=(5, 4), paint=paint, style=_owner_style)


def _lease(owner: OwnerInfo) -> str:
    """How old the last sign of life is, of how much it may be; of the dead, since when they are."""
    if owner.dead_at is not None:
        return f"{ago(owner.dead_at)} ago"
    return f"{max(0, owner.lease_age_seconds):.0f} of {owner.lease_seconds:g} s"


def _took(run: Run) -> str:
    """From its creation to its end, or so far."""
    return span(seconds_between(run.created_at, run.finished_at))


def _short_chat(chat_id: str) -> str:
    """An id made by the daemon says nothing to people; its end tells it from others."""
    return f"…{chat_id[-8:]}" if _UUID.fullmatch(chat_id) else chat_id


def _error(error: dict[str, Any]) -> str:
    """What happened, its code, and whatever else belongs to it."""
    rest = {name: value for name, value in error.items() if name not in {"code", "message"}}
    details = [str(error.get("code")), *(f"{name} {one_line(value)}" for name, value in rest.items())]
    return f"{error.get('message') or error.get('code')} ({', '.join(details)})"


def _usage(usage: Usage) -> str:
    cached = "" if usage.cached_tokens is None else f" ({usage.cached_tokens:,} of them cached)"
    parts = [
        "" if usage.input_tokens is None else f"{usage.input_tokens:,} tokens in{cached}",
        "" if usage.output_tokens is None else f"{usage.output_tokens:,} tokens out",
        "" if usage.cost_micro_usd is None else f"${usage.cost_micro_usd / 1_000_000:,.4f}",
    ]
    return ", ".join(part for part in parts if part)


def _limit(name: str, value: int) -> tuple[str, str]:
    """A limit's name in words, and its value with its unit."""
    label, _, unit = name.rpartition("_")
    if unit == "bytes":
        return label.replace("_", " "), size(value)
    if unit == "seconds":
        return label.replace("_", " "), f"{value} s"
    return name.replace("_", " "), f"{value:,}"


def _run_style(column: int, cell: str) -> str:
    return _OF_STATUS.get(cell, "") if column == 1 else ("dim" if column in {2, 3, 4} else "")


def _chat_style(column: int, cell: str) -> str:
    return "cyan" if column == 2 and cell != "-" else ("dim" if column in {1, 3} else "")


def _owner_style(column: int, cell: str) -> str:
    styles = {"living": "green", "expired": "yellow", "dead": "dim"}
    return styles.get(cell, "") if column == 1 else ("dim" if column in {4, 5} else "")
