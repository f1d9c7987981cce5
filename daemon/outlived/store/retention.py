"""Retention in the database: events of runs that are settled for long enough leave, a piece at a time.

1. Only the database's clock judges age; only settled runs, whose message is stored up to the end of the log, are old.
2. Events and steps leave in the transaction that raises ``first_seq``: a reader sees a log that is whole from there on.
3. A piece that somebody else is pruning is skipped, never waited for.

Not here: when, how much and how often (``chores/pruner.py``).
"""

from __future__ import annotations

import attrs

from outlived.store.postgres import Link
from outlived.store.queries import load_queries

SQL = load_queries("retention.sql")
RUN_LIMIT = 1000
"""Runs looked at for one piece, so that many runs of few events make a bounded piece, too."""


@attrs.frozen
class Pruned:
    """What one piece removed.

    ``runs``: those that it touched; ``whole``: of them without any event now; ``upto``: when the last one was settled.
    """

    events: int
    runs: int
    whole: int
    upto: str | None


async def prune_piece(link: Link, *, keep_seconds: float, events: int, since: str | None = None) -> Pruned:
    """Remove at most ``events`` events of runs settled more than ``keep_seconds`` ago, those of the oldest first.

    ``since``: those settled before are not looked at. Raises DatabaseLost, QueryRefused.
    """
    params = {"keep": keep_seconds, "events": events, "runs": RUN_LIMIT, "since": since}
    _, [row] = await link.transact([(SQL["plan_quickly"], {}), (SQL["prune"], params)])
    return Pruned(*row)
