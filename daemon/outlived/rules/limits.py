"""Limits of a run: how long, how silent, how much memory, how many processes; and the error for each. Pure.

1. None is no limit. An agent's own limit takes the place of the one in ``[run]``, and 0 says: none for this agent.
2. ``wall_seconds`` counts an attempt from its start, whoever ran it meanwhile; ``idle_seconds`` from the last thing
   that its agent did.
3. A run that hit a limit has failed: ``error.code`` is ``limit``, ``error.limit`` says which.

Not here: clocks and cancelling (``supervisor/limits.py``), cgroups and rlimits (``containment.py``).
"""

from __future__ import annotations

from typing import Any

import attrs

WALL, IDLE, MEMORY, PIDS = "wall_seconds", "idle_seconds", "max_memory", "max_pids"


@attrs.frozen
class Limits:
    """What a run may take. Memory in bytes; ``max_pids`` counts processes and threads."""

    wall_seconds: float | None = None
    idle_seconds: float | None = None
    max_memory: int | None = None
    max_pids: int | None = None


NO_LIMITS = Limits()


def look(limits: Limits, *, elapsed: float, silent: float) -> tuple[str | None, float]:
    """The limit that was reached, if one was; else how long it takes until one can be."""
    left = {
        name: bound - spent
        for name, bound, spent in ((WALL, limits.wall_seconds, elapsed), (IDLE, limits.idle_seconds, silent))
        if bound is not None
    }
    first = min(left, key=left.__getitem__)
    return (first, 0.0) if left[first] <= 0 else (None, left[first])


def read_error(limit: str, limits: Limits) -> dict[str, Any]:
    """The error of a run that hit this limit."""
    bound = getattr(limits, limit)
    messages = {
        WALL: f"the run took longer than {bound:g} s" if bound is not None else "",
        IDLE: f"the agent did nothing for {bound:g} s" if bound is not None else "",
        MEMORY: f"the run needed more memory than {bound} bytes",
    }
    return {"code": "limit", "message": messages[limit], "limit": limit}
