"""How this daemon is, in a word.

Not here: who is told (``server/methods/info.py``, ``chores/report.py``).
"""

from __future__ import annotations

from typing import Literal

from outlived.supervisor import Supervisor


def read_state(supervisor: Supervisor) -> Literal["serving", "draining", "degraded"]:
    if supervisor.draining.is_set():
        return "draining"
    return "degraded" if is_degraded(supervisor) else "serving"


def is_degraded(supervisor: Supervisor) -> bool:
    """Whether the database is away, or was for so long that nothing of this daemon is certain."""
    return supervisor.journal.degraded or supervisor.journal.lost.is_set() or not supervisor.trust.holds
