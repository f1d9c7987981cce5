"""What may happen to a run: the table against the design's diagram, and ``apply`` against a model of its own."""

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outlived.rules.lifecycle import TRANSITIONS, IllegalFact, Order, apply, fold
from outlived.rules.run import ACTIVE, FACTS, TERMINAL, Event, Fact, Run, Status, Usage
from tests.support.logs import OWNERS, draw_data, legal_facts, sayings, write_at

OPEN = tuple(status for status in Status if status not in TERMINAL)
ENDED = {Status.SUCCEEDED, Status.FAILED, Status.ABORTED}

MOVES = {
    (None, Fact.CREATED): {Status.QUEUED, Status.PENDING},
    (Status.QUEUED, Fact.PROMOTED): {Status.PENDING},
    (Status.PENDING, Fact.STARTED): {Status.RUNNING},
    (Status.RUNNING, Fact.WAITING): {Status.WAITING},
    (Status.WAITING, Fact.RESUMED): {Status.RUNNING},
    (Status.RUNNING, Fact.RELEASED): {Status.PENDING},
    (Status.WAITING, Fact.RELEASED): {Status.PENDING},
    (Status.QUEUED, Fact.SETTLED): ENDED,
    (Status.PENDING, Fact.SETTLED): ENDED,
    (Status.RUNNING, Fact.SETTLED): ENDED,
    (Status.WAITING, Fact.SETTLED): ENDED,
}
"""Every change of status, as the design draws it; written here a second time on purpose."""


def make_run(status: Status, **changes) -> Run:
    """A run in some status, five events old."""
    return attrs.evolve(Run(status, 1, 1, OWNERS[0], write_at(1), write_at(5), 5), **changes)


def make_event(run: Run | None, type_: str, **data) -> Event:
    """The run's next event, with whatever any fact may need."""
    seq = 1 if run is None else run.last_seq + 1
    full = {
        "status": "pending" if run is None else "failed", "owner": OWNERS[1], "epoch": 2, "attempt": 2, "error": None,
        "requested_at": write_at(seq), "reason": None, "stop_requested_at": None, "stop_reason": None,
    }  # fmt: skip
    return Event(seq, write_at(seq), type_, {**full, **data})


def test_the_table_moves_runs_as_designed():
    """The changes of status in the table are those of the design's diagram, no more and no fewer."""
    moves = {
        (status, fact): set(after) for (status, fact), after in TRANSITIONS.items() if set(after) != {status}
    }
    assert moves == MOVES


@pytest.mark.parametrize("fact", Fact)
@pytest.mark.parametrize("status", [None, *Status])
def test_every_pair_is_in_the_table_or_raises(status: Status | None, fact: Fact):
    """Any fact in any status either leads where the table says or raises with the run's story."""
    run = None if status is None else make_run(status)
    event = make_event(run, fact.value)
    if (status, fact) in TRANSITIONS:
        after, _ = apply(run, event)
        assert after.status in TRANSITIONS[status, fact]
        assert (after.last_seq, after.updated_at) == (event.seq, event.at)
        return
    with pytest.raises(IllegalFact) as refusal:
        apply(run, event)
    story = str(refusal.value)
    assert story.startswith(f"cannot apply {fact.value} (seq {event.seq})")
    assert ("no run yet" if run is None else str(run)) in story


def test_every_status_is_reached():
    """From nothing, facts lead to every status there is."""
    reached: set[Status | None] = {None}
    while True:
        found = {
            after
            for (status, _), all_after in TRANSITIONS.items()
            if status in reached
            for after in all_after
        }
        if found <= reached:
            break
        reached |= found
    assert reached == {None, *Status}


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("type_", [*FACTS, "text.delta", "anything.else"])
def test_a_settled_run_refuses_everything(status: Status, type_: str):
    """Nothing may follow run.settled: no fact, no other event."""
    run = make_run(status)
    with pytest.raises(IllegalFact, match=rf"status=.*{status.value}"):
        apply(run, make_event(run, type_))


@pytest.mark.parametrize("end", sorted(TERMINAL))
@pytest.mark.parametrize("status", OPEN)
def test_every_open_run_can_end_at_once(status: Status, end: Status):
    """Every status that is not terminal can be settled directly, with each of the three ends."""
    run = make_run(status)
    settled, orders = apply(run, make_event(run, "run.settled", status=end.value))
    assert settled.status is end
    assert settled.settled
    assert settled.finished_at == settled.updated_at
    assert orders == (Order.CLOSE,)


@pytest.mark.parametrize("named", ["pending", "running", "", None, "SUCCEEDED", 3])
def test_a_settlement_names_an_end(named):
    """A settlement with a status that is no end is refused, and the refusal names it."""
    run = make_run(Status.RUNNING)
    with pytest.raises(IllegalFact, match=r"its status .* is none of succeeded, failed, aborted"):
        apply(run, make_event(run, "run.settled", status=named))


@pytest.mark.parametrize("named", ["running", "succeeded", None])
def test_a_run_begins_queued_or_pending(named):
    """A run cannot be created in the middle of its life."""
    with pytest.raises(IllegalFact, match="is none of queued, pending"):
        apply(None, make_event(None, "run.created", status=named))


def test_nothing_comes_before_the_creation():
    """An event before run.created is refused, whether it is a fact or not."""
    for type_ in ("text.delta", "run.started"):
        with pytest.raises(IllegalFact, match="no run yet"):
            apply(None, make_event(None, type_))


@pytest.mark.parametrize("seq", [-1, 0, 4, 5, 7, 100])
def test_a_gap_or_a_repeat_is_refused(seq: int):
    """An event is applied only if its number is the next one."""
    run = make_run(Status.RUNNING)
    with pytest.raises(IllegalFact, match="a gap or a repeat"):
        apply(run, attrs.evolve(make_event(run, "text.delta"), seq=seq))
    with pytest.raises(IllegalFact, match="a gap or a repeat"):
        apply(None, attrs.evolve(make_event(None, "run.created"), seq=2))


def test_an_empty_log_is_no_run():
    """There is no row without a log."""
    with pytest.raises(ValueError, match="empty log"):
        fold([])


def test_active_and_terminal_divide_the_statuses():
    """A status is active, terminal, or it is queued; none is two of these."""
    assert ACTIVE | TERMINAL | {Status.QUEUED} == set(Status)
    assert not ACTIVE & TERMINAL
    assert Status.QUEUED not in ACTIVE | TERMINAL


def test_a_promoted_or_pending_run_is_to_be_started():
    """The order to start the agent comes with a slot, and at no other time."""
    for named, orders in (("pending", (Order.START_AGENT,)), ("queued", ())):
        assert apply(None, make_event(None, "run.created", status=named))[1] == orders
    queued = make_run(Status.QUEUED)
    assert apply(queued, make_event(queued, "run.promoted"))[1] == (Order.START_AGENT,)


def test_a_stop_is_an_order_but_no_change():
    """A stop leaves the status alone and orders the agent stopped."""
    for status in OPEN:
        run = make_run(status)
        stopped, orders = apply(run, make_event(run, "run.stop_requested", reason="enough"))
        assert (stopped.status, stopped.stop_reason, orders) == (status, "enough", (Order.STOP_AGENT,))


def test_a_released_run_is_started_again():
    """A release leaves no owner and the rest as it was; the next attempt has a new owner, and began when the first did."""
    for status in (Status.PENDING, Status.RUNNING, Status.WAITING):
        run = make_run(status, started_at=write_at(2), step_count=3, usage=Usage(1))
        released, orders = apply(run, make_event(run, "run.released", reason="owner_lost"))
        assert orders == (Order.LET_GO,)
        kept = {"last_seq": 6, "updated_at": write_at(6)}
        assert released == attrs.evolve(run, status=Status.PENDING, owner=None, **kept)
        again, _ = apply(released, make_event(released, "run.started", attempt=2, epoch=2))
        assert (again.status, again.attempt, again.epoch, again.owner) == (Status.RUNNING, 2, 2, OWNERS[1])
        assert (again.started_at, again.step_count, again.usage) == (write_at(2), 3, Usage(1))


class Life(RuleBasedStateMachine):
    """One run driven through legal facts, chatter and refused facts, beside a model of what must become of it."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Run | None = None
        self.log: list[Event] = []
        self.refused = 0
        self.started = 0
        self.closed = 0

    def add(self, type_: str, data: dict) -> None:
        event = Event(len(self.log) + 1, write_at(len(self.log) + 1), type_, data)
        self.run, orders = apply(self.run, event)
        self.log.append(event)
        self.started += Order.START_AGENT in orders
        self.closed += Order.CLOSE in orders

    @precondition(lambda self: self.run is None or not self.run.settled)
    @rule(data=st.data())
    def happen(self, data: st.DataObject) -> None:
        status = None if self.run is None else self.run.status
        fact = data.draw(st.sampled_from(legal_facts(status)))
        self.add(fact.value, draw_data(data.draw, status, fact))

    @precondition(lambda self: self.run is not None and not self.run.settled)
    @rule(said=sayings)
    def talk(self, said: tuple[str, dict]) -> None:
        before = self.run
        self.add(*said)
        assert attrs.evolve(before, last_seq=self.run.last_seq, updated_at=self.run.updated_at) == self.run

    @rule(fact=st.sampled_from(Fact))
    def try_what_is_illegal(self, fact: Fact) -> None:
        if (None if self.run is None else self.run.status, fact) in TRANSITIONS:
            return
        before = self.run
        with pytest.raises(IllegalFact):
            apply(self.run, make_event(self.run, fact.value))
        assert self.run == before

    @invariant()
    def the_row_is_the_fold(self) -> None:
        if self.log:
            assert fold(self.log) == self.run

    @invariant()
    def the_fields_are_what_the_log_says(self) -> None:
        if self.run is None:
            return
        run, facts = self.run, [event for event in self.log if event.type in FACTS]

        def of(*types: str) -> list[Event]:
            return [event for event in facts if event.type in types]

        owned = of("run.created", "run.promoted", "run.started", "run.adopted", "run.released")
        named = [event for event in owned if event.type != "run.released"]
        assert run.owner == owned[-1].data.get("owner")
        assert run.epoch == named[-1].data["epoch"]
        started, stops, ends = of("run.started"), of("run.stop_requested"), of("run.settled")
        assert run.attempt == (started[-1].data["attempt"] if started else 1)
        assert run.started_at == (started[0].at if started else None)
        assert run.step_count == len(of("step.finished"))
        assert run.created_at == self.log[0].at
        assert run.updated_at == self.log[-1].at
        assert (run.last_seq, run.settled, len(ends)) == (len(self.log), bool(ends), self.closed)
        if ends:
            assert self.log[-1] is ends[0]
            assert (run.status, run.error) == (ends[0].data["status"], ends[0].data["error"])
            assert run.stop_requested_at == ends[0].data["stop_requested_at"]
            assert run.finished_at == ends[0].at
        else:
            assert run.finished_at is None
            assert run.stop_requested_at == (stops[0].data["requested_at"] if stops else None)

    @invariant()
    def usage_is_the_sum_of_reports(self) -> None:
        if self.run is None:
            return
        reports = [event.data for event in self.log if event.type == "usage"]
        reports += [
            event.data["usage"]
            for event in self.log
            if event.type == "step.finished" and event.data.get("usage")
        ]
        for field in attrs.fields_dict(Usage):
            named = [report[field] for report in reports if field in report]
            assert getattr(self.run.usage, field) == (sum(named) if named else None)


TestLife = Life.TestCase
TestLife.__doc__ = "A run's row is the fold of its log at every moment of every legal life."
TestLife.settings = settings(
    derandomize=True,
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
