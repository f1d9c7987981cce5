"""The tables as the journal's plan sees them, in memory: gives a batch its truth, takes what it writes, and checks it.

What the real tables would refuse (a second active run, a position or a key twice, a changed owner) fails here too.
"""

import json
from typing import Any

import attrs

from outlive import wire
from outlived.identifiers import make_id
from outlived.journal.items import Append, Claim, Created, Entry, Item, Start, Ticket
from outlived.journal.log import RunLog, show_run
from outlived.journal.plan import MESSAGE_STATUS, Plan, ask, plan
from outlived.rules.lifecycle import fold
from outlived.rules.message import DEFAULT_LIMIT, Draft, read_content
from outlived.rules.run import ACTIVE, Event, Fact, Run
from outlived.store.batches import Takeable, Truth
from outlived.store.owners import StopMark
from tests.support.journals import make_spec
from tests.support.logs import OWNERS, write_at

ME, DEAD = OWNERS

ChatKey = tuple[str, str]


@attrs.define(eq=False)
class Row:
    """A run and its message. ``mark``: a stop that somebody wrote into the row."""

    chat: ChatKey
    run: Run
    message_id: str
    key: str | None = None
    digest: str | None = None
    mark: StopMark | None = None
    events: list[Event] = attrs.Factory(list)
    content: str = ""
    parts: str = "[]"
    truncated: bool = False
    as_of_seq: int = 0
    message_status: str = "streaming"
    steps: dict[int, str] = attrs.Factory(dict)

    @property
    def marked(self) -> Run:
        """The run as its row says it: with the mark, whoever wrote it."""
        if self.mark is None:
            return self.run
        return attrs.evolve(self.run, stop_requested_at=self.mark.requested_at, stop_reason=self.mark.reason)


@attrs.define(eq=False)
class World:
    """All tables and this owner's memory."""

    rows: dict[str, Row] = attrs.Factory(dict)
    chats: dict[ChatKey, int] = attrs.Factory(dict)
    positions: set[tuple[ChatKey, int]] = attrs.Factory(set)
    logs: dict[str, RunLog] = attrs.Factory(dict)
    limit: int = DEFAULT_LIMIT
    time: int = 0

    # ---- what was there before

    def leave_orphan(self, chat_id: str, texts: list[str], stored: int) -> str:
        """A running run of a dead owner, its message stored up to ``stored`` events; its id."""
        run_id, chat = make_id(), ("w", chat_id)
        created = {"status": "pending", "owner": DEAD, "epoch": 1}
        log = [("run.created", created), ("run.started", {"attempt": 1, "owner": DEAD, "epoch": 1})]
        log += [("text.delta", {"text": text}) for text in texts]
        events = [Event(seq, write_at(seq), type_, data) for seq, (type_, data) in enumerate(log, 1)]
        row = self.rows[run_id] = Row(chat, fold(events), make_id(), events=events)
        draft = Draft(self.limit)
        for event in events[:stored]:
            draft.add(event)
        row.content, row.parts = read_content(draft.parts), json.dumps(draft.parts)
        row.truncated, row.as_of_seq = draft.truncated, draft.as_of_seq
        self.chats[chat] = self.chats.get(chat, 1) + 2
        return run_id

    def find_active(self, chat: ChatKey) -> str | None:
        return next(
            (id_ for id_, row in self.rows.items() if row.chat == chat and row.run.status in ACTIVE), None
        )

    # ---- a batch

    def read_truth(self, items: list[Item], *, stolen: frozenset[str] = frozenset()) -> Truth:
        """What read_truth would answer; ``stolen`` runs are no longer this owner's."""
        questions = ask(items, self.logs)
        self.time += 1
        keys = {("w", row.key): (id_, row.digest) for id_, row in self.rows.items() if row.key is not None}
        active = {chat: run_id for chat in questions.slots if (run_id := self.find_active(chat)) is not None}
        return Truth(
            at=write_at(self.time),
            chats={chat: self.chats[chat] for chat in questions.chats if chat in self.chats},
            active=active,
            keys={pair: found for pair, found in keys.items() if pair in questions.keys},
            marks={
                run_id: self.rows[run_id].mark
                for run_id in questions.settling
                if run_id in self.logs and run_id not in stolen
            },
            takeable=[
                Takeable(id_, *row.chat, row.marked, row.message_id, row.parts, row.truncated, row.as_of_seq)
                for id_, row in sorted(self.rows.items())
                if id_ in questions.taking and row.run.owner in {DEAD, None} and not row.run.settled
            ],
        )

    def decide(self, items: list[Item], truth: Truth) -> Plan:
        return plan(items, truth, self.logs, ME, self.limit)

    def commit(self, done: Plan) -> None:
        """Write the batch as the tables would, then move the memory on as the writer does."""
        batch = done.batch
        for chat, position in batch.new_chats.items():
            assert chat not in self.chats, f"chat {chat} inserted twice"
            self.chats[chat] = position
        for chat, position in batch.moved_chats.items():
            assert position > self.chats[chat], f"chat {chat} moved back"
            self.chats[chat] = position
        self._change_runs(done)
        for new in batch.new_runs:
            chat = (new.workspace, new.chat_id)
            assert self.find_active(chat) is None, f"chat {chat} has two active runs"
            assert new.key is None or all(row.key != new.key for row in self.rows.values()), "a key twice"
            self.rows[new.id] = Row(chat, done.changes[new.id].run, new.message_id, new.key, new.digest)
        for message in batch.new_messages:
            place = ((message.workspace, message.chat_id), message.position)
            assert place not in self.positions, f"position {place} twice"
            assert message.position < self.chats[place[0]]
            self.positions.add(place)
        self._add_events(done)
        self._add_steps(done)
        self._change_messages(done)
        self._move_logs(done)

    def _change_runs(self, done: Plan) -> None:
        for change in done.batch.run_changes:
            row = self.rows[change.id]
            assert not row.run.settled, f"run {change.id} changed after its settlement"
            assert (change.old_owner, change.old_epoch) == (row.run.owner, row.run.epoch)
            row.run = change.run
            assert json.loads(change.error or "null") == row.run.error

    def _add_events(self, done: Plan) -> None:
        for new in done.batch.events:
            row = self.rows[new.run_id]
            assert new.seq == len(row.events) + 1, f"run {new.run_id}: a gap or a repeat at {new.seq}"
            row.events.append(Event(new.seq, done.batch.at, new.type, json.loads(new.data)))

    def _add_steps(self, done: Plan) -> None:
        for new in done.batch.steps:
            row = self.rows[new.run_id]
            event = row.events[new.seq - 1]
            assert event.type == "step.finished"
            assert (event.data["step"], event.data["name"]) == (new.position, new.name)
            assert new.position not in row.steps, f"step {new.position} of {new.run_id} is done twice"
            row.steps[new.position] = new.result

    def _change_messages(self, done: Plan) -> None:
        by_message = {row.message_id: row for row in self.rows.values()}
        for change in done.batch.message_changes:
            row = by_message[change.id]
            row.content, row.parts, row.truncated = change.content, change.parts, change.truncated
            row.as_of_seq, row.message_status = change.as_of_seq, change.status

    def _move_logs(self, done: Plan) -> None:
        self.logs.update({opened.run_id: opened for opened in done.opened})
        for run_id, change in done.changes.items():
            change.log.advance(change.run, change.events, unsaved=change.unsaved)
            assert [event.seq for event in change.logged] == [event.seq for event in change.events]
            if change.gone:
                del self.logs[run_id]
        for _, taken in done.takes:
            for each in taken:
                self._complete(each.run_id, each.stored_upto, each.last_seq)

    def _complete(self, run_id: str, after: int, upto: int) -> None:
        """Fold into a taken run's draft what its message had not seen, as the supervisor does."""
        log = self.logs[run_id]
        now = log.draft.as_of_seq
        for event in self.rows[run_id].events[after:upto]:
            log.draft.add(event)
        log.draft.as_of_seq = max(now, upto)

    # ---- what must hold

    def check(self) -> None:
        """Every row is the fold of its log, every message what its log says."""
        for run_id, row in self.rows.items():
            folded = fold(row.events)
            if row.mark is not None and not folded.settled:  # a mark may lead the log until the settlement
                folded = attrs.evolve(
                    folded, stop_requested_at=row.run.stop_requested_at, stop_reason=row.run.stop_reason
                )
            assert row.run == folded, f"run {run_id}"
            draft = Draft(self.limit)
            for event in row.events[: row.as_of_seq]:
                draft.add(event)
            assert (row.content, json.loads(row.parts)) == (read_content(draft.parts), draft.parts)
            assert row.message_status == MESSAGE_STATUS.get(row.run.status, "streaming")
            if row.run.settled:
                assert row.as_of_seq == row.run.last_seq
                assert run_id not in self.logs
            if row.run.owner is None:  # whoever claims it goes on with the message as it is
                assert (row.run.status, row.as_of_seq) == ("pending", row.run.last_seq)
                assert run_id not in self.logs
            if row.run.settled and row.mark is not None:
                assert (row.run.stop_requested_at, row.run.stop_reason) == (
                    row.mark.requested_at,
                    row.mark.reason,
                )
        for run_id, log in self.logs.items():
            assert log.run == self.rows[run_id].run
            assert log.draft.as_of_seq == log.run.last_seq


def make_start(chat_id: str = "chat", **changes: Any) -> Start:
    """A start as the journal's queue holds it."""
    return Start(make_spec(chat_id, **changes), 1, lambda _spec, _run: None)


def make_append(run_id: str, *entries: Entry) -> Append:
    """Events as the queue holds them."""
    return Append(run_id, list(entries), 1, ticket=Ticket())


def make_settle(run_id: str, status: str = "succeeded", mark: StopMark | None = None, **data: Any) -> Append:
    """A settlement as the queue holds it."""
    entry = Entry(Fact.SETTLED.value, {"status": status, "error": data.get("error"), "mark": mark})
    return make_append(run_id, entry)


def make_release(run_id: str, reason: str = "shutdown", mark: StopMark | None = None) -> Append:
    """A release as the queue holds it."""
    return make_append(run_id, Entry(Fact.RELEASED.value, {"reason": reason, "mark": mark}))


def make_claim(run_id: str, shown: wire.Run | None = None) -> Claim:
    """A claim as the queue holds it; ``shown``: the run as it was read before."""
    spec = make_spec(id=run_id)
    created = {"owner": None, "epoch": 1, "status": "pending"}
    run = fold([Event(1, write_at(1), "run.created", created)])
    return Claim(spec, shown or show_run(spec, 1, run), lambda _spec, _run: None)


def run_batch(world: World, *items: Item) -> Plan:
    """Decide and commit one batch, and check everything."""
    done = world.decide(list(items), world.read_truth(list(items)))
    world.commit(done)
    world.check()
    return done


def get_answers(done: Plan) -> list[Any]:
    """The answers to a batch's starts; for a created run just its id."""
    return [answer.run.id if isinstance(answer, Created) else answer for _, answer in done.starts]
