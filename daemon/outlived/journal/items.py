"""What may be asked of the journal, and the answers that come with a commit.

1. An item is written whole or not at all, and in the order in which a run's items were handed in.
2. Text of one run that is still queued grows in place: many tokens, one entry.
3. Sizes are counted in bytes, roughly: they bound a queue, they are not an account.
4. An item knows since when it has been waiting (``time.monotonic``), for whoever asks how late the journal is.

Not here: what an item leads to (``plan.py``), and when (``writer.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

import attrs
import trio

from outlive import wire
from outlived.rules.run import Fact
from outlived.store.adoption import Position
from outlived.store.past import NewSession
from outlived.store.stops import RunProcess

A = TypeVar("A")

OVERHEAD_BYTES = 200
MAX_DELTA_CHARS = 40_000
"""A delta's text in one event: even if every character is escaped its data stays below 256 KiB."""


class JournalRefused(Exception):
    """The database refused this item for good: our bug, or data that no table takes."""


class OwnershipLost(Exception):
    """This owner was declared dead, or the run is no longer its own: touch nothing."""


class Ticket(Generic[A]):
    """An answer that will come, once, to the one who waits for it. (An event would do; it costs twice as much.)"""

    __slots__ = ("_answer", "_error", "_waiter", "done")

    def __init__(self) -> None:
        self.done = False
        self._waiter: trio.lowlevel.Task | None = None
        self._answer: A | None = None
        self._error: Exception | None = None

    def resolve(self, answer: A) -> None:
        self._answer = answer
        self._wake()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._wake()

    def _wake(self) -> None:
        self.done = True
        if self._waiter is not None:
            trio.lowlevel.reschedule(self._waiter)
            self._waiter = None

    async def wait(self) -> A:
        """The answer. Raises what the journal said instead of one."""
        if not self.done:
            assert self._waiter is None, "a ticket has one holder"
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._leave)
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED


@attrs.frozen
class RunSpec:
    """A run that is asked for, complete: ids are chosen, the request is checked."""

    id: str
    message_id: str
    user_message_id: str
    workspace: str
    chat_id: str
    agent: str | None
    command: list[str] | None
    input: str | list[dict[str, Any]]
    trigger: str
    on_active: str
    created_by: str | None
    peer_uid: int
    metadata: dict[str, Any]
    detached: bool
    on_owner_loss: wire.OwnerLoss
    key: str | None
    digest: str | None
    cwd: str | None
    env: dict[str, str] | None


@attrs.frozen
class Created:
    """The run is durable and ours."""

    run: wire.Run


@attrs.frozen
class Existing:
    """The key, or ``join``, names a run that was there."""

    run_id: str


@attrs.frozen
class SlotTaken:
    """The chat has an active run."""

    run_id: str


@attrs.frozen
class KeyTaken:
    """The key stands for something else."""

    run_id: str


StartAnswer: TypeAlias = Created | Existing | SlotTaken | KeyTaken


@attrs.define(eq=False)
class Start:
    """Insert a run. ``on_commit`` is called at the commit, before anybody learns of it.

    ``asked_at``: on Trio's clock. ``overdue``: it was to be withdrawn, but the writer had it in hand. ``tries``: how
    often it was refused alone.
    """

    spec: RunSpec
    size: int
    on_commit: Callable[[RunSpec, wire.Run], None]
    asked_at: float = 0.0
    ticket: Ticket[StartAnswer] = attrs.Factory(Ticket)
    overdue: bool = False
    tries: int = 0
    since: float = attrs.Factory(time.monotonic)


@attrs.define(eq=False)
class Entry:
    """An event without a number yet. A delta's text is in ``pieces``, any other event's data in ``data``.

    ``result``: the JSON text that a ``step.finished`` leaves for the run's next attempt.
    """

    type: str
    data: dict[str, Any]
    pieces: list[str] | None = None
    result: str | None = None


@attrs.define(eq=False)
class Append:
    """Events of one run, in order; or the identity of its process, or its program's session. ``position``: so far its
    output was read for them.
    """

    run_id: str
    entries: list[Entry]
    size: int
    process: RunProcess | None = None
    position: Position | None = None
    session: NewSession | None = None
    ticket: Ticket[None] | None = None
    tries: int = 0
    since: float = attrs.Factory(time.monotonic)


@attrs.frozen
class Taken:
    """A run that was nobody's and is this owner's now. ``released``: no owner lost it, one had given it back."""

    run_id: str
    stored_upto: int
    last_seq: int
    released: bool = False


@attrs.define(eq=False)
class Take:
    """Take over those of the runs that are nobody's at that moment."""

    run_ids: list[str]
    size: int = OVERHEAD_BYTES
    ticket: Ticket[list[Taken]] = attrs.Factory(Ticket)
    tries: int = 0
    since: float = attrs.Factory(time.monotonic)


@attrs.define(eq=False)
class Claim:
    """Begin the next attempt of a run that was released, if it still is and nobody wants it stopped.

    ``run`` is as it was read before. ``on_commit`` gets it as it is now, at the commit, before anybody learns of it.
    """

    spec: RunSpec
    run: wire.Run
    on_commit: Callable[[RunSpec, wire.Run], None]
    size: int = OVERHEAD_BYTES
    ticket: Ticket[wire.Run | None] = attrs.Factory(Ticket)
    tries: int = 0
    since: float = attrs.Factory(time.monotonic)


Item: TypeAlias = Start | Append | Take | Claim


def settles(item: Item) -> bool:
    """Whether the item is the last one of its run here: a settlement, or a release."""
    return (
        isinstance(item, Append)
        and bool(item.entries)
        and item.entries[-1].type in {Fact.SETTLED, Fact.RELEASED}
    )
