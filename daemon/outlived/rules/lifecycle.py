"""The lifecycle of a run: one table, one ``apply``, one ``fold``.

Theory of operation. A run's log is a sequence of events. Some of them are *facts*: they change what the run
is. The table below says, for every status and every fact, which statuses may follow. ``apply`` takes a run
and its next event and gives the next run and the *orders* that follow from it: what the shells around (the
journal, the supervisor) now have to do. ``fold`` applies a whole log; the result is the run's row.

Rules:
1. Everything that decides what a run may become is in this file; SQL guards are generated from it
   (``store``) and the diagram in docs/lifecycle.md too.
2. No clock and no I/O: an event brings its own time and its own sequence number.
3. A pair (status, fact) that is not in the table is illegal and raises with the run's story.
4. Terminal statuses have no row: they absorb by refusing everything.
5. Every other status can be settled at once.

Not here: who settles, and why (``supervisor/judge.py``); what a message looks like (``message.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import attrs

from outlived.rules.run import ACTIVE, FACTS, TERMINAL, Event, Fact, Run, Status, Usage

ENDS = (Status.SUCCEEDED, Status.FAILED, Status.ABORTED)


class Order(StrEnum):
    """What a shell has to do because of a fact."""

    START_AGENT = "start the agent"
    STOP_AGENT = "stop the agent"
    LET_GO = "store the message as it is, keep the chat's slot, touch the run no more"
    CLOSE = "finish the message, free the chat, end the tails"


TRANSITIONS: Mapping[tuple[Status | None, Fact], tuple[Status, ...]] = {
    (None, Fact.CREATED): (Status.QUEUED, Status.PENDING),
    (Status.QUEUED, Fact.PROMOTED): (Status.PENDING,),
    (Status.QUEUED, Fact.STOP_REQUESTED): (Status.QUEUED,),
    (Status.QUEUED, Fact.ADOPTED): (Status.QUEUED,),
    (Status.QUEUED, Fact.SETTLED): ENDS,
    (Status.PENDING, Fact.STARTED): (Status.RUNNING,),
    (Status.PENDING, Fact.ADOPTED): (Status.PENDING,),
    (Status.PENDING, Fact.RELEASED): (Status.PENDING,),
    (Status.PENDING, Fact.STOP_REQUESTED): (Status.PENDING,),
    (Status.PENDING, Fact.SETTLED): ENDS,
    (Status.RUNNING, Fact.ADOPTED): (Status.RUNNING,),
    (Status.RUNNING, Fact.RELEASED): (Status.PENDING,),
    (Status.RUNNING, Fact.WAITING): (Status.WAITING,),
    (Status.RUNNING, Fact.STOP_REQUESTED): (Status.RUNNING,),
    (Status.RUNNING, Fact.STEP_FINISHED): (Status.RUNNING,),
    (Status.RUNNING, Fact.USAGE): (Status.RUNNING,),
    (Status.RUNNING, Fact.SETTLED): ENDS,
    (Status.WAITING, Fact.RESUMED): (Status.RUNNING,),
    (Status.WAITING, Fact.ADOPTED): (Status.WAITING,),
    (Status.WAITING, Fact.RELEASED): (Status.PENDING,),
    (Status.WAITING, Fact.STOP_REQUESTED): (Status.WAITING,),
    (Status.WAITING, Fact.USAGE): (Status.WAITING,),
    (Status.WAITING, Fact.SETTLED): ENDS,
}


class IllegalFact(Exception):
    """The lifecycle has no such transition: a bug of the daemon, caught where the run is settled."""

    def __init__(self, run: Run | None, event: Event, why: str) -> None:
        story = "no run yet" if run is None else f"{run}"
        super().__init__(
            f"cannot apply {event.type} (seq {event.seq}): {why}; data {event.data}; story: {story}"
        )


def apply(run: Run | None, event: Event) -> tuple[Run, tuple[Order, ...]]:
    """The run after ``event``, and what has to be done about it. ``run`` is None before the first event."""
    if event.seq != (1 if run is None else run.last_seq + 1):
        raise IllegalFact(run, event, "the log has a gap or a repeat")
    fact = FACTS.get(event.type)
    if fact is None:
        if run is None or run.settled:
            raise IllegalFact(run, event, "nothing may come before run.created or after run.settled")
        return run.at_event(event.seq, event.at), ()
    allowed = TRANSITIONS.get((None if run is None else run.status, fact))
    if allowed is None:
        raise IllegalFact(run, event, "the table has no such transition")
    status = _next_status(run, event, allowed)
    if run is None:
        return _created(event, status), (Order.START_AGENT,) if status is Status.PENDING else ()
    changes = _CHANGES[fact](run, event)
    run = attrs.evolve(run, status=status, last_seq=event.seq, updated_at=event.at, **changes)
    return run, _ORDERS.get(fact, ())


def fold(events: Iterable[Event]) -> Run:
    """The row that a log amounts to. Raises IllegalFact for a log that cannot be."""
    run: Run | None = None
    for event in events:
        run, _ = apply(run, event)
    if run is None:
        raise ValueError("cannot fold an empty log")
    return run


def _next_status(run: Run | None, event: Event, allowed: tuple[Status, ...]) -> Status:
    """The one allowed status, or, where the table leaves a choice, the one the fact itself names."""
    if len(allowed) == 1:
        return allowed[0]
    named = event.data.get("status")
    if named not in allowed:
        raise IllegalFact(run, event, f"its status {named!r} is none of {', '.join(allowed)}")
    return Status(named)


def _created(event: Event, status: Status) -> Run:
    data = event.data
    return Run(
        status=status,
        attempt=1,
        epoch=data["epoch"],
        owner=data["owner"],
        created_at=event.at,
        updated_at=event.at,
        last_seq=event.seq,
    )


def _owned(_run: Run, event: Event) -> dict[str, Any]:
    return {"owner": event.data["owner"], "epoch": event.data["epoch"]}


def _started(run: Run, event: Event) -> dict[str, Any]:
    first = {"started_at": run.started_at or event.at}
    return {**_owned(run, event), **first, "attempt": event.data["attempt"]}


def _released(_run: Run, _event: Event) -> dict[str, Any]:
    return {"owner": None}


def _stop_requested(run: Run, event: Event) -> dict[str, Any]:
    if run.stop_requested_at is not None:  # the first stop's mark stays
        return {}
    return {"stop_requested_at": event.data["requested_at"], "stop_reason": event.data["reason"]}


def _step_finished(run: Run, event: Event) -> dict[str, Any]:
    usage = event.data.get("usage")
    return {"step_count": run.step_count + 1, "usage": run.usage.plus(usage) if usage else run.usage}


def _used(run: Run, event: Event) -> dict[str, Any]:
    usage: Usage = run.usage.plus(event.data)
    return {"usage": usage}


def _settled(_run: Run, event: Event) -> dict[str, Any]:
    data = event.data
    mark = {"stop_requested_at": data["stop_requested_at"], "stop_reason": data["stop_reason"]}
    return {"error": data["error"], "finished_at": event.at, **mark}


def _nothing(_run: Run, _event: Event) -> dict[str, Any]:
    return {}


_CHANGES = {
    Fact.PROMOTED: _owned,
    Fact.STARTED: _started,
    Fact.ADOPTED: _owned,
    Fact.RELEASED: _released,
    Fact.WAITING: _nothing,
    Fact.RESUMED: _nothing,
    Fact.STOP_REQUESTED: _stop_requested,
    Fact.STEP_FINISHED: _step_finished,
    Fact.USAGE: _used,
    Fact.SETTLED: _settled,
}

_ORDERS: Mapping[Fact, tuple[Order, ...]] = {
    Fact.PROMOTED: (Order.START_AGENT,),
    Fact.RELEASED: (Order.LET_GO,),
    Fact.STOP_REQUESTED: (Order.STOP_AGENT,),
    Fact.SETTLED: (Order.CLOSE,),
}

__all__ = ["ACTIVE", "TERMINAL", "TRANSITIONS", "IllegalFact", "Order", "apply", "fold"]
