"""What must be true of one run's history: its row, its log, its message, whatever happened to its daemons.

1. A log is dense from the run's ``first_seq`` to its ``last_seq``; ``run.settled`` is there once, last, and only if
   the run is settled; the epochs of its events only rise.
2. Its fold is the row, each event carries the epoch that the fold has at it, and the message is what the log says
   up to ``as_of_seq``. A log whose beginning was pruned has no fold: that part is left out.
3. One event at a time, nothing kept but the fold and the draft: a log may be of any length.
4. Nothing is trusted: data that cannot be read is a problem like any other, never an error here.

Not here: what runs have to do with each other, with chats and with owners (``store/sql/history.sql``).
"""

from __future__ import annotations

import hashlib
from typing import Any

import attrs
import msgspec

from outlived.rules.lifecycle import IllegalFact, apply
from outlived.rules.message import Draft, read_content, restore
from outlived.rules.run import TERMINAL, USAGE_FIELDS, Event, Fact, Run

LARGEST_MESSAGE = 32 << 20
"""Bytes: no setting lets a message grow further, so no draft here does."""

FOLDED = (
    "status", "attempt", "epoch", "owner", "step_count", "last_seq", "error", "created_at", "started_at",
    "finished_at", "updated_at", "stop_requested_at", "stop_reason",
)  # fmt: skip
MESSAGE_STATUS = {"succeeded": "completed", "failed": "failed", "aborted": "aborted"}


@attrs.frozen
class Problem:
    """Something that must not be. ``kind`` is one word for programs, ``what`` a sentence; the id where there is one."""

    kind: str
    what: str
    run_id: str | None = None

    def __str__(self) -> str:
        return f"run {self.run_id}: {self.what}" if self.run_id else self.what


@attrs.frozen
class MessageRow:
    """A run's assistant message as stored. ``parts`` is JSON text, there only where it is needed (``truncated``)."""

    status: str
    truncated: bool
    as_of_seq: int
    position: int
    content_digest: bytes
    parts_digest: bytes
    parts: str | None = None


@attrs.frozen
class RunRow:
    """A run's row: the columns that are the fold of its log by name, and what stands beside them. ``pruned``: its
    whole log is gone.
    """

    id: str
    position: int
    first_seq: int
    pruned: bool
    columns: dict[str, Any]
    message: MessageRow | None


@attrs.frozen
class LogRow:
    """One row of a log; ``data`` is JSON text."""

    run_id: str
    seq: int
    epoch: int
    at: str
    type: str
    data: str


def digest(text: str) -> bytes:
    """What stands for a text that is too large to be fetched for a comparison."""
    return hashlib.sha256(text.encode()).digest()


class Review:
    """One run under review: ``add`` its events in order, then ``finish``."""

    def __init__(self, row: RunRow) -> None:
        self._row = row
        self._next_seq = row.first_seq
        self._epoch = 0
        self._settled_at: list[int] = []
        self._run: Run | None = None
        self._foldable = row.first_seq == 1
        self._draft = Draft(_read_limit(row.message))
        self._said: set[str] = set()
        self.problems: list[Problem] = []

    def add(self, event: LogRow) -> None:
        """Take the next event of the log."""
        if event.seq != self._next_seq:
            self._note("gap", f"its log has event {event.seq} where {self._next_seq} should be")
            self._foldable = False
        self._next_seq = event.seq + 1
        if event.epoch < self._epoch:
            self._note(
                "epoch", f"event {event.seq} is of epoch {event.epoch}, one before it of {self._epoch}"
            )
        self._epoch = max(self._epoch, event.epoch)
        if event.type == Fact.SETTLED:
            self._settled_at.append(event.seq)
        if self._foldable:
            self._fold(event)

    def finish(self) -> list[Problem]:
        """All problems, once the log has ended."""
        last = self._row.columns["last_seq"]
        if self._next_seq == last + 1:
            self._check_end(last)
        else:
            self._note("gap", f"its log ends at event {self._next_seq - 1}, its row says {last}")
            self._foldable = False
        if self._foldable:
            self._check_fold()
        self._check_pruning(last)
        self._check_message(last)
        return self.problems

    # ---- the log

    def _note(self, kind: str, what: str) -> None:
        """One problem of a kind is enough: what follows from it would drown it."""
        if kind not in self._said:
            self._said.add(kind)
            self.problems.append(Problem(kind, what, self._row.id))

    def _fold(self, event: LogRow) -> None:
        try:
            data = msgspec.json.decode(event.data)
            fact = Event(event.seq, event.at, event.type, data)
            self._run, _ = apply(self._run, fact)
            if self._row.message is not None and event.seq <= self._row.message.as_of_seq:
                self._draft.add(fact)
        except IllegalFact as error:
            self._give_up(f"its log cannot be: {error}")
        except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            self._give_up(f"event {event.seq} ({event.type}) has data that cannot be: {error!r}")
        else:
            if event.epoch != self._run.epoch:
                its = f"event {event.seq} is of epoch {event.epoch}"
                self._note("epoch", f"{its}, its log says {self._run.epoch}")

    def _give_up(self, what: str) -> None:
        self._note("log", what)
        self._foldable = False

    def _check_end(self, last: int) -> None:
        settled = self._row.columns["status"] in TERMINAL
        if self._row.first_seq > last:
            return  # all of it is pruned
        if self._settled_at != ([last] if settled else []):
            where = ", ".join(map(str, self._settled_at)) or "nowhere"
            status = self._row.columns["status"]
            self._note("settled", f"it is {status} with {last} events, and run.settled is at {where}")

    def _check_pruning(self, last: int) -> None:
        first, status = self._row.first_seq, self._row.columns["status"]
        if first > 1 and status not in TERMINAL:
            self._note("pruned", f"its log begins at event {first}, and it is {status}")
        if self._row.pruned != (first > last):
            state = "pruned" if self._row.pruned else "not pruned"
            self._note("pruned", f"it is said to be {state}, and its log is from event {first} to {last}")

    # ---- the row

    def _check_fold(self) -> None:
        if self._run is None:
            return
        for field in FOLDED:
            self._compare(field, getattr(self._run, field))
        for field in USAGE_FIELDS:
            self._compare(field, getattr(self._run.usage, field))

    def _compare(self, field: str, said: Any) -> None:
        stored = self._row.columns[field]
        if field == "error" and stored is not None:
            stored = _read_json(stored)
        leads = field.startswith("stop_") and said is None and self._run is not None and not self._run.settled
        if stored != said and not leads:  # a stop mark may lead the log until the settlement
            self.problems.append(
                Problem("fold", f"{field} is {stored!r}, its log says {said!r}", self._row.id)
            )

    # ---- the message

    def _check_message(self, last: int) -> None:
        message, status = self._row.message, self._row.columns["status"]
        if message is None:
            self._note("message", "its assistant message is not there")
            return
        if message.status != (wanted := MESSAGE_STATUS.get(status, "streaming")):
            self._note("message", f"its message is {message.status}, and should be {wanted}")
        if status in TERMINAL and message.as_of_seq != last:
            self._note("message", f"its message ends at event {message.as_of_seq}, its log at {last}")
        if message.as_of_seq > last:
            self._note("message", f"its message knows event {message.as_of_seq}, its log ends at {last}")
        if message.position != self._row.position + 1:
            self._note(
                "position", f"its message is at {message.position}, and it at {self._row.position} itself"
            )
        if self._foldable and not self._agrees(message):
            self._note("message", "its message is not what its log says")

    def _agrees(self, message: MessageRow) -> bool:
        parts = self._draft.parts
        return (
            message.truncated == self._draft.truncated
            and message.content_digest == digest(read_content(parts))
            and message.parts_digest == digest(msgspec.json.encode(parts).decode())
        )


def _read_limit(message: MessageRow | None) -> int:
    """The limit under which a message was cut: what it holds. Its daemon's settings are not known here."""
    if message is None or not message.truncated or message.parts is None:
        return LARGEST_MESSAGE
    try:
        return restore(msgspec.json.decode(message.parts), truncated=True, as_of_seq=0).size
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError):
        return LARGEST_MESSAGE


def _read_json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
