"""What the lifecycle knows of a run: the part of its row that is the fold of its log.

1. Every field here is decided by the run's own events and by nothing else: ``fold(log) == row``.
2. A ``Run`` is never changed; ``lifecycle.apply`` makes the next one.

Not here: what was asked for (agent, command, input, metadata: columns that never change), the chat, the
message (``message.py``), and which transitions are legal (``lifecycle.py``).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import attrs


class Status(StrEnum):
    """Where a run is in its life."""

    QUEUED = "queued"
    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"


ACTIVE = frozenset({Status.PENDING, Status.RUNNING, Status.WAITING})
"""Holds the chat's one slot."""

TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.ABORTED})
"""Settled: nothing changes any more."""


class Fact(StrEnum):
    """The event types the lifecycle listens to; every other event type is told, not judged."""

    CREATED = "run.created"
    PROMOTED = "run.promoted"
    STARTED = "run.started"
    ADOPTED = "run.adopted"
    RELEASED = "run.released"
    WAITING = "run.waiting"
    RESUMED = "run.resumed"
    STOP_REQUESTED = "run.stop_requested"
    STEP_FINISHED = "step.finished"
    USAGE = "usage"
    SETTLED = "run.settled"


FACTS: dict[str, Fact] = {fact.value: fact for fact in Fact}


@attrs.frozen
class Event:
    """One row of a run's log. ``at`` is the database's time, RFC 3339 in UTC with microseconds."""

    seq: int
    at: str
    type: str
    data: dict[str, Any]


USAGE_FIELDS = ("input_tokens", "output_tokens", "cached_tokens", "cost_micro_usd")


@attrs.frozen
class Usage:
    """Sums so far; None while nothing was ever reported."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cost_micro_usd: int | None = None

    def plus(self, report: dict[str, Any]) -> Usage:
        """Add one report; fields it does not name stay as they are."""
        sums = {
            field: (getattr(self, field) or 0) + int(report[field])
            for field in USAGE_FIELDS
            if report.get(field) is not None
        }
        return attrs.evolve(self, **sums)


@attrs.frozen
class Run:
    """The fold of a run's log so far."""

    status: Status
    attempt: int
    epoch: int
    owner: str | None
    created_at: str
    updated_at: str
    last_seq: int
    step_count: int = 0
    usage: Usage = Usage()
    stop_requested_at: str | None = None
    stop_reason: str | None = None
    error: dict[str, Any] | None = None
    started_at: str | None = None
    finished_at: str | None = None

    def at_event(self, seq: int, at: str) -> Run:
        """This run after an event that is told, not judged: nearly all of a log, so made without ``attrs.evolve``."""
        return Run(
            self.status, self.attempt, self.epoch, self.owner, self.created_at, at, seq, self.step_count, self.usage,
            self.stop_requested_at, self.stop_reason, self.error, self.started_at, self.finished_at,
        )  # fmt: skip

    @property
    def settled(self) -> bool:
        return self.status in TERMINAL
