"""The pure decision of a batch: items and the truth under locks in, rows and answers out.

1. Nothing here waits or remembers: a failed batch is simply planned again from the same committed logs.
2. Items are decided in the order they came; one that is refused changes nothing for the others.
3. A run's row after the batch is ``lifecycle.apply`` of its events: row and log cannot disagree.
4. A settlement repeats the stop mark that the row holds at that moment, whoever wrote it. A run with a mark is
   settled where it was to be released, and never claimed.
5. A released run's message is stored whole: who claims it goes on writing it.

Not here: SQL (``store/batches.py``), what happens after the commit (``writer.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import msgspec

from outlive import wire
from outlived.journal.items import (
    MAX_DELTA_CHARS,
    Append,
    Claim,
    Created,
    Entry,
    Existing,
    Item,
    KeyTaken,
    RunSpec,
    SlotTaken,
    Start,
    StartAnswer,
    Take,
    Taken,
    settles,
)
from outlived.journal.log import MESSAGE_STATUS, RunLog, show_run
from outlived.rules.lifecycle import IllegalFact, Order, apply
from outlived.rules.message import FILLING, read_content, restore
from outlived.rules.run import Event, Fact, Run, Status
from outlived.store.adoption import Position
from outlived.store.batches import (
    Batch,
    MessageChange,
    NewEvent,
    NewMessage,
    NewRun,
    NewStep,
    Questions,
    RunChange,
    Takeable,
    Truth,
)
from outlived.store.owners import StopMark
from outlived.store.reads import LoggedEvent

_encode = msgspec.json.encode


@attrs.define(eq=False)
class LogChange:
    """What a batch does to one owned run; applied to its log after the commit."""

    log: RunLog
    run: Run
    events: list[Event] = attrs.Factory(list)
    logged: list[LoggedEvent] = attrs.Factory(list)
    unsaved: int = 0
    closed: bool = False
    released: bool = False
    process_only: bool = True
    read: Position | None = None

    @property
    def gone(self) -> bool:
        """Whether the run is not this owner's any more."""
        return self.closed or self.released


@attrs.define(eq=False)
class Plan:
    """A batch to write, and what to do once it is committed."""

    batch: Batch
    changes: dict[str, LogChange] = attrs.Factory(dict)
    opened: list[RunLog] = attrs.Factory(list)
    starts: list[tuple[Start, StartAnswer]] = attrs.Factory(list)
    takes: list[tuple[Take, list[Taken]]] = attrs.Factory(list)
    claims: list[tuple[Claim, wire.Run | None]] = attrs.Factory(list)
    appends: list[Append] = attrs.Factory(list)
    lost: list[Append] = attrs.Factory(list)


def ask(items: Iterable[Item], logs: Mapping[str, RunLog]) -> Questions:
    """What has to be known, and locked, before these items can be decided.

    A settlement locks its chat too: it frees the slot for which another daemon's start may be waiting while
    that daemon holds a chat this batch needs.
    """
    chats: set[tuple[str, str]] = set()
    slots: set[tuple[str, str]] = set()
    keys: set[tuple[str, str]] = set()
    settling: set[str] = set()
    taking: set[str] = set()
    for item in items:
        if isinstance(item, Start):
            slots.add((item.spec.workspace, item.spec.chat_id))
            if item.spec.key is not None:
                keys.add((item.spec.workspace, item.spec.key))
        elif isinstance(item, Take):
            taking.update(item.run_ids)
        elif isinstance(item, Claim):
            taking.add(item.spec.id)
        elif settles(item):
            settling.add(item.run_id)
            if (log := logs.get(item.run_id)) is not None:
                chats.add((log.workspace, log.chat_id))
    return Questions(
        chats=frozenset(chats | slots),
        slots=frozenset(slots),
        keys=frozenset(keys),
        settling=frozenset(settling),
        taking=frozenset(taking),
    )


def plan(
    items: Iterable[Item], truth: Truth, logs: Mapping[str, RunLog], owner: str, message_limit: int
) -> Plan:
    """Decide a batch. Raises IllegalFact where an item breaks the lifecycle: a bug of ours."""
    planner = _Planner(truth, logs, owner, message_limit)
    for item in items:
        if isinstance(item, Start):
            planner.start(item)
        elif isinstance(item, Take):
            planner.take(item)
        elif isinstance(item, Claim):
            planner.claim(item)
        else:
            planner.append(item)
    return planner.finish()


class _Planner:
    def __init__(self, truth: Truth, logs: Mapping[str, RunLog], owner: str, message_limit: int) -> None:
        self.truth = truth
        self.logs = logs
        self.owner = owner
        self.message_limit = message_limit
        self.active = dict(truth.active)
        self.keys = dict(truth.keys)
        self.positions = dict(truth.chats)
        self.plan = Plan(Batch(truth.at))

    # ---- starts

    def start(self, item: Start) -> None:
        self.plan.starts.append((item, self._find(item) or self._create(item)))

    def _find(self, item: Start) -> StartAnswer | None:
        """A key is looked at before the chat's slot."""
        spec = item.spec
        found = self.keys.get((spec.workspace, spec.key)) if spec.key is not None else None
        if found is not None:
            run_id, digest = found
            return Existing(run_id) if digest == spec.digest else KeyTaken(run_id)
        active = self.active.get((spec.workspace, spec.chat_id))
        if active is None:
            return None
        return Existing(active) if spec.on_active == "join" else SlotTaken(active)

    def _create(self, item: Start) -> Created:
        spec, chat = item.spec, (item.spec.workspace, item.spec.chat_id)
        self.active[chat] = spec.id
        if spec.key is not None:
            self.keys[spec.workspace, spec.key] = (spec.id, spec.digest)
        position = self._number(chat)
        self.plan.batch.new_runs.append(_new_run(spec, position))
        self.plan.batch.new_messages.extend(_new_messages(spec, position))
        data = {
            "trigger": spec.trigger,
            "agent": spec.agent,
            "status": "pending",
            "owner": self.owner,
            "epoch": 1,
        }
        event = Event(1, self.truth.at, Fact.CREATED.value, data)
        run, _ = apply(None, event)
        draft = restore([], truncated=False, as_of_seq=0, limit=self.message_limit)
        log = RunLog(
            spec.id, spec.workspace, spec.chat_id, spec.message_id, run, draft, spec=spec, position=position
        )
        self.plan.opened.append(log)
        self._record(LogChange(log, run, process_only=False), event, _encode(data).decode())
        return Created(show_run(spec, position, run))

    def _number(self, chat: tuple[str, str]) -> int:
        """Two positions: the user's message and the assistant's; the run takes the first."""
        batch = self.plan.batch
        position = self.positions.get(chat, 1)
        self.positions[chat] = position + 2
        (batch.moved_chats if chat in self.truth.chats else batch.new_chats)[chat] = position + 2
        return position

    # ---- takes

    def take(self, item: Take) -> None:
        taken = self._find_takeable(set(item.run_ids))
        for found in taken:
            change = self._open(found)
            self._apply(change, Fact.ADOPTED.value, {"owner": self.owner, "epoch": found.run.epoch + 1})
        answer = [
            Taken(found.id, found.as_of_seq, found.run.last_seq, found.run.owner is None) for found in taken
        ]
        self.plan.takes.append((item, answer))

    def _find_takeable(self, wanted: set[str]) -> list[Takeable]:
        """Those that are nobody's, and were not taken by an item before."""
        return [
            found
            for found in self.truth.takeable
            if found.id in wanted and found.id not in self.logs and found.id not in self.plan.changes
        ]

    def _open(self, found: Takeable) -> LogChange:
        """Open the log of a run that was nobody's."""
        draft = restore(
            msgspec.json.decode(found.parts),
            truncated=found.truncated,
            as_of_seq=found.as_of_seq,
            limit=self.message_limit,
        )
        log = RunLog(found.id, found.workspace, found.chat_id, found.message_id, found.run, draft)
        self.plan.opened.append(log)
        return LogChange(log, found.run, process_only=False)

    def claim(self, item: Claim) -> None:
        """The attempt is counted before its agent starts: whatever happens next, it was this one's."""
        claimed: wire.Run | None = None
        for found in self._find_takeable({item.spec.id}):
            if found.run.owner is not None or found.run.stop_requested_at is not None:
                continue
            attempt, epoch = found.run.attempt + 1, found.run.epoch + 1
            change = self._open(found)
            self._apply(change, Fact.STARTED.value, {"attempt": attempt, "owner": self.owner, "epoch": epoch})
            claimed = _show_again(item.run, change.run)
        self.plan.claims.append((item, claimed))

    # ---- appends

    def append(self, item: Append) -> None:
        log = self.logs.get(item.run_id)
        if log is None or (settles(item) and item.run_id not in self.truth.marks):
            self.plan.lost.append(item)
            return
        change = self.plan.changes.get(item.run_id)
        if change is None:
            change = self.plan.changes[item.run_id] = LogChange(log, log.run, unsaved=log.unsaved)
        for entry in item.entries:
            self._append_entry(change, entry)
        if item.process is not None:
            self.plan.batch.processes.append((item.run_id, item.process))
        if item.position is not None:
            change.read = self.plan.batch.positions[item.run_id] = item.position
        if item.session is not None:
            self.plan.batch.sessions[item.session.key] = item.session
        self.plan.appends.append(item)

    def _append_entry(self, change: LogChange, entry: Entry) -> None:
        change.process_only = False
        if entry.pieces is not None:
            text = "".join(entry.pieces)
            for start in range(0, len(text), MAX_DELTA_CHARS):
                self._apply(change, entry.type, {"text": text[start : start + MAX_DELTA_CHARS]})
        elif entry.type == Fact.SETTLED:
            self._apply(change, entry.type, self._settlement(change, entry.data))
        elif entry.type == Fact.RELEASED:
            self._release(change, entry.data)
        else:
            self._apply(change, entry.type, entry.data)
        if entry.result is not None:
            self._keep_result(change, entry.data, entry.result)

    def _keep_result(self, change: LogChange, data: dict[str, Any], result: str) -> None:
        run_id, seq = change.log.run_id, change.run.last_seq
        self.plan.batch.steps.append(NewStep(run_id, data["step"], data["name"], result, seq))

    def _release(self, change: LogChange, data: dict[str, Any]) -> None:
        """Give the run back. One that somebody wants stopped has no next attempt: it is settled."""
        stopped = self._settlement(change, {"status": Status.ABORTED.value, "error": None, **data})
        if stopped["stop_requested_at"] is None:
            self._apply(change, Fact.RELEASED.value, {"reason": data["reason"]})
        else:
            self._apply(change, Fact.SETTLED.value, stopped)

    def _settlement(self, change: LogChange, data: dict[str, Any]) -> dict[str, Any]:
        """The settlement with the stop mark of the row, else the one its writer knew of. A stopped run has no error."""
        mark = self.truth.marks[change.log.run_id] or data.get("mark")
        run = change.run
        if mark is None and run.stop_requested_at is not None:
            mark = StopMark(run.stop_requested_at, run.stop_reason, None)
        return {
            "status": data["status"],
            "error": None if mark and data["status"] == Status.ABORTED else data["error"],
            "stop_requested_at": mark.requested_at if mark else None,
            "stop_reason": mark.reason if mark else None,
        }

    # ---- what they share

    def _apply(self, change: LogChange, type_: str, data: dict[str, Any]) -> None:
        event = Event(change.run.last_seq + 1, self.truth.at, type_, data)
        try:
            text = _encode(data).decode()
            run, orders = apply(change.run, event)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise IllegalFact(change.run, event, f"its data is not what its type has: {error!r}") from error
        change.run = run
        if Order.CLOSE in orders:
            change.closed = True
            self._free(change.log)
        change.released = change.released or Order.LET_GO in orders
        self._record(change, event, text)

    def _free(self, log: RunLog) -> None:
        """The run no longer holds its chat, for the items that come after it."""
        if self.active.get((log.workspace, log.chat_id)) == log.run_id:
            del self.active[log.workspace, log.chat_id]

    def _record(self, change: LogChange, event: Event, data: str) -> None:
        run_id = change.log.run_id
        self.plan.changes[run_id] = change
        change.events.append(event)
        change.logged.append(LoggedEvent(event.seq, event.at, event.type, data))
        if event.type in FILLING and not change.log.draft.truncated:
            change.unsaved += len(data)
        self.plan.batch.events.append(NewEvent(run_id, event.seq, change.run.epoch, event.type, data))

    def finish(self) -> Plan:
        created = {new.id for new in self.plan.batch.new_runs}
        for run_id, change in self.plan.changes.items():
            if run_id in created or change.process_only:
                continue
            self.plan.batch.run_changes.append(_run_change(change))
            if change.gone or change.unsaved >= change.log.save_at or _ended(change):
                self._save_message(change)
        return self.plan

    def _save_message(self, change: LogChange) -> None:
        draft = change.log.draft.copy()
        for event in change.events:
            draft.add(event)
        change.unsaved = 0
        parts = draft.parts
        status = MESSAGE_STATUS.get(change.run.status, "streaming")
        self.plan.batch.message_changes.append(
            MessageChange(
                change.log.message_id,
                read_content(parts),
                _encode(parts).decode(),
                draft.truncated,
                draft.as_of_seq,
                status,
            )
        )


def _ended(change: LogChange) -> bool:
    """Whether a step ended, or the message is full: then nobody has to read the rest of the log for it."""
    full = change.log.draft.truncated
    return change.unsaved > 0 and (full or any(event.type == Fact.STEP_FINISHED for event in change.events))


def _run_change(change: LogChange) -> RunChange:
    before, after = change.log.run, change.run
    error = None if after.error is None else _encode(after.error).decode()
    return RunChange(change.log.run_id, after, error, before.owner, before.epoch)


def _new_run(spec: RunSpec, position: int) -> NewRun:
    return NewRun(
        id=spec.id,
        workspace=spec.workspace,
        chat_id=spec.chat_id,
        position=position,
        agent=spec.agent,
        command=_text(spec.command),
        input=_encode(spec.input).decode(),
        trigger=spec.trigger,
        created_by=spec.created_by,
        peer_uid=spec.peer_uid,
        message_id=spec.message_id,
        metadata=_encode(spec.metadata).decode(),
        detached=spec.detached,
        on_owner_loss=spec.on_owner_loss,
        key=spec.key,
        digest=spec.digest,
        cwd=spec.cwd,
        env=_text(spec.env),
    )


def _text(value: Any) -> str | None:
    return None if value is None else _encode(value).decode()


def read_input(given: str | list[dict[str, Any]]) -> str:
    """The text of an input: itself, or its text parts one after another."""
    if isinstance(given, str):
        return given
    return "".join(str(part.get("text", "")) for part in given if part.get("type") == "text")


def _new_messages(spec: RunSpec, position: int) -> list[NewMessage]:
    text = read_input(spec.input)
    parts = spec.input if isinstance(spec.input, list) else [{"type": "text", "text": text}] if text else []
    where = {"workspace": spec.workspace, "chat_id": spec.chat_id, "run_id": spec.id}
    return [
        NewMessage(
            id=spec.user_message_id, position=position, role="user", status="completed", content=text,
            parts=_encode(parts).decode(), **where,
        ),
        NewMessage(
            id=spec.message_id, position=position + 1, role="assistant", status="streaming", content="",
            parts="[]", **where,
        ),
    ]  # fmt: skip


def _show_again(shown: wire.Run, run: Run) -> wire.Run:
    """A run that was read a moment ago, as it is at this commit."""
    return attrs.evolve(
        shown,
        status=run.status.value,
        attempt=run.attempt,
        epoch=run.epoch,
        owner=run.owner,
        last_seq=run.last_seq,
        started_at=run.started_at,
        updated_at=run.updated_at,
    )


__all__ = ["Plan", "ask", "plan", "read_input"]
