"""How a command ends: exit codes, and what to say about an error.

Not here: the errors themselves (``outlive.errors``).
"""

from __future__ import annotations

from typing import Any

from outlive.connection import ConnectionLost, Unreachable
from outlive.errors import (
    CursorExpired,
    Forbidden,
    InvalidParams,
    MethodNotFound,
    NotFound,
    OutliveError,
    ParseError,
    RunActive,
    TooLarge,
)
from outlive.peer import BrokenPeer

SUCCEEDED = 0
FAILED = 1
USAGE = 2
ABORTED = 3
WAITING = 4
UNREACHABLE = 69
TIMED_OUT = 124
INTERRUPTED = 130
BROKEN_PIPE = 141

_OF_STATUS = {"succeeded": SUCCEEDED, "failed": FAILED, "aborted": ABORTED, "waiting": WAITING}


class UsageError(Exception):
    """The command line cannot be carried out as written; its author must change it."""


class CannotStartDaemon(Exception):
    """No daemon answers and none could be started."""


_OF_ERROR: tuple[tuple[type[Exception] | tuple[type[Exception], ...], int], ...] = (
    ((UsageError, InvalidParams, NotFound, Forbidden, TooLarge, ParseError), USAGE),
    ((CannotStartDaemon, ConnectionLost), UNREACHABLE),
    (TimeoutError, TIMED_OUT),
)
_SPEAKS_FOR_ITSELF = (UsageError, CannotStartDaemon, ConnectionLost, TimeoutError, OutliveError, BrokenPeer)


def of_run(status: str) -> int:
    """The exit code for a run in this state; a run that is still on its way is no failure."""
    return _OF_STATUS.get(status, SUCCEEDED)


def describe_end(short_id: str, status: str, error: dict[str, Any] | None, stop_reason: str | None) -> str:
    """One sentence about a settled run."""
    if error is not None:
        return f"run {short_id} {status}: {error.get('message') or error.get('code')}"
    if status == "aborted":
        return f"run {short_id} was stopped" + (f": {stop_reason}" if stop_reason else "")
    return f"run {short_id} {status}"


def of_error(error: Exception) -> tuple[int, str]:
    """The exit code and the one line for an error that ended a command."""
    code = next((code for kinds, code in _OF_ERROR if isinstance(error, kinds)), FAILED)
    notes = getattr(error, "__notes__", [])  # what the place where it happened knows to do
    return code, "; ".join(part for part in (_what(error), _advice(error), *notes) if part)


def _what(error: Exception) -> str:
    if isinstance(error, _SPEAKS_FOR_ITSELF):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"cannot use {error.filename}: {error.strerror}"
    return f"cannot go on: {type(error).__name__}: {error}"


def _advice(error: Exception) -> str | None:
    match error:
        case Unreachable():
            return "start one with: outlive daemon start"
        case InvalidParams() if error.data.get("path") == "$.agent":
            return "which agents there are shows: outlive info"
        case RunActive():
            active = error.data.get("active_run_id", "RUN")
            return f"wait for it (outlive wait {active}), stop it, or use --on-active join"
        case CursorExpired():
            first, last = error.data.get("first_seq", 1), error.data.get("last_seq", 0)
            left = f"what is left comes with --after {first - 1}; " if first <= last else ""
            return f"{left}the run and its message stay: outlive show RUN"
        case MethodNotFound() | BrokenPeer():
            return "is the daemon of another version? See: outlive info"
        case _:
            return None
