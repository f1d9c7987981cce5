"""The contract as JSON Schema, made from its types: the answer to ``server/describe``.

1. All is read from ``methods.py``, ``wire.py``, ``events.py`` and ``errors.py``; nothing is said a second time.
2. What is sent to the daemon is closed (it refuses unknown parameters), what it sends is open: ignore what you do
   not know.
3. The description of one method holds what that method needs and nothing else.

Not here: the page for people, which is made from this (docs/generate_protocol.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, get_args, get_origin

import msgspec

from outlive import wire
from outlive.errors import BY_TYPE, InvalidParams, OutliveError
from outlive.events import EVENTS
from outlive.methods import METHODS, NOTIFICATIONS

_ONLY_IN_PYTHON = r"(?!\n)"  # elsewhere "$" is the end of the text and nothing else; see wire.py
_WORDS = {
    frozenset(words): list(words)
    for shape in vars(wire).values()
    if get_origin(shape) is Literal and (words := get_args(shape))
}


@cache
def describe(method: str | None = None) -> wire.ServerDescription:
    """Describe one method, or all of them. Raises InvalidParams for a method that does not exist."""
    if method is not None and method not in METHODS:
        raise InvalidParams(f"cannot describe {method[:200]!r}: there is no such method", path="$.method")
    rows = list(METHODS.values()) if method is None else [METHODS[method]]
    told = any(row.result is wire.RunTailed for row in rows)
    notifications, events = (NOTIFICATIONS, EVENTS) if told else ({}, {})
    asked, answered = [row.params for row in rows], [row.result for row in rows]
    shapes = [*asked, *answered, *notifications.values(), *events.values()]
    schemas, definitions = msgspec.json.schema_components(shapes, ref_template="#/$defs/{name}")
    schema_of = dict(zip(shapes, schemas, strict=True))
    return wire.ServerDescription(
        protocol=wire.PROTOCOL_VERSION,
        methods={
            row.name: wire.MethodDescription(
                row.purpose,
                schema_of[row.params],
                schema_of[row.result],
                [error.type for error in row.errors],
            )
            for row in rows
        },
        errors=_describe_errors(BY_TYPE.values() if method is None else METHODS[method].errors),
        notifications={name: schema_of[shape] for name, shape in notifications.items()},
        events={type_: schema_of[shape] for type_, shape in events.items()},
        definitions=_define(definitions, closed={shape.__name__ for shape in asked}),
    )


def _describe_errors(kinds: Iterable[type[OutliveError]]) -> dict[str, wire.ErrorDescription]:
    return {
        kind.type: wire.ErrorDescription(kind.code, kind.retryable, _write(inspect.getdoc(kind) or ""))
        for kind in kinds
    }


def _define(definitions: dict[str, wire.JsonSchema], closed: set[str]) -> dict[str, wire.JsonSchema]:
    """The definitions as any reader of JSON Schema understands them, in a lasting order."""
    defined: dict[str, wire.JsonSchema] = {}
    for name in sorted(definitions):
        schema = _translate(definitions[name])
        schema["description"] = _write(schema["description"])
        defined[name] = {**schema, "additionalProperties": False} if name in closed else schema
    return defined


def _translate(value: Any) -> Any:
    """Patterns without what only Python needs; the words of an enumeration in the order in which we tell them."""
    if isinstance(value, list):
        return [_translate(item) for item in value]
    if not isinstance(value, dict):
        return value
    translated = {name: _translate(item) for name, item in value.items()}
    if isinstance(words := translated.get("enum"), list):
        translated["enum"] = _WORDS.get(frozenset(words), words)
    if isinstance(pattern := translated.get("pattern"), str):
        translated["pattern"] = pattern.removesuffix(_ONLY_IN_PYTHON)
    return translated


def _write(docstring: str) -> str:
    return inspect.cleandoc(docstring).replace("``", "`")
