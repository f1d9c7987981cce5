"""The last thing done for a run of ours: its outcome is written, or the run is given back.

1. Both are one item of the journal, as patient as the database is slow, and the last one of the run here.
2. A released run has no owner and keeps its chat; its message holds all that was said.
3. A run that somebody wants stopped is settled, never released: the journal looks at its row once more.
4. Only then what its command has left in the spool is removed.

Not here: what an end means (``judge.py``), who goes on with a released run (``claim.py``).
"""

from __future__ import annotations

from functools import partial

import structlog

from outlived.store.resume import read_loss
from outlived.supervisor import Supervisor
from outlived.supervisor.insist import insist
from outlived.supervisor.judge import Outcome, Release, judge_loss
from outlived.supervisor.registry import Active

log = structlog.get_logger("outlived.run")


async def conclude(supervisor: Supervisor, active: Active, outcome: Outcome | Release) -> None:
    """Settle or release the run. Raises OwnershipLost, JournalRefused."""
    run_id = active.run_id
    if isinstance(outcome, Release):
        await supervisor.journal.release(run_id, outcome.reason, active.mark)
        supervisor.workshop.discard(run_id)
        log.info("run released", run_id=run_id, reason=outcome.reason)
    else:
        await supervisor.journal.settle(run_id, outcome.status.value, outcome.error, active.mark)
        supervisor.workshop.discard(run_id)
        log.info("run settled", run_id=run_id, status=outcome.status.value)


async def judge_lost_run(supervisor: Supervisor, run_id: str) -> Outcome | Release:
    """What becomes of a run of ours whose attempt ended with its owner. Raises OwnershipLost, QueryRefused."""
    loss = await insist(supervisor, partial(read_loss, supervisor.store.pool, run_id))
    limit = supervisor.settings.run.max_attempts
    return judge_loss(resumable=loss.resumable, lost=loss.lost, max_attempts=limit)
