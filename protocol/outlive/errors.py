"""Every error of the wire contract: one class per ``data.type``.

1. The class attribute ``type`` is the contract; the message is for people and begins "cannot ...".
2. The docstring says who has to do something about it.
3. ``data`` holds what a program needs besides the type (a field's path, an active run's id).

Both sides use these classes: the server raises them, the client turns a reply back into one.
Not here: how an error becomes a line of JSON (``peer.py``).
"""

from __future__ import annotations

from typing import Any, ClassVar


class OutliveError(Exception):
    """An answer that is not a result. ``code`` and ``type`` are fixed per class, ``data`` per case."""

    code: ClassVar[int] = -32603
    type: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    def to_wire(self) -> dict[str, Any]:
        """The JSON-RPC ``error`` object."""
        data = {"type": self.type, "retryable": self.retryable, **self.data}
        return {"code": self.code, "message": self.message, "data": data}


class ParseError(OutliveError):
    """The line is not JSON that may be stored. The caller must send another line."""

    code = -32700
    type = "parse_error"


class InvalidRequest(OutliveError):
    """The line is JSON but no request. The caller must send another line."""

    code = -32600
    type = "invalid_request"


class MethodNotFound(OutliveError):
    """The daemon has no such method: a misspelling, or a daemon older than the caller."""

    code = -32601
    type = "method_not_found"


class InvalidParams(OutliveError):
    """A parameter is wrong; ``data.path`` names it. The caller must change it."""

    code = -32602
    type = "invalid_params"


class InternalError(OutliveError):
    """A bug of the daemon; ``data.incident`` finds it in the daemon's log."""


class Overloaded(OutliveError):
    """Too much at once on this connection. The caller may retry later."""

    code = -32001
    type = "overloaded"
    retryable = True


class RequestCancelled(OutliveError):
    """The caller cancelled this request (never the run)."""

    code = -32800
    type = "request_cancelled"


class Forbidden(OutliveError):
    """The peer may not do this; somebody with other credentials may."""

    code = 403
    type = "forbidden"


class NotFound(OutliveError):
    """There is no such run, chat or subscription that this peer may see."""

    code = 404
    type = "not_found"


class RunActive(OutliveError):
    """The chat has an active run; ``data.active_run_id`` names it. Wait for it, stop it or join it."""

    code = 409
    type = "run_active"


class IdempotencyMismatch(OutliveError):
    """The key was used before for something else. The caller must choose another key."""

    code = 409
    type = "idempotency_mismatch"


class CursorExpired(OutliveError):
    """Events after this cursor are no longer kept; ``data.first_seq`` is the oldest kept one (one after
    ``data.last_seq``: none is). The run and its message are kept.
    """

    code = 410
    type = "cursor_expired"


class TooLarge(OutliveError):
    """A line or a field is larger than the contract allows. The caller must send less."""

    code = 413
    type = "too_large"


class AgentUnavailable(OutliveError):
    """The agent is known but cannot be started; its configuration or its program must be mended."""

    code = 422
    type = "agent_unavailable"


class Unsupported(OutliveError):
    """A value of the contract that this version of the daemon does not serve yet."""

    code = 422
    type = "unsupported"


class LimitReached(OutliveError):
    """A configured limit; ``data.limit`` names it."""

    code = 429
    type = "limit"


class Draining(OutliveError):
    """The daemon is about to stop. Retry: its successor will answer."""

    code = 503
    type = "draining"
    retryable = True


class DatabaseUnavailable(OutliveError):
    """The daemon cannot reach its database just now. Retry."""

    code = 503
    type = "database_unavailable"
    retryable = True


BY_TYPE: dict[str, type[OutliveError]] = {
    kind.type: kind
    for kind in (
        ParseError, InvalidRequest, MethodNotFound, InvalidParams, InternalError, Overloaded,
        RequestCancelled, Forbidden, NotFound, RunActive, IdempotencyMismatch, CursorExpired,
        TooLarge, AgentUnavailable, Unsupported, LimitReached, Draining, DatabaseUnavailable,
    )
}  # fmt: skip


def from_wire(error: dict[str, Any]) -> OutliveError:
    """Turn a reply's ``error`` object into its class; an unknown type becomes a plain OutliveError."""
    given = error.get("data")
    data = dict(given) if isinstance(given, dict) else {}
    kind = BY_TYPE.get(str(data.pop("type", "")), OutliveError)
    data.pop("retryable", None)
    found = kind(str(error.get("message", "")))
    found.data = data
    return found
