"""What a batch decides: pure, against tables in memory that refuse what the real ones refuse."""

from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlived.journal import log as log_module
from outlived.journal import plan as plan_module
from outlived.journal.items import (
    MAX_DELTA_CHARS,
    Append,
    Created,
    Entry,
    Existing,
    Item,
    KeyTaken,
    SlotTaken,
    Start,
    Take,
)
from outlived.journal.log import SAVE_BYTES
from outlived.journal.plan import Plan, ask, read_input
from outlived.rules.leases import ProcessIdentity
from outlived.rules.lifecycle import IllegalFact, apply
from outlived.rules.run import ACTIVE, Event, Fact, Run
from outlived.store.owners import StopMark
from outlived.store.stops import RunProcess
from tests.support.journals import say
from tests.support.logs import legal_facts, texts, usages, write_at
from tests.support.world import (
    DEAD,
    ME,
    World,
    get_answers,
    make_append,
    make_claim,
    make_release,
    make_settle,
    make_start,
    run_batch,
)

PROCESS = RunProcess("host", ProcessIdentity("boot", "namespace", 7, 8), 7)
STARTED = Entry("run.started", {"attempt": 1, "owner": ME, "epoch": 1})
CHATS = ("a", "b", "c")
KEYS = (None, None, "k1", "k2")


def begin(world: World, chat_id: str = "chat") -> str:
    """A running run of this owner; its id."""
    start = make_start(chat_id)
    run_batch(world, start)
    run_batch(world, make_append(start.spec.id, STARTED))
    return start.spec.id


# ---------------------------------------------------------------- any batches


class Batch:
    """Draws one batch that is legal in a world, and foresees its answers."""

    def __init__(self, world: World, data: st.DataObject) -> None:
        self.world = world
        self.draw = data.draw
        self.items: list[Item] = []
        self.runs: dict[str, Run] = {run_id: log.run for run_id, log in world.logs.items()}
        self.active = {
            chat: run_id for chat in CHATS if (run_id := world.find_active(("w", chat))) is not None
        }
        self.keys = {
            row.key: (run_id, row.digest) for run_id, row in world.rows.items() if row.key is not None
        }
        self.answers: list[Any] = []
        self.said: dict[str, list[str]] = {}
        self.lost: list[Append] = []
        self.taken: list[set[str]] = []
        self.claimed: list[str | None] = []

    def add(self) -> None:
        kinds = [
            "start",
            "start",
            "stranger",
            "take",
            *(["claim"] if self.world.rows else []),
            *(["append"] * 4 + ["settle", "release", "process"] if self.runs else []),
        ]
        getattr(self, self.draw(st.sampled_from(kinds)))()

    def start(self) -> None:
        chat, key = self.draw(st.sampled_from(CHATS)), self.draw(st.sampled_from(KEYS))
        changes = {"digest": self.draw(st.sampled_from(["d1", "d2"])) if key else None, "key": key}
        item = make_start(chat, on_active=self.draw(st.sampled_from(["reject", "join"])), **changes)
        self.items.append(item)
        self.answers.append(self.foresee(item, chat, key))

    def foresee(self, item: Start, chat: str, key: str | None) -> Any:
        if key in self.keys:
            run_id, digest = self.keys[key]
            return (Existing if digest == item.spec.digest else KeyTaken)(run_id)
        if chat in self.active:
            return (Existing if item.spec.on_active == "join" else SlotTaken)(self.active[chat])
        self.active[chat] = item.spec.id
        if key is not None:
            self.keys[key] = (item.spec.id, item.spec.digest)
        return item.spec.id

    def append(self) -> None:
        run_id = self.draw(st.sampled_from(sorted(self.runs)))
        entries = [self.entry(run_id) for _ in range(self.draw(st.integers(1, 3)))]
        self.items.append(make_append(run_id, *entries))

    def entry(self, run_id: str) -> Entry:
        pieces = self.draw(st.none() | st.lists(texts, min_size=1, max_size=4))
        if pieces is not None:
            self.said.setdefault(run_id, []).extend(pieces)
            return Entry("text.delta", {}, pieces)
        avoided = {Fact.SETTLED, Fact.RELEASED, Fact.ADOPTED, Fact.PROMOTED}
        run = self.runs[run_id]
        fact = self.draw(st.sampled_from([each for each in legal_facts(run.status) if each not in avoided]))
        data = {
            "attempt": 1,
            "owner": run.owner,
            "epoch": run.epoch,
            "reason": None,
            "requested_at": write_at(9),
        }
        if fact is Fact.USAGE:
            data = self.draw(usages)
        self.runs[run_id], _ = apply(run, Event(run.last_seq + 1, write_at(1), fact.value, data))
        return Entry(fact.value, data)

    def mark(self, run_id: str) -> None:
        """Somebody may want it stopped."""
        row = self.world.rows[run_id]
        if self.draw(st.booleans()) and row.mark is None:
            row.mark = StopMark(write_at(self.draw(st.integers(0, 9))), self.draw(texts), "uid:1")

    def release(self) -> None:
        run_id = self.draw(st.sampled_from(sorted(self.runs)))
        self.mark(run_id)
        self.items.append(make_release(run_id))
        run = self.runs.pop(run_id)
        if self.world.rows[run_id].mark is not None or run.stop_requested_at is not None:
            self.active = {chat: active for chat, active in self.active.items() if active != run_id}

    def claim(self) -> None:
        run_id = self.draw(st.sampled_from(sorted(self.world.rows)))
        row = self.world.rows[run_id]
        free = row.run.owner is None and not row.run.settled and row.marked.stop_requested_at is None
        self.items.append(make_claim(run_id))
        self.claimed.append(run_id if free and run_id not in self.gone() else None)

    def gone(self) -> set[str]:
        """What items before have taken or claimed."""
        return {run_id for run_id in self.claimed if run_id is not None}.union(*self.taken)

    def settle(self) -> None:
        run_id = self.draw(st.sampled_from(sorted(self.runs)))
        self.mark(run_id)
        status = self.draw(st.sampled_from(["succeeded", "failed", "aborted"]))
        self.items.append(
            make_settle(run_id, status, error=self.draw(st.sampled_from([None, {"code": "x"}])))
        )
        del self.runs[run_id]
        self.active = {chat: active for chat, active in self.active.items() if active != run_id}

    def process(self) -> None:
        run_id = self.draw(st.sampled_from(sorted(self.runs)))
        self.items.append(Append(run_id, [], 1, PROCESS))

    def stranger(self) -> None:
        """An append to a run that is nobody's business here."""
        unknown = sorted(run_id for run_id in self.world.rows if run_id not in self.world.logs) or ["nobody"]
        make = self.draw(st.sampled_from([lambda id_: make_append(id_, say("x")), make_settle]))
        item = make(self.draw(st.sampled_from(unknown)))
        self.items.append(item)
        self.lost.append(item)

    def take(self) -> None:
        wanted = self.draw(st.lists(st.sampled_from([*sorted(self.world.rows), "nobody"]), max_size=4))
        self.items.append(Take(wanted))
        orphans = {
            run_id for run_id in wanted
            if run_id in self.world.rows
            and self.world.rows[run_id].run.owner in {DEAD, None}
            and not self.world.rows[run_id].run.settled
        }  # fmt: skip
        self.taken.append(orphans - self.gone())


def snapshot(world: World) -> Any:
    """What planning must not touch."""
    return [
        (run_id, log.run, msgspec.json.encode(log.draft.parts), log.draft.as_of_seq, log.unsaved)
        for run_id, log in world.logs.items()
    ]


def read_batch(done: Plan) -> Any:
    return attrs.asdict(done.batch, recurse=False)


@settings(
    derandomize=True, max_examples=200, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_any_batches_keep_every_promise(monkeypatch, data: st.DataObject):
    """Whatever is batched: dense logs, row == fold, one active run per chat, foreseen answers, nothing for the refused."""
    longest = data.draw(st.sampled_from([3, MAX_DELTA_CHARS]))
    monkeypatch.setattr(plan_module, "MAX_DELTA_CHARS", longest)
    monkeypatch.setattr(log_module, "SAVE_BYTES", data.draw(st.sampled_from([30, SAVE_BYTES])))
    world = World(limit=data.draw(st.sampled_from([20, 1 << 20])))
    for chat in data.draw(st.lists(st.sampled_from(CHATS), max_size=2, unique=True)):
        world.leave_orphan(chat, data.draw(st.lists(texts, max_size=3)), data.draw(st.integers(0, 5)))
    for _ in range(data.draw(st.integers(1, 4))):
        batch = Batch(world, data)
        for _ in range(data.draw(st.integers(1, 8))):
            batch.add()
        check_batch(world, batch, longest)


def check_batch(world: World, batch: Batch, longest: int) -> None:
    truth = world.read_truth(batch.items)
    before = snapshot(world)
    counts = {run_id: len(row.events) for run_id, row in world.rows.items()}
    done = world.decide(batch.items, truth)
    assert snapshot(world) == before
    assert read_batch(world.decide(batch.items, truth)) == read_batch(done)

    assert get_answers(done) == batch.answers
    assert [start for start, _ in done.starts] == [item for item in batch.items if isinstance(item, Start)]
    created = {answer.run.id for _, answer in done.starts if isinstance(answer, Created)}
    assert {new.id for new in done.batch.new_runs} == created
    assert {message.run_id for message in done.batch.new_messages} == created
    assert done.lost == batch.lost
    appended = [item for item in batch.items if isinstance(item, Append) and item not in batch.lost]
    assert done.appends == appended
    assert [{each.run_id for each in taken} for _, taken in done.takes] == batch.taken
    assert [run.id if run else None for _, run in done.claims] == batch.claimed
    claimed = {run_id for run_id in batch.claimed if run_id is not None}

    world.commit(done)
    world.check()
    touched = {item.run_id for item in appended if item.entries} | created | batch.gone()
    assert all(world.rows[run_id].run.owner == ME for run_id in claimed)
    assert {event.run_id for event in done.batch.events} <= touched
    for run_id, row in world.rows.items():
        new = row.events[counts.get(run_id, 0) :]
        said = [event.data["text"] for event in new if event.type == "text.delta"]
        assert all(len(text) <= longest for text in said)
        assert "".join(said) == "".join(batch.said.get(run_id, []))


# ---------------------------------------------------------------- starts


def test_of_two_starts_of_a_chat_the_first_wins():
    """In one batch the first start of a chat is created, the next ones are told its id."""
    world = World()
    first, second, third = make_start("c"), make_start("c"), make_start("c", on_active="join")
    done = run_batch(world, first, second, third)
    assert get_answers(done) == [first.spec.id, SlotTaken(first.spec.id), Existing(first.spec.id)]
    assert list(world.rows) == [first.spec.id]


def test_a_refused_start_changes_nothing():
    """A start that finds its chat taken leaves no row, no message, no event and no position behind."""
    world = World()
    run_batch(world, make_start("c"))
    done = run_batch(world, make_start("c"))
    assert read_batch(done) == read_batch(Plan(attrs.evolve(done.batch)))
    assert not done.batch.events
    assert not done.batch.moved_chats
    assert not done.changes


def test_a_key_is_looked_at_before_the_slot():
    """A known key answers with its run, whatever holds the chat; with another digest it is refused."""
    world = World()
    first = make_start("c", key="k", digest="d")
    done = run_batch(
        world, first, make_start("c", key="k", digest="d"), make_start("other", key="k", digest="e")
    )
    assert get_answers(done) == [first.spec.id, Existing(first.spec.id), KeyTaken(first.spec.id)]
    run_batch(world, make_settle(first.spec.id))
    assert get_answers(run_batch(world, make_start("c", key="k", digest="d"))) == [Existing(first.spec.id)]


def test_a_settlement_frees_the_slot_for_a_later_item():
    """Items count in their order: a start after the settlement of its chat's run is created in the same batch."""
    world = World()
    run_id = begin(world)
    start = make_start()
    assert get_answers(run_batch(world, make_settle(run_id), start)) == [start.spec.id]


def test_a_start_before_the_settlement_finds_the_slot_taken():
    """A start that came before the settlement is refused, also when both are committed together."""
    world = World()
    run_id = begin(world)
    assert get_answers(run_batch(world, make_start(), make_settle(run_id))) == [SlotTaken(run_id)]


def test_a_created_run_is_shown_as_its_row_will_be():
    """The answer to a start is the run as of its commit, and numbers its chat."""
    world = World()
    done = run_batch(world, make_start("c", metadata={"a": 1}, command=["x"], agent=None))
    [(start, answer)] = done.starts
    assert isinstance(answer, Created)
    shown, row = answer.run, world.rows[start.spec.id].run
    assert (shown.status, shown.owner, shown.epoch, shown.attempt, shown.last_seq) == ("pending", ME, 1, 1, 1)
    assert (shown.created_at, shown.updated_at) == (row.created_at, row.updated_at)
    assert (shown.position, shown.metadata, shown.command) == (1, {"a": 1}, ["x"])
    run_batch(world, make_settle(start.spec.id))
    [(_, later)] = run_batch(world, make_start("c")).starts
    assert isinstance(later, Created)
    assert later.run.position == 3


@pytest.mark.parametrize(
    ("given", "text", "parts"),
    [
        ("hi", "hi", [{"type": "text", "text": "hi"}]),
        ("", "", []),
        ([{"type": "text", "text": "a"}, {"type": "file"}, {"type": "text", "text": "b"}], "ab", None),
    ],
)
def test_the_users_message_is_what_was_asked(given: Any, text: str, parts: Any):
    """Both messages are inserted with the run: the user's complete, the assistant's empty and streaming."""
    assert read_input(given) == text
    asked, answer = run_batch(World(), make_start(input=given)).batch.new_messages
    assert (asked.role, asked.status, asked.content) == ("user", "completed", text)
    assert msgspec.json.decode(asked.parts) == (given if parts is None else parts)
    assert (answer.role, answer.status, answer.content, answer.parts) == ("assistant", "streaming", "", "[]")
    assert answer.position == asked.position + 1


# ---------------------------------------------------------------- appends and settlements


def test_a_settlement_repeats_the_rows_mark():
    """The stop mark in the row wins over the one the writer knew of, and the settlement carries it."""
    world = World()
    run_id = begin(world)
    world.rows[run_id].mark = StopMark(write_at(3), "first", "uid:1")
    run_batch(world, make_settle(run_id, "aborted", StopMark(write_at(5), "second", "uid:2")))
    run = world.rows[run_id].run
    assert (run.stop_requested_at, run.stop_reason) == (write_at(3), "first")


@pytest.mark.parametrize("known", [None, StopMark(write_at(5), "known", "uid:2")])
def test_a_settlement_keeps_the_mark_it_has(known: StopMark | None):
    """Without a mark in the row the writer's own counts, else the one of the log."""
    world = World()
    run_id = begin(world)
    logged = Entry("run.stop_requested", {"by": "u", "reason": "logged", "requested_at": write_at(4)})
    run_batch(world, make_append(run_id, logged), make_settle(run_id, "aborted", known))
    run = world.rows[run_id].run
    assert run.stop_reason == ("known" if known else "logged")
    assert run.stop_requested_at == write_at(5 if known else 4)


def test_a_run_that_was_stolen_is_not_settled():
    """A settlement of a run that the database no longer gives this owner is lost, and writes nothing."""
    world = World()
    run_id = begin(world)
    item = make_settle(run_id)
    done = world.decide([item], world.read_truth([item], stolen=frozenset({run_id})))
    assert done.lost == [item]
    assert not done.batch.events


def test_long_text_is_split_and_nothing_of_it_lost():
    """Text of any length becomes events of bounded length that concatenate to it."""
    world = World()
    run_id = begin(world)
    text = "".join(chr(0x4E00 + index % 999) for index in range(MAX_DELTA_CHARS * 2 + 1))
    run_batch(world, make_append(run_id, Entry("text.delta", {}, [text[:7], text[7:]])))
    said = [event.data["text"] for event in world.rows[run_id].events if event.type == "text.delta"]
    assert [len(each) for each in said] == [MAX_DELTA_CHARS, MAX_DELTA_CHARS, 1]
    assert "".join(said) == text


def test_the_longest_delta_stays_below_the_event_limit():
    """Even if every character has to be escaped, a delta's data is below 256 KiB."""
    world = World()
    run_id = begin(world)
    done = run_batch(
        world,
        make_append(run_id, say("\x01" * MAX_DELTA_CHARS)),
        make_append(run_id, say("𝄞" * MAX_DELTA_CHARS)),
    )
    assert max(len(event.data.encode()) for event in done.batch.events) < 256 << 10


def test_a_message_is_stored_at_a_steps_end_at_the_settlement_and_by_size():
    """Talk alone stores no message; a finished step, enough bytes or the settlement do, as of the last event."""
    world = World()
    run_id = begin(world)
    finished = Entry("step.finished", {"step": 1, "name": "n"})
    assert not run_batch(world, make_append(run_id, say("a"))).batch.message_changes
    assert len(run_batch(world, make_append(run_id, finished)).batch.message_changes) == 1
    assert not run_batch(world, make_append(run_id, finished)).batch.message_changes  # nothing new to store
    assert not run_batch(world, make_append(run_id, say("b" * 40_000))).batch.message_changes
    assert len(run_batch(world, make_append(run_id, say("c" * SAVE_BYTES))).batch.message_changes) == 1
    [change] = run_batch(world, make_append(run_id, say("d")), make_settle(run_id)).batch.message_changes
    assert change.content.endswith("cd")
    assert (change.status, change.as_of_seq) == ("completed", world.rows[run_id].run.last_seq)


def test_a_process_alone_touches_no_row_of_the_lifecycle():
    """Recording a process is no event and changes nothing that the log decides."""
    world = World()
    run_id = begin(world)
    done = run_batch(world, Append(run_id, [], 1, PROCESS))
    assert done.batch.processes == [(run_id, PROCESS)]
    assert not done.batch.run_changes
    assert not done.batch.events


def test_what_comes_after_the_end_is_illegal():
    """An event behind the settlement in the same batch is a bug, and is refused with the run's story."""
    world = World()
    run_id = begin(world)
    items: list[Item] = [make_settle(run_id), make_append(run_id, say("late"))]
    with pytest.raises(IllegalFact, match=r"after run\.settled"):
        world.decide(items, world.read_truth(items))


@pytest.mark.parametrize(
    "entry",
    [
        Entry("usage", {"input_tokens": "many"}),
        Entry("usage", {"input_tokens": float("inf")}),
        Entry("step.finished", {"usage": {"output_tokens": [1]}}),
        Entry("data", {"name": "n", "value": "\ud800"}),
        Entry("data", {"name": "n", "value": object()}),
        Entry("run.stop_requested", {}),
        Entry("text.delta", {}, ["\ud800"]),
    ],
)
def test_data_that_cannot_be_stored_is_refused(entry: Entry):
    """Whatever an agent put into an event, the plan refuses it as illegal; it never breaks the writer."""
    world = World()
    run_id = begin(world)
    items: list[Item] = [make_append(run_id, entry)]
    with pytest.raises(IllegalFact):
        world.decide(items, world.read_truth(items))


# ---------------------------------------------------------------- takes


def test_a_taken_run_is_adopted_and_goes_on():
    """A run of a dead owner becomes ours with the next epoch; its log continues, its message is complete at the end."""
    world = World()
    run_id = world.leave_orphan("c", ["one ", "two "], stored=3)
    done = run_batch(world, Take([run_id, "nobody"]))
    [(_, [taken])] = done.takes
    assert (taken.run_id, taken.stored_upto, taken.last_seq) == (run_id, 3, 4)
    assert (world.rows[run_id].run.owner, world.rows[run_id].run.epoch) == (ME, 2)
    assert [event.epoch for event in done.batch.events] == [2]
    run_batch(world, make_settle(run_id, "aborted", error={"code": "owner_lost"}))
    assert world.rows[run_id].content == "one two "


def test_a_run_is_taken_once():
    """Of two takes of one run in a batch the first has it; a run that is ours already is not taken."""
    world = World()
    orphan, mine = world.leave_orphan("c", [], stored=0), begin(world, "d")
    done = run_batch(world, Take([orphan, mine]), Take([orphan]))
    assert [[each.run_id for each in taken] for _, taken in done.takes] == [[orphan], []]


# ---------------------------------------------------------------- releases and claims


def test_a_released_run_goes_on_as_the_next_attempt():
    """A release leaves no owner and the whole message; the claim raises attempt and epoch, and text goes on behind it."""
    world = World()
    run_id = begin(world)
    run_batch(world, make_append(run_id, say("one ")), make_release(run_id, "owner_lost"))
    run = world.rows[run_id].run
    assert (run.status, run.owner, run.attempt, run.epoch) == ("pending", None, 1, 1)
    assert (world.rows[run_id].content, world.rows[run_id].message_status) == ("one ", "streaming")
    assert world.rows[run_id].events[-1].data == {"reason": "owner_lost"}
    done = run_batch(world, make_claim(run_id))
    [(_, claimed)] = done.claims
    assert (claimed.status, claimed.owner, claimed.attempt, claimed.epoch) == ("running", ME, 2, 2)
    assert (claimed.last_seq, claimed.started_at) == (5, world.rows[run_id].run.started_at)
    assert [(event.type, event.epoch) for event in done.batch.events] == [("run.started", 2)]
    run_batch(world, make_append(run_id, say("two")), make_settle(run_id))
    assert world.rows[run_id].content == "one two"


def test_a_released_run_keeps_its_chat():
    """Who starts in the chat of a released run, in the same batch or later, is told of it."""
    world = World()
    run_id = begin(world, "c")
    assert get_answers(run_batch(world, make_release(run_id), make_start("c"))) == [SlotTaken(run_id)]
    assert get_answers(run_batch(world, make_start("c"))) == [SlotTaken(run_id)]


@pytest.mark.parametrize("where", ["row", "log", "writer"])
def test_a_run_that_is_to_be_stopped_is_settled_where_it_would_be_released(where: str):
    """A mark in the row, in the log, or known to who releases ends the run as stopped, without an error."""
    world = World()
    run_id = begin(world)
    mark = StopMark(write_at(3), "enough", "uid:1")
    if where == "row":
        world.rows[run_id].mark = mark
    data = {"by": "u", "reason": "enough", "requested_at": write_at(3)}
    logged = [make_append(run_id, Entry("run.stop_requested", data))] if where == "log" else []
    run_batch(world, *logged, make_release(run_id, mark=mark if where == "writer" else None))
    run = world.rows[run_id].run
    assert (run.status, run.error, run.stop_reason) == ("aborted", None, "enough")


def test_a_run_that_is_to_be_stopped_is_not_claimed():
    """A mark that came after the release keeps everybody from claiming; who takes the run settles it."""
    world = World()
    run_id = begin(world)
    run_batch(world, make_release(run_id))
    world.rows[run_id].mark = StopMark(write_at(3), "enough", "uid:1")
    [(_, claimed)] = run_batch(world, make_claim(run_id)).claims
    assert claimed is None
    [(_, [taken])] = run_batch(world, Take([run_id])).takes
    assert taken.released
    run_batch(world, make_settle(run_id, "aborted", error={"code": "owner_lost"}))
    assert (world.rows[run_id].run.error, world.rows[run_id].run.stop_reason) == (None, "enough")


def test_only_what_was_released_is_claimed_and_once():
    """A run of a dead owner has to be taken and released first; of two claims in a batch the first has the run."""
    world = World()
    orphan, run_id = world.leave_orphan("c", [], stored=0), begin(world, "d")
    assert [run for _, run in run_batch(world, make_claim(orphan), make_claim(run_id)).claims] == [None] * 2
    run_batch(world, make_release(run_id))
    done = run_batch(world, make_claim(run_id), make_claim(run_id), Take([run_id]))
    assert [run is not None for _, run in done.claims] == [True, False]
    assert [taken for _, taken in done.takes] == [[]]


def test_a_result_is_kept_with_its_event():
    """A step's result is written in the batch of its step.finished and names its number, name and event."""
    world = World()
    run_id = begin(world)
    finished = {"step": 1, "name": "look"}
    done = run_batch(world, make_append(run_id, Entry("step.finished", finished, result='{"a":1}')))
    [step] = done.batch.steps
    assert (step.run_id, step.position, step.name, step.result) == (run_id, 1, "look", '{"a":1}')
    assert step.seq == world.rows[run_id].run.last_seq
    assert not run_batch(world, make_append(run_id, Entry("step.finished", finished))).batch.steps


def test_what_is_asked_covers_what_is_decided():
    """A batch locks the chats of its starts and settlements, and asks for every key, mark and run it needs."""
    world = World()
    run_id = begin(world, "c")
    items: list[Item] = [
        make_start("d", key="k"),
        make_settle(run_id),
        make_append("x", say("y")),
        Take(["z"]),
    ]
    questions = ask(items, world.logs)
    assert questions.chats == {("w", "c"), ("w", "d")}
    assert questions.slots == {("w", "d")}
    assert questions.keys == {("w", "k")}
    assert (questions.settling, questions.taking) == ({run_id}, {"z"})


def test_the_active_statuses_hold_the_slot():
    """The world of these tests counts as active what the rules do."""
    assert {"pending", "running", "waiting"} == ACTIVE
