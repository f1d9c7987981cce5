"""Writes the tables of docs/protocol.md from the types of the contract.

    python docs/generate_protocol.py          write them
    python docs/generate_protocol.py --check  say whether they are current; exit status 1 if not

The page is written by hand but for its blocks ``<!-- generated: NAME -->`` … ``<!-- end -->``, which are replaced.
All is read from the answer to ``server/describe``: the page says what a daemon says.

Not here: the types (protocol/outlive), other pages (docs/generate.py).
"""

# ruff: noqa: INP001 - a script, not a module of a package

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from outlive import wire
from outlive.describe import describe
from outlive.errors import RequestCancelled
from outlive.methods import ANY_METHOD

PAGE = Path(__file__).with_name("protocol.md")
BLOCK = re.compile(r"(<!-- generated: (\w+) -->)(\n?).*?(<!-- end -->)", re.DOTALL)
CONTRACT = describe()
MIB = 1 << 20
MAX_FIELDS_IN_A_LINE = 12
MAX_BIGINT = 2**63 - 1
Schema = dict[str, Any]


# ---------------------------------------------------------------- types


def find(schema: Schema) -> Schema:
    """The definition that a reference means."""
    return CONTRACT.definitions[name_of(schema)]


def name_of(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


EVENT_OF = {name_of(schema): type_ for type_, schema in CONTRACT.events.items()}


def write_type(schema: Schema) -> str:
    """A type in words."""
    match schema:
        case {"$ref": _}:
            words = _write_reference(name_of(schema))
        case {"anyOf": choices}:
            words = " or ".join(write_type(choice) for choice in choices)
        case {"enum": values}:
            words = ", ".join(f"`{json.dumps(value)}`" for value in values)
        case {"format": "date-time"}:
            words = "time"
        case {"description": description}:
            words = f"{schema['type']}: {description}"
        case {"type": "array", "items": items}:
            words = f"list of {write_type(items)}" + (", at least one" if "minItems" in schema else "")
        case {"type": "object", "additionalProperties": values}:
            words = f"object whose values are {write_type(values)}"
        case _:
            words = schema.get("type", "any value") + _write_bounds(schema)
    return words


def _write_reference(name: str) -> str:
    return f"the data of `{EVENT_OF[name]}`" if name in EVENT_OF else f"[{name}](#{name.lower()})"


def _write_bounds(schema: Schema) -> str:
    unit = " characters" if schema.get("type") == "string" else ""
    low = schema.get("minLength", schema.get("minimum"))
    high = schema.get("maxLength", schema.get("maximum"))
    if high is None or high == MAX_BIGINT:
        return "" if low is None else f", at least {low}{unit}"
    return f", at most {high}{unit}" if low is None else f", {low} to {high}{unit}"


def write_fields(schema: Schema) -> str:
    """The fields of an object in one line; ``?`` marks what may be absent."""
    required = schema["required"]
    fields = [
        f"`{name}{'' if name in required else '?'}` ({write_type(field)})"
        for name, field in schema["properties"].items()
    ]
    return ", ".join(fields) or "an empty object"


def write_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))


# ---------------------------------------------------------------- blocks


def write_limits() -> str:
    rows = (
        ("a client's line", f"{wire.MAX_CLIENT_LINE // MIB} MiB"),
        ("a line of the daemon", f"{wire.MAX_SERVER_LINE // MIB} MiB"),
        ("nesting", str(wire.MAX_NESTING)),
        ("requests in flight on a connection", f"{wire.MAX_IN_FLIGHT}; beyond: `overloaded`"),
        ("subscriptions on a connection", f"{wire.MAX_SUBSCRIPTIONS:,}; beyond: `overloaded`"),
    )
    return write_table(("what", "at most"), rows)


def write_errors() -> str:
    rows = (
        (str(error.code), f"`{type_}`", "yes" if error.retryable else "", error.description)
        for type_, error in CONTRACT.errors.items()
    )
    return write_table(("code", "`data.type`", "retryable", "meaning"), rows)


def write_any_method() -> str:
    return ", ".join(f"`{error.type}`" for error in ANY_METHOD)


def write_error_codes() -> str:
    return ", ".join(f"`{code}`" for code in get_args(wire.ErrorCode))


def write_objects() -> str:
    """What results are made of; what is only a result, or an event's data, stands where it is used."""
    used = [CONTRACT.notifications, CONTRACT.events]
    elsewhere = {name_of(schema) for schemas in used for schema in schemas.values()}
    for method in CONTRACT.methods.values():
        elsewhere |= {name_of(method.params), name_of(method.result)}
    return "\n\n".join(
        f"### {name}\n\n{schema['description']}\n\n{_write_object(schema)}"
        for name, schema in sorted(
            CONTRACT.definitions.items(), key=lambda item: _RANKS.get(item[0], len(_RANKS))
        )
        if name not in elsewhere
    )


_RANKS = {name: rank for rank, name in enumerate(("Run", "Usage", "Message", "Chat"))}


def _write_object(schema: Schema) -> str:
    rows = ((f"`{name}`", write_type(field)) for name, field in schema["properties"].items())
    return write_table(("field", "type"), rows)


def write_methods() -> str:
    return "\n\n".join(_write_method(name) for name in CONTRACT.methods)


def _write_method(name: str) -> str:
    method = CONTRACT.methods[name]
    params = find(method.params)
    common = {error.type for error in ANY_METHOD} | {RequestCancelled.type}
    own = [f"`{type_}`" for type_ in method.errors if type_ not in common]
    paragraphs = [
        f"### `{name}`",
        method.description,
        _write_params(params) if params["properties"] else "No parameters.",
        _write_result(find(method.result)),
        f"**Errors:** {', '.join(own) or 'none of its own'}",
    ]
    return "\n\n".join(paragraphs)


def _write_result(schema: Schema) -> str:
    """A table where a line would have too many fields."""
    if len(schema["properties"]) > MAX_FIELDS_IN_A_LINE:
        return f"**Result:** {schema['description']}\n\n{_write_object(schema)}"
    return f"**Result:** {write_fields(schema)}"


def _write_params(schema: Schema) -> str:
    rows = (
        (f"`{name}`", write_type(_without_null(field)), _write_default(name, field, schema["required"]))
        for name, field in schema["properties"].items()
    )
    return write_table(("parameter", "type", "default"), rows)


def _without_null(field: Schema) -> Schema:
    """Null says no more than absence where that is the default."""
    if field.get("default", "") is not None or "anyOf" not in field:
        return field
    choices = [choice for choice in field["anyOf"] if choice != {"type": "null"}]
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _write_default(name: str, field: Schema, required: list[str]) -> str:
    if name in required:
        return "required"
    match field["default"]:
        case None:
            return "absent"
        case float(number):
            return f"`{number:g}`"
        case value:
            return f"`{json.dumps(value)}`"


def write_notifications() -> str:
    rows = ((f"`{name}`", write_fields(find(schema))) for name, schema in CONTRACT.notifications.items())
    return write_table(("method", "params"), rows)


def write_events() -> str:
    rows = (
        (f"`{type_}`", write_fields(find(schema)), find(schema)["description"])
        for type_, schema in CONTRACT.events.items()
    )
    return write_table(("type", "data", "meaning"), rows)


# ---------------------------------------------------------------- the page

WRITERS: Mapping[str, Callable[[], str]] = {
    "limits": write_limits,
    "errors": write_errors,
    "any_method": write_any_method,
    "objects": write_objects,
    "error_codes": write_error_codes,
    "methods": write_methods,
    "notifications": write_notifications,
    "events": write_events,
}


def fill(page: str) -> str:
    """The page with its generated blocks as they should be. Raises ValueError for a page that lacks one."""
    found = [match[2] for match in BLOCK.finditer(page)]
    if sorted(found) != sorted(WRITERS):
        raise ValueError(f"cannot fill the page: its blocks are {found}, not {list(WRITERS)}")
    return BLOCK.sub(_fill_block, page)


def _fill_block(match: re.Match[str]) -> str:
    opened, name, line_end, closed = match.groups()
    gap = "\n\n" if line_end else ""
    return f"{opened}{gap}{WRITERS[name]()}{gap}{closed}"


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description="Write the tables of the protocol's page from its types.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    check = parser.parse_args().check
    page = PAGE.read_text("utf-8")
    filled = fill(page)
    if filled == page:
        return 0
    if check:
        sys.stderr.write(f"{PAGE.name} is not what the types say: run python docs/generate_protocol.py\n")
        return 1
    PAGE.write_text(filled, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
