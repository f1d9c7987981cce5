"""How a program is told to go on with a conversation of its own: pure, from its arguments and the session's name.

1. ``codex exec … -`` becomes ``codex exec … resume ID -``; the options before stay in force.
2. ``opencode run …`` gets ``--session ID``, ``claude -p …`` gets ``--resume ID``.
3. A program of another format has no session: a ``jsonl`` agent reads the chat's history.

Not here: where sessions are kept (``store/sessions.py``), how a program says its session (the formats).
"""

from __future__ import annotations

from outlived.agents import Session

_OPTIONS = {"opencode": "--session", "claude": "--resume"}
RESUMABLE = frozenset({"codex", *_OPTIONS})
"""The formats whose programs have sessions."""


def continue_session(format: str, command: list[str], session: Session | None) -> list[str]:  # noqa: A002
    """The command that goes on with the session."""
    if session is None or format not in RESUMABLE:
        return command
    if format != "codex":
        return [*command, _OPTIONS[format], session.id]
    if command[-1] == "-":
        return [*command[:-1], "resume", session.id, "-"]
    return [*command, "resume", session.id]
