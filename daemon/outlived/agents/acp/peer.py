"""JSON-RPC 2.0 in both directions, without I/O: what the Agent Client Protocol is spoken in.

1. Framing is that of our own socket: one object per line (``outlive/framing.py``).
2. A line that is no message of JSON-RPC is handed on as ``Noise``; it ends nothing.
3. What is asked of us is answered by whoever asks this peer; a reply that nobody waits for is ignored there.

Not here: what is said (``updates.py``, ``talk.py``). Not ``outlive/peer.py``: that one is the client of a server that never asks
anything, and knows our errors.
"""

from __future__ import annotations

from itertools import count
from typing import Any, TypeAlias

import attrs

from outlive.errors import ParseError
from outlive.framing import OVERLONG, Line, LineSplitter
from outlive.strict_json import decode, encode

MAX_LINE = 16 << 20
SHOWN_BYTES = 2000
METHOD_NOT_FOUND = -32601

Id: TypeAlias = str | int


@attrs.frozen
class Asked:
    """The other side wants an answer."""

    id: Id
    method: str
    params: dict[str, Any]


@attrs.frozen
class Told:
    """The other side says something."""

    method: str
    params: dict[str, Any]


@attrs.frozen
class Answered:
    """A reply to a request of ours: ``error``, or else ``result``."""

    id: Id
    result: Any
    error: dict[str, Any] | None


@attrs.frozen
class Noise:
    """A line that is nothing of this: as much of it as is worth showing, and why."""

    line: str
    reason: str


Message: TypeAlias = Asked | Told | Answered | Noise


class Peer:
    """Numbers requests; makes messages of bytes."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._lines = LineSplitter(MAX_LINE)

    def ask(self, method: str, params: dict[str, Any]) -> tuple[Id, bytes]:
        """A new id and the line to send."""
        request_id = next(self._ids)
        return request_id, _write(id=request_id, method=method, params=params)

    def tell(self, method: str, params: dict[str, Any]) -> bytes:
        """The line to send; nothing will answer it."""
        return _write(method=method, params=params)

    def answer(self, asked: Asked, result: Any) -> bytes:
        """The line that answers a request."""
        return _write(id=asked.id, result=result)

    def refuse(self, asked: Asked, reason: str) -> bytes:
        """The line that says that we do not do that."""
        return _write(id=asked.id, error={"code": METHOD_NOT_FOUND, "message": reason})

    def receive(self, data: bytes) -> list[Message]:
        """What these bytes complete."""
        return [_read(line) for line in self._lines.feed(data)]


def _write(**message: Any) -> bytes:
    return encode({"jsonrpc": "2.0", **message}) + b"\n"


def _read(line: Line) -> Message:
    if line is OVERLONG:
        return Noise("", f"a line is longer than {MAX_LINE} bytes")
    shown = line[:SHOWN_BYTES].decode(errors="replace")
    try:
        value = decode(line)
    except ParseError as error:
        return Noise(shown, error.message)
    if not isinstance(value, dict):
        return Noise(shown, "it is no object")
    message_id, method = value.get("id"), value.get("method")
    known = isinstance(message_id, str | int) and not isinstance(message_id, bool)
    params = value.get("params")
    if isinstance(method, str):
        given = params if isinstance(params, dict) else {}
        return Asked(message_id, method, given) if known else Told(method, given)  # type: ignore[arg-type]
    refusal = value.get("error")
    if known and (isinstance(refusal, dict) or "result" in value):
        return Answered(message_id, value.get("result"), refusal if isinstance(refusal, dict) else None)  # type: ignore[arg-type]
    return Noise(shown, "it is neither a request nor a reply")
