"""The abort registry: run id -> the scope of its agent, and why it was cancelled.

1. A run is here from the commit that made it ours until its task has ended.
2. The first cause stays, but for a lost ownership: after that nothing may be written any more.
3. Cancelling is immediate and waits for nothing; what it means is judged by the run's own task.

Not here: durable stop marks (``stop.py``), what a cause means (``judge.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import attrs
import trio

from outlived.rules.limits import NO_LIMITS, Limits
from outlived.store.owners import StopMark
from outlived.supervisor.pulse import Pulse


class Cause(Enum):
    """Why an agent is cancelled."""

    STOP = "somebody asked for it"
    SHUTDOWN = "the daemon stops"
    FORCED = "the daemon was told twice to stop"
    DISTRUST = "this owner could not renew its lease"
    LEAVE = "the daemon stops, and leaves the run to the next one"
    LOST = "another owner has the run"
    LIMIT = "it reached one of its limits"


@attrs.define(eq=False)
class Active:
    """One run of ours. ``mark``: the stop it was asked for; ``hurry``: its agent gets no (more) grace; ``leavable``: its
    agent is a command that may be left to the next daemon; ``what`` and ``pid`` say which, for people.

    ``limit``: the error of the one of its ``limits`` that it reached; ``elapsed_seconds``: what its attempt took at
    another daemon; ``pulse``: when its agent last did something, if that is limited.
    """

    run_id: str
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    cause: Cause | None = None
    mark: StopMark | None = None
    hurry: trio.Event = attrs.Factory(trio.Event)
    leavable: bool = False
    what: str = ""
    pid: int | None = None
    limits: Limits = NO_LIMITS
    elapsed_seconds: float = 0.0
    pulse: Pulse | None = None
    limit: dict[str, Any] | None = None

    def cancel(self, cause: Cause) -> None:
        """Cancel the agent. A lost ownership leaves it no grace."""
        if self.cause is None or cause is Cause.LOST:
            self.cause = cause
        if self.cause is Cause.LOST:
            self.hurry.set()
        self.scope.cancel()

    def exceed(self, limit: dict[str, Any]) -> None:
        """Cancel the agent: it reached a limit. Whoever asked for its end before has asked first."""
        if self.limit is None:
            self.limit = limit
        self.cancel(Cause.LIMIT)

    def force(self) -> None:
        """Cancel the agent, or end the grace it was given."""
        if self.cause in {None, Cause.SHUTDOWN}:
            self.cause = Cause.FORCED
        self.hurry.set()
        self.scope.cancel()


class Registry:
    """All runs of ours."""

    def __init__(self) -> None:
        self._active: dict[str, Active] = {}
        self._performing: set[str] = set()
        self._left: dict[str, Active] = {}
        self._fewer = trio.lowlevel.ParkingLot()

    def enter(self, run_id: str, *, performing: bool = True) -> Active:
        """Take a run in; one that is only here to be settled is not ``performing``."""
        active = self._active[run_id] = Active(run_id)
        if performing:
            self._performing.add(run_id)
        return active

    def is_performing(self, run_id: str) -> bool:
        """Whether an agent is at work for it; else its settlement is under way, if it is here."""
        return run_id in self._performing

    def note_performed(self, active: Active) -> None:
        """Its agent has ended; what is left is to settle it."""
        self._performing.discard(active.run_id)
        if not self._performing:
            self._fewer.unpark_all()

    def leave(self, active: Active) -> None:
        self._active.pop(active.run_id, None)
        self.note_performed(active)

    def note_left(self, active: Active) -> None:
        """It goes on without us: nobody here may miss it, or touch it."""
        self._left[active.run_id] = active

    def is_left(self, run_id: str) -> bool:
        return run_id in self._left

    @property
    def left(self) -> list[Active]:
        return list(self._left.values())

    def find(self, run_id: str) -> Active | None:
        return self._active.get(run_id)

    def cancel_all(self, cause: Cause) -> None:
        for active in list(self._active.values()):
            active.cancel(cause)

    async def wait_performed(self) -> None:
        """Return once no agent is at work."""
        while self._performing:
            await self._fewer.park()

    async def wait_empty(self) -> None:
        while self._active:
            await self._fewer.park()

    def __iter__(self) -> Iterator[Active]:
        return iter(list(self._active.values()))

    def __len__(self) -> int:
        return len(self._active)
