"""JSON-RPC 2.0 without I/O: lines to requests and back, for the server and for the client.

1. A line is a request, or it is rejected with the error and the id to answer with; nothing in between.
2. An id is a string or an integer; ``null`` is no id; an id that cannot be used is answered as ``null``.
3. Every function that encodes returns one whole line with its newline.
4. An event's data is passed through as it was stored: it is never decoded here.

Not here: cutting bytes into lines (``framing.py``), what a method's parameters mean (``wire.py``), and who is
waiting for which reply (``client.py`` and the daemon's server room).
"""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import Any, TypeAlias, TypeVar

import attrs
import msgspec

from outlive.errors import InvalidParams, InvalidRequest, OutliveError, ParseError, TooLarge, from_wire
from outlive.framing import OVERLONG, Line, LineSplitter
from outlive.strict_json import decode, encode
from outlive.wire import MAX_CLIENT_LINE, MAX_SERVER_LINE

RequestId: TypeAlias = str | int
T = TypeVar("T", bound=attrs.AttrsInstance | msgspec.Struct)


# ---------------------------------------------------------------- the server's half


@attrs.frozen
class Request:
    """``params`` is what was sent, unchecked; absent means an empty object."""

    id: RequestId | None
    method: str
    params: Any
    is_notification: bool


class Rejected(Exception):
    """The line is no request: answer ``error`` under ``id``."""

    def __init__(self, error: OutliveError, id: RequestId | None) -> None:  # noqa: A002 - the wire's word
        super().__init__(error.message)
        self.error = error
        self.id = id


def parse_request(line: bytes) -> Request:
    """Return the request on this line. Raises Rejected."""
    try:
        value = decode(line)
    except ParseError as error:
        raise Rejected(error, None) from error
    if not isinstance(value, dict):
        raise Rejected(InvalidRequest("cannot read the request: it is not an object (no batches)"), None)
    request_id = value.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | None):
        raise Rejected(InvalidRequest("cannot read the request: id must be a string or an integer"), None)
    if value.get("jsonrpc") != "2.0":
        raise Rejected(InvalidRequest('cannot read the request: it lacks "jsonrpc": "2.0"'), request_id)
    method = value.get("method")
    if not isinstance(method, str):
        raise Rejected(InvalidRequest("cannot read the request: method must be a string"), request_id)
    return Request(request_id, method, value.get("params", {}), is_notification=request_id is None)


def encode_result(id: RequestId, result: Any) -> bytes:  # noqa: A002 - the wire's word
    """The line that answers ``id`` with a result: any attrs class, dict or ``msgspec.Raw``."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (encode(id), encode(result))


def encode_error(id: RequestId | None, error: OutliveError) -> bytes:  # noqa: A002 - the wire's word
    """The line that answers ``id`` with an error."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}\n' % (encode(id), encode(error.to_wire()))


def encode_notification(method: str, params: Any) -> bytes:
    """A line that asks for no answer."""
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}\n' % (encode(method), encode(params))


def encode_event(
    subscription: str,
    run_id: str,
    seq: int,
    at: str,
    type: str,  # noqa: A002 - the wire's word
    data_json: bytes | str,
) -> bytes:
    """The ``run/event`` line of one subscriber; ``data_json`` is the stored JSON text of the data."""
    data = data_json.encode() if isinstance(data_json, str) else data_json
    if b"\n" in data:  # in JSON a newline can only be white space
        data = data.replace(b"\n", b" ")
    return (
        b'{"jsonrpc":"2.0","method":"run/event","params":{"subscription":%b,"run_id":%b,"seq":%d,"at":%b,'
        b'"type":%b,"data":%b}}\n'
    ) % (encode(subscription), encode(run_id), seq, encode(at), encode(type), data)


# ---------------------------------------------------------------- the client's half


@attrs.frozen
class Reply:
    """The answer to a request: ``error``, or else ``result`` as JSON text."""

    id: RequestId | None
    result: bytes
    error: OutliveError | None


@attrs.frozen
class Notification:
    """Something the server says by itself, its params as JSON text."""

    method: str
    params: bytes


class BrokenPeer(Exception):
    """What came is not this protocol, or a version of it that this client does not understand."""


class _Incoming(msgspec.Struct):
    """Raw fields are cut out, not decoded: their reader knows the type and decodes once."""

    id: str | int | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


_incoming = msgspec.json.Decoder(_Incoming)


class ClientPeer:
    """Numbers requests, and tells replies from notifications."""

    def __init__(self, limit: int = MAX_SERVER_LINE) -> None:
        self._ids = count(1)
        self._lines = LineSplitter(limit)

    def request(self, method: str, params: Any) -> tuple[int, bytes]:
        """Return a new id and the line to send. Raises what the server would answer without naming the id."""
        request_id = next(self._ids)
        line = b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":%b}\n'
        return request_id, _acceptable(line % (request_id, encode(method), _encode_params(method, params)))

    def notify(self, method: str, params: Any) -> bytes:
        """Return the line to send; nothing will answer it."""
        return encode_notification(method, params)

    def receive(self, data: bytes) -> list[Reply | Notification]:
        """Return what these bytes complete. Raises BrokenPeer."""
        return [_read(line) for line in self._lines.feed(data)]


def _encode_params(method: str, params: Any) -> bytes:
    try:
        return encode(params)
    except UnicodeEncodeError as error:
        raise InvalidParams(f"cannot send {method}: a text in it is not valid UTF-8", path="$") from error


def _acceptable(line: bytes) -> bytes:
    """A faulty line is answered with ``id: null``: nobody would know whose answer it is."""
    if len(line) - 1 > MAX_CLIENT_LINE:
        raise TooLarge(f"cannot send {len(line)} bytes in one request: the limit is {MAX_CLIENT_LINE}")
    decode(line)
    return line


def _read(line: Line) -> Reply | Notification:
    if line is OVERLONG:
        raise BrokenPeer("cannot read the server's line: it is too long")
    try:
        incoming = _incoming.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BrokenPeer(f"cannot read the server's line: {error}") from error
    if incoming.method is not None:
        return Notification(incoming.method, bytes(incoming.params))
    return Reply(incoming.id, bytes(incoming.result), _failure(incoming.error))


def _failure(error: dict[str, Any] | None) -> OutliveError | None:
    try:
        return None if error is None else from_wire(error)
    except (TypeError, ValueError) as fault:  # its data is no object, or claims a name of ours
        raise BrokenPeer(f"cannot read the server's error: {error}") from fault


def understand(cls: type[T], text: bytes) -> T:
    """Return what the server said as a ``cls``; fields that this client does not know are ignored."""
    shape: Any = cls  # a class is hashable, whatever mypy thinks of the union
    try:
        value: T = _decoder(shape).decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BrokenPeer(f"cannot understand the daemon's {cls.__name__}: {error}") from error
    return value


@cache
def _decoder(cls: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cls)
