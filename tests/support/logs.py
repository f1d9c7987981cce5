"""Strategies for a run's log: one event's data, a legal log, what an agent may say."""

from typing import Any

from hypothesis import strategies as st

from outlived.rules.lifecycle import TRANSITIONS
from outlived.rules.run import Event, Fact, Status

OWNERS = ("0190a0a0-0000-7000-8000-00000000000a", "0190a0a0-0000-7000-8000-00000000000b")

usages = st.fixed_dictionaries(
    {},
    optional={"input_tokens": st.integers(0, 99), "cost_micro_usd": st.integers(0, 99), "future": st.just(1)},
)
reasons = st.none() | st.text(max_size=5)
errors = st.none() | st.builds(lambda text: {"code": "exception", "message": text}, st.text(max_size=5))

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["look", "say"])
calls = st.sampled_from(["c1", "c2"])

sayings = st.one_of(
    st.tuples(st.sampled_from(["text.delta", "reasoning.delta"]), st.fixed_dictionaries({"text": texts})),
    st.tuples(
        st.just("tool.call"), st.fixed_dictionaries({"tool_call_id": calls, "name": names, "input": values})
    ),
    st.tuples(
        st.just("tool.result"),
        st.fixed_dictionaries({"tool_call_id": calls, "output": values, "is_error": st.booleans()}),
    ),
    st.tuples(st.just("data"), st.fixed_dictionaries({"name": names, "value": values})),
    st.tuples(st.just("step.started"), st.fixed_dictionaries({"step": st.integers(1, 9), "name": names})),
    st.tuples(st.just("log"), st.fixed_dictionaries({"stream": st.just("stderr"), "text": texts})),
)
"""(type, data) of events that an agent may cause without changing what the run is."""


def write_at(seq: int) -> str:
    """A time for an event, rising with its number."""
    return f"2024-01-01T00:00:00.{seq:06}Z"


marks = st.integers(0, 99).map(write_at)
owned = {"owner": st.sampled_from(OWNERS), "epoch": st.integers(1, 9)}
endings = st.fixed_dictionaries({"error": errors, "stop_requested_at": marks, "stop_reason": reasons})

FACT_DATA: dict[Fact, st.SearchStrategy[dict[str, Any]]] = {
    Fact.CREATED: st.fixed_dictionaries({"trigger": st.just("user"), "agent": st.just("demo"), **owned}),
    Fact.PROMOTED: st.fixed_dictionaries(owned),
    Fact.STARTED: st.fixed_dictionaries({"attempt": st.integers(1, 9), **owned}),
    Fact.ADOPTED: st.fixed_dictionaries(owned),
    Fact.RELEASED: st.just({}),
    Fact.WAITING: st.just({}),
    Fact.RESUMED: st.just({}),
    Fact.STOP_REQUESTED: st.fixed_dictionaries(
        {"by": st.just("u"), "reason": reasons, "requested_at": marks}
    ),
    Fact.STEP_FINISHED: st.fixed_dictionaries({"step": st.just(1)}, optional={"usage": usages}),
    Fact.USAGE: usages,
    Fact.SETTLED: endings
    | endings.map(lambda data: {**data, "stop_requested_at": None, "stop_reason": None}),
}
"""What a fact brings; the status that some name is drawn beside it."""


def draw_data(draw: Any, status: Status | None, fact: Fact) -> dict[str, Any]:
    """Data that the fact may bring in this status."""
    data = dict(draw(FACT_DATA[fact]))
    if fact in {Fact.CREATED, Fact.SETTLED}:
        data["status"] = draw(st.sampled_from(TRANSITIONS[status, fact])).value
    return data


def legal_facts(status: Status | None) -> list[Fact]:
    """What the table lets happen in this status."""
    return [fact for (before, fact) in TRANSITIONS if before == status]


@st.composite
def say_many(draw: Any, first_seq: int = 1) -> list[Event]:
    """Events of an agent that talks, numbered from ``first_seq``."""
    said = draw(st.lists(sayings, max_size=12))
    return [Event(seq, write_at(seq), type_, data) for seq, (type_, data) in enumerate(said, first_seq)]
