"""What an end means: pure, from what was seen of it to the run's outcome, or to its release.

1. A run is aborted if the cancel reached its agent before it ended; what the agent said on the way is lost.
2. A command that ended by itself before our first signal ended by itself, whatever was asked meanwhile.
3. A run that was stopped has no error; other cancels say why.
4. A run that a limit cancelled has failed with that limit, if nobody had asked for its end before.
5. A lost ownership has no outcome here: the next owner writes it.
6. A command that is left to the next daemon has no outcome yet, and nothing of it is written.
7. A run that may be resumed and was cancelled only because its daemon ends, or could not be heard, has no outcome
   yet: it is released. Attempts that were lost with their owner are counted, those that a daemon ended in good order
   are not: restarts that somebody asked for never use a run up.

Not here: running the agent (``execute.py``), writing the outcome (the journal).
"""

from __future__ import annotations

from typing import Any

import attrs
import msgspec

from outlived.agents import AgentBroken, AgentFailed
from outlived.rules.run import Status
from outlived.rules.text import clean_json, explain
from outlived.supervisor.registry import Cause

MAX_ERROR_BYTES = 32 << 10

PROCESS_LOST = "process_lost"
LOST, SHUTDOWN = "owner_lost", "shutdown"
"""Why a run is released."""
OWNER_LOST: dict[str, Any] = {
    "code": LOST,
    "message": "the daemon that ran it died or could not be heard",
}
_ABORTS: dict[Cause, dict[str, Any] | None] = {
    Cause.STOP: None,
    Cause.SHUTDOWN: {"code": SHUTDOWN, "message": "the daemon was stopped"},
    Cause.FORCED: {"code": "forced", "message": "the daemon was told twice to stop"},
    Cause.DISTRUST: OWNER_LOST,
}
_RELEASES = {Cause.SHUTDOWN: SHUTDOWN, Cause.FORCED: SHUTDOWN, Cause.DISTRUST: LOST}


@attrs.frozen
class End:
    """What was seen. ``own``: the work said itself how it ended (``own_error``), before any signal. ``adopted``: this
    owner has not begun the attempt; ``limit``: the error of the limit that was reached.
    """

    cancelled: bool = False
    cause: Cause | None = None
    raised: BaseException | None = None
    own: bool = False
    own_error: dict[str, Any] | None = None
    adopted: bool = False
    limit: dict[str, Any] | None = None


@attrs.frozen
class Outcome:
    """The one terminal outcome of a run."""

    status: Status
    error: dict[str, Any] | None = None


@attrs.frozen
class Release:
    """No outcome yet: the run is given back, and its next attempt goes on."""

    reason: str


@attrs.frozen
class Leave:
    """No outcome: the run goes on without us."""


def judge(end: End, *, resumable: bool = False) -> Outcome | Release | Leave:
    """The outcome of an end that is ours to write. ``resumable``: asked for, and not asked to stop."""
    if end.own:
        return _by_error(end.own_error)
    if end.cancelled and end.cause is not None:
        return _judge_cancel(end, end.cause, resumable=resumable)
    if end.raised is None:
        return Outcome(Status.SUCCEEDED)
    error = describe(end.raised)
    lost = end.adopted and resumable and error["code"] == PROCESS_LOST
    return Release(LOST) if lost else _by_error(error)


def _judge_cancel(end: End, cause: Cause, *, resumable: bool) -> Outcome | Release | Leave:
    if cause is Cause.LEAVE:
        return Leave()
    if cause is Cause.LIMIT:
        return Outcome(Status.FAILED, end.limit)
    if resumable and cause in _RELEASES:
        return Release(_RELEASES[cause])
    return Outcome(Status.ABORTED, _ABORTS[cause])


def judge_loss(*, resumable: bool, lost: int, max_attempts: int) -> Outcome | Release:
    """What becomes of a run whose attempt ended with its owner; ``lost``: attempts that ended so before."""
    if not resumable:
        return Outcome(Status.ABORTED, OWNER_LOST)
    if lost + 1 < max_attempts:
        return Release(LOST)
    message = (
        f"{lost + 1} attempts were lost with the daemons that made them, and there are no more than that"
    )
    return Outcome(Status.FAILED, {"code": "too_many_attempts", "message": message})


def _by_error(error: dict[str, Any] | None) -> Outcome:
    return Outcome(Status.SUCCEEDED) if error is None else Outcome(Status.FAILED, error)


def describe(raised: BaseException) -> dict[str, Any]:
    """The error of the wire for an exception of an agent. A group of one is that one."""
    while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
        raised = raised.exceptions[0]
    name = type(raised).__name__[:200]
    if isinstance(raised, AgentBroken):
        return {"code": "agent_unavailable", "message": explain(raised)}
    error = _check(raised.error) if isinstance(raised, AgentFailed) else None
    return error or {"code": "exception", "message": explain(raised) or name, "exception": name}


def _check(error: object) -> dict[str, Any] | None:
    """An error that an agent made itself, clean; None if it cannot be stored, or is a novel."""
    try:
        cleaned = clean_json(error)
        fits = len(msgspec.json.encode(cleaned)) <= MAX_ERROR_BYTES
    except Exception:  # noqa: BLE001 - it is somebody else's object
        return None
    return cleaned if fits and isinstance(cleaned, dict) else None
