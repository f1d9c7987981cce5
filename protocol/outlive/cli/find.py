"""Which run is meant: a full id, a piece of one, or ``@last``.

1. A piece has at least 4 characters and is counted from the id's front, from its end, or from the start of
   its last group (the end of a UUIDv7 is the random part, its front is the time).
2. It is looked up among the 1,000 newest runs and must name exactly one of them.
"""

from __future__ import annotations

import re

from outlive.cli.outcome import UsageError
from outlive.client import Client

_FULL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PIECE = re.compile(r"[0-9a-f-]+")
_SHORTEST = 4
_NEWEST = 1000
_PAGE = 200


async def find_run(client: Client, name: str) -> str:
    """Return the id of the run that ``name`` means. Raises UsageError."""
    if name == "@last":
        page = await client.list_runs(limit=1)
        if not page.runs:
            raise UsageError("cannot find @last: there are no runs yet")
        return page.runs[0].id
    wanted = name.lower()
    if _FULL.fullmatch(wanted):
        return wanted
    piece = wanted.replace("-", "")
    if not _PIECE.fullmatch(wanted) or len(piece) < _SHORTEST:
        raise UsageError(
            f"cannot find run {name!r}: give @last, an id, or {_SHORTEST} or more hexadecimal digits of one"
        )
    found = [run_id for run_id in await _newest(client) if _matches(run_id, piece)]
    if not found:
        raise UsageError(f"cannot find run {name!r} among the {_NEWEST} newest; see: outlive list")
    if len(found) > 1:
        some = ", ".join(found[:4]) + (", …" if len(found) > 4 else "")
        raise UsageError(f"cannot tell which run {name!r} is: {len(found)} match: {some}")
    return found[0]


async def _newest(client: Client) -> list[str]:
    ids: list[str] = []
    cursor = None
    while len(ids) < _NEWEST:
        page = await client.list_runs(limit=_PAGE, cursor=cursor)
        ids += [run.id for run in page.runs]
        cursor = page.next_cursor
        if cursor is None:
            break
    return ids[:_NEWEST]


def _matches(run_id: str, piece: str) -> bool:
    digits = run_id.replace("-", "")
    return digits.startswith(piece) or digits.endswith(piece) or run_id.rpartition("-")[2].startswith(piece)
