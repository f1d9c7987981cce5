"""JSON as the contract allows it: what may come in, what goes out, and parameters checked against a type.

1. Whatever ``decode`` returns can be stored and sent on: no NUL, no lone surrogate, no infinite number.
2. Both rules that msgspec does not know (nesting, NUL) are tests on the bytes, so that they also see what a
   repeated key hides, and an ordinary line pays for two searches only.
3. Nothing is coerced: ``"3"`` is no integer and ``true`` is no 1.

Not here: what a request must look like (``peer.py``), the types themselves (``wire.py``).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, TypeVar

import attrs
import msgspec

from outlive.errors import InvalidParams, ParseError
from outlive.wire import MAX_NESTING

T = TypeVar("T", bound=attrs.AttrsInstance)

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_NOT_A_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND_OF_BRACKET = bytes.maketrans(b"{}", b"[]")
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`")
_AT = " - at `$"
_LONGEST_MESSAGE = 300

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
encode = msgspec.json.Encoder().encode


def decode(line: bytes) -> Any:
    """Return the value of one line of JSON. Raises ParseError and nothing else."""
    try:
        value = _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ParseError(f"cannot read the line as JSON in UTF-8: {error}") from error
    if line.count(b"[") + line.count(b"{") > MAX_NESTING and _too_deep(line):
        raise ParseError(f"cannot accept the line: it nests deeper than {MAX_NESTING}")
    if b"\\u0000" in line and _ESCAPED_NUL.search(line):
        raise ParseError("cannot accept the line: it holds a NUL character")
    return value


def _too_deep(line: bytes) -> bool:
    brackets = _STRING.sub(b"", line).translate(_ONE_KIND_OF_BRACKET, _NOT_A_BRACKET)
    for _ in range(MAX_NESTING):
        brackets = brackets.replace(b"[]", b"")  # takes away the innermost level everywhere
    return bool(brackets)


def convert_params(cls: type[T], params: object) -> T:
    """Return ``params`` (a decoded object) as a ``cls``. Raises InvalidParams with the ``path`` at fault."""
    if not isinstance(params, dict):
        raise InvalidParams("cannot accept params: they must be an object with named fields", path="$")
    if unknown := params.keys() - _fields(cls):
        name = _short(min(unknown))
        raise InvalidParams(f"cannot accept $.{name}: there is no such field", path=f"$.{name}")
    try:
        return msgspec.convert(params, cls)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error


@cache
def _fields(cls: type[Any]) -> frozenset[str]:
    return frozenset(field.name for field in attrs.fields(cls))


def _invalid(message: str) -> InvalidParams:
    """Find the path in msgspec's message: ``Expected `int`, got `str` - at `$.limit```."""
    reason, at, path = message.rpartition(_AT)
    if not at:
        reason, path = message, ""
    path = f"${path.rstrip('`')}"
    if missing := _MISSING.match(reason):
        path = f"{path}.{missing['field']}"
        reason = "it is required"
    reason = reason.replace(r"(?!\\n)", "")
    return InvalidParams(f"cannot accept {path}: {_short(reason)}", path=path)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"
