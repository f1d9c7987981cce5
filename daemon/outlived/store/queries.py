"""SQL in its own files: ``-- name: NAME`` begins a statement, the comment below it says what it is for.

1. Status lists are written once, in ``rules``; ``{active}``, ``{terminal}``, ``{all}`` and ``{released}`` (what a
   release leads to) stand for them.
2. Column lists are written once, in ``rows.py``; ``{run_columns}`` and its like stand for them.

Not here: running a statement (``postgres.py``) and what it means (the module named like the file).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import LiteralString

from outlived.rules.lifecycle import TRANSITIONS
from outlived.rules.run import ACTIVE, TERMINAL, Fact, Status


def _listed(statuses: Iterable[Status]) -> str:
    return "(" + ", ".join(f"'{status}'" for status in sorted(statuses)) + ")"


_RELEASED = {
    after for (_, fact), all_after in TRANSITIONS.items() if fact is Fact.RELEASED for after in all_after
}
STATUS_LISTS = {
    "active": _listed(ACTIVE),
    "terminal": _listed(TERMINAL),
    "all": _listed(Status),
    "released": _listed(_RELEASED),
}
UTC = {"utc": """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""}
"""How a time is written on the wire, for to_char."""


def read_sql(name: str) -> str:
    """The text of one file below ``sql/``, its status lists filled in."""
    text = resources.files("outlived.store").joinpath("sql", name).read_text("utf-8")
    return _fill(text, STATUS_LISTS)


def load_queries(name: str, columns: Mapping[str, str] | None = None) -> dict[str, LiteralString]:
    """The named statements of one file. The text is ours, so it may be executed as it is."""
    text = _fill(_fill(read_sql(name), columns or {}), STATUS_LISTS | UTC)
    pieces = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    statements = (_strip_comments(body) for body in pieces[2::2])
    return dict(zip(pieces[1::2], statements, strict=True))


def _fill(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def _strip_comments(statement: str) -> LiteralString:
    lines = (line for line in statement.splitlines() if not line.startswith("--"))
    return "\n".join(lines).strip()
