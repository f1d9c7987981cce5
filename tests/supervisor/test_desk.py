"""The desk: whatever an agent says becomes events that any table and any reader takes."""

import enum
import math
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.agents import Assignment
from outlived.journal.items import MAX_DELTA_CHARS
from outlived.journal.meter import Meter
from outlived.rules.text import EXPLANATION_CHARS, clean, clean_json, explain
from outlived.supervisor.desk import MAX_DATA_BYTES, MAX_USAGE, NAME_CHARS, RunDesk
from outlived.supervisor.registry import Active
from tests.support.history import assert_history
from tests.support.house import open_house
from tests.support.workshops import make_workshop

WORKSHOP = make_workshop(Path("/nowhere"))
examples = settings(derandomize=True, deadline=None)

ASTRAL = "\N{GRINNING FACE}"
any_text = st.text(st.characters(exclude_categories=[]) | st.sampled_from('\0\ud800\udfff"\\\n\x01' + ASTRAL))
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner) | st.tuples(inner),
    max_leaves=15,
)
sizes = st.sampled_from(
    [0, 1, MAX_DELTA_CHARS - 1, MAX_DELTA_CHARS, MAX_DELTA_CHARS + 1, 3 * MAX_DELTA_CHARS]
)
letters = st.sampled_from(["x", "\x01", "\0", "é", ASTRAL, "\ud800", '"'])


class Taking:
    """A journal's ear: keeps what the desk hands in."""

    def __init__(self):
        self.entries = []
        self.meter = Meter()

    async def append(self, _run_id, entry, **_options):
        self.entries.append(entry)

    async def relay(self, _run_id, entries, _position):
        self.entries += entries

    def read(self):
        """(type, data as it would be stored) of everything."""
        return [
            (
                entry.type,
                msgspec.json.encode(entry.data if entry.pieces is None else {"text": entry.pieces[0]}),
            )
            for entry in self.entries
        ]


def make_desk():
    journal = Taking()
    assignment = Assignment("run", "default", "chat", 1, "", {})
    return RunDesk(assignment, journal, Active("run"), 5.0, workshop=WORKSHOP), journal


async def note(journal, call, *args, **options):
    """What one call of the desk hands in, checked for size and characters."""
    await call(*args, **options)
    stored = journal.read()
    for _, data in stored:
        assert len(data) <= MAX_DATA_BYTES
        assert b"\\u0000" not in data
    return [(type_, msgspec.json.decode(data)) for type_, data in stored]


# ---------------------------------------------------------------- text


@examples
@given(any_text)
def test_clean_text_is_storable_and_otherwise_the_same(text):
    """NUL and lone surrogates become U+FFFD, one each; everything else stays; cleaning twice changes nothing."""
    cleaned = clean(text)
    cleaned.encode()
    assert "\0" not in cleaned
    assert len(cleaned) == len(text)
    assert clean(cleaned) == cleaned
    bad = {"\0", *map(chr, range(0xD800, 0xE000))}
    assert all(b == "\ufffd" if a in bad else a == b for a, b in zip(text, cleaned, strict=True))


@examples
@given(any_json)
def test_clean_json_is_storable_json(value):
    """Any JSON value comes out encodable, without a NUL in any string or name, and cleaning twice changes nothing."""
    cleaned = clean_json(value)
    assert b"\\u0000" not in msgspec.json.encode(cleaned)
    assert clean_json(cleaned) == cleaned


class Level(enum.IntEnum):
    """A number with a name."""

    HIGH = 3


class Text(str):
    """A string with a class of its own."""

    __slots__ = ()


def test_numbers_and_strings_of_other_classes_are_plain_ones():
    """What is a number or a string, whatever its class, is stored as that number or string."""
    cleaned = clean_json([Level.HIGH, Text("a"), True, {Level.HIGH: type("F", (float,), {})(2.5)}])
    assert cleaned == [3, "a", True, {"3": 2.5}]
    assert msgspec.json.encode(cleaned) == b'[3,"a",true,{"3":2.5}]'


@pytest.mark.parametrize(
    "value", [object(), b"bytes", {1, 2}, 1j, math.nan, math.inf, -math.inf, [{"deep": (object(),)}]]
)
def test_what_is_no_json_is_refused(value):
    """A value that JSON does not have is refused by name, never turned into another one."""
    with pytest.raises(TypeError, match=r"cannot store .+ in an event"):
        clean_json(value)


@examples
@given(any_text)
def test_an_exception_is_explained_in_bounded_clean_text(text):
    """What an exception says is clean and short."""
    said = explain(ValueError(text * 100))
    assert clean(said) == said
    assert len(said) <= EXPLANATION_CHARS


# ---------------------------------------------------------------- events


@examples
@given(letters, sizes)
async def test_text_of_any_length_is_split_without_loss(letter, size):
    """Deltas and logs are cut into events of bounded size that together are the whole text."""
    text = letter * size
    for method, type_ in (
        ("emit_text", "text.delta"),
        ("emit_reasoning", "reasoning.delta"),
        ("log", "log"),
    ):
        desk, journal = make_desk()
        args = ("stream", text) if method == "log" else (text,)
        found = await note(journal, getattr(desk, method), *args)
        assert {kind for kind, _ in found} <= {type_}
        assert all(0 < len(data["text"]) <= MAX_DELTA_CHARS for _, data in found)
        assert "".join(data["text"] for _, data in found) == clean(text)


@settings(examples)
@given(any_text, any_text)
async def test_what_is_replaced_is_counted(said, named):
    """Every NUL and every lone surrogate in what an agent says is counted once, wherever it says it."""
    desk, journal = make_desk()
    await desk.emit_text(said)
    await desk.log("stream", said)
    await desk.data("name", [{named: said}])
    bad = [
        character for character in 3 * said + named if character == "\0" or "\ud800" <= character <= "\udfff"
    ]
    assert journal.meter.replaced == len(bad)


@settings(examples, max_examples=40)
@given(any_json, any_text, any_text, letters, sizes)
async def test_any_value_is_stored_whole_or_marked(value, first, second, letter, size):
    """Data and tool events stay within their size, whatever is in them: whole, or cut and marked truncated."""
    long_name, long_value = first + letter * size, [value, letter * size, value]
    calls = {
        "value": ("data", (long_name, long_value), {}),
        "input": ("tool_call", (long_name, second + letter * size, long_value), {}),
        "output": ("tool_result", (long_name, long_value), {"is_error": True}),
    }
    for field, (method, args, options) in calls.items():
        desk, journal = make_desk()
        [(_, data)] = await note(journal, getattr(desk, method), *args, **options)
        if "truncated" not in data:
            assert data[field] == msgspec.json.decode(msgspec.json.encode(clean_json(long_value)))
        else:
            assert isinstance(data[field], str)
            assert msgspec.json.encode(clean_json(long_value)).decode().startswith(data[field])


async def test_a_small_value_is_never_cut_and_a_large_one_always_is():
    """The limit is the event's, exactly: what fits is whole."""
    room = MAX_DATA_BYTES - len(msgspec.json.encode({"name": "n", "value": ""}))
    for size, cut in ((room, False), (room + 1, True)):
        desk, journal = make_desk()
        [(_, data)] = await note(journal, desk.data, "n", "x" * size)
        assert data.get("truncated", False) is cut
        assert len(data["value"]) == (MAX_DELTA_CHARS if cut else room)


async def test_a_cut_text_is_the_text_itself():
    """A tool's long text is cut as text, not as quoted JSON."""
    desk, journal = make_desk()
    [(_, data)] = await note(journal, desk.tool_result, "id", '"' * 500_000)
    assert data == {
        "tool_call_id": "id",
        "output": '"' * MAX_DELTA_CHARS,
        "is_error": False,
        "truncated": True,
    }


@pytest.mark.parametrize("call", ["step", "data", "tool_call", "tool_result", "log"])
async def test_names_are_clean_and_cut(call):
    """Names, ids and streams are of bounded length and clean, however long an agent makes them."""
    name = "\ud800" + "n" * 1_000_000

    async def nothing():
        return 3

    desk, journal = make_desk()
    args = {
        "step": (name, nothing),
        "data": (name, 1),
        "tool_call": (name, name, 1),
        "tool_result": (name, 1),
        "log": (name, "text"),
    }
    found = await note(journal, getattr(desk, call), *args[call])
    named = [
        data[field] for _, data in found for field in ("name", "tool_call_id", "stream") if field in data
    ]
    assert named
    assert set(named) == {"\ufffd" + "n" * (NAME_CHARS - 1)}


async def test_a_step_is_numbered_and_returns_what_was_done():
    """Steps count from 1; a step that raises is not finished, and its exception comes out."""
    desk, journal = make_desk()

    async def add(a, b):
        return a + b

    async def fail():
        raise ValueError

    assert await desk.step("add", add, 1, 2) == 3
    with pytest.raises(ValueError):
        await desk.step("fail", fail)
    assert [(kind, msgspec.json.decode(data)["step"]) for kind, data in journal.read()] == [
        ("step.started", 1),
        ("step.finished", 1),
        ("step.started", 2),
    ]


@examples
@given(st.integers(0, MAX_USAGE), st.none() | st.integers(0, MAX_USAGE))
async def test_usage_is_counted_as_it_is(first, second):
    """What is reported is handed on; what is not known is left out."""
    desk, journal = make_desk()
    [(kind, data)] = await note(journal, desk.usage, input_tokens=first, cost_micro_usd=second)
    assert kind == "usage"
    assert data == {"input_tokens": first} | ({} if second is None else {"cost_micro_usd": second})


@pytest.mark.parametrize(
    "report",
    [
        {"tokens": 1},
        {"input_tokens": -1},
        {"input_tokens": 1.5},
        {"input_tokens": "1"},
        {"input_tokens": True},
        {"input_tokens": math.nan},
        {"cost_micro_usd": 2**63},
    ],
)
async def test_strange_usage_is_refused(report):
    """A report of something else, or of no count, is refused by name in the agent's own task."""
    desk, journal = make_desk()
    with pytest.raises(ValueError, match="cannot report"):
        await desk.usage(**report)
    assert journal.entries == []


async def test_the_grace_is_asked_for_at_the_moment():
    """There is a grace as long as there is no hurry."""
    active = Active("run")
    desk = RunDesk(Assignment("run", "default", "chat", 1, "", {}), Taking(), active, 5.0, workshop=WORKSHOP)
    assert desk.grace_seconds == 5.0
    active.force()
    assert desk.grace_seconds == 0.0
    with trio.fail_after(5):
        await desk.wait_hurry()


# ---------------------------------------------------------------- all the way down


async def say_what_cannot_be_said(desk):
    await desk.emit_text("a\0b\ud800c" + ASTRAL * MAX_DELTA_CHARS)
    await desk.log("std\0err", "\ud800")
    await desk.data("d\0", {"k\ud800": ["\0", ASTRAL]})
    await desk.tool_call("id\0", "to\ud800ol", {"\0": "\0"})
    await desk.tool_result("id\0", "\0" * 300_000)
    await desk.step("st\0ep", trio.lowlevel.checkpoint)


REFUSED = {
    "data": lambda desk: desk.data("x", object()),
    "tool input": lambda desk: desk.tool_call("x", "x", {"k": math.nan}),
    "usage": lambda desk: desk.usage(input_tokens=math.nan),
    "text": lambda desk: desk.emit_text(b"bytes"),
    "name": lambda desk: desk.data(3, 3),
    "stream": lambda desk: desk.log(None, "x"),
}


async def test_the_journal_takes_whatever_the_desk_lets_through(shared_database):
    """Characters that no table takes arrive replaced, in the log and in the message, and the run succeeds."""
    async with open_house(shared_database, agents={"odd": say_what_cannot_be_said}) as house:
        run = await house.perform("odd")
        message = await house.read_message(run.id)
        assert run.status == "succeeded", run.error
        assert message.content == "a\ufffdb\ufffdc" + ASTRAL * MAX_DELTA_CHARS
    assert_history(shared_database, settled=True)


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED.keys())
async def test_what_the_desk_refuses_ends_that_run_only(shared_database, wrong):
    """An agent that hands in what cannot be stored fails by its own exception; the journal never meets it."""
    async with open_house(shared_database, agents={"wrong": wrong}) as house:
        neighbour = await house.start("demo", input="a b", metadata={"demo": {"delay_ms": 3_600_000}})
        run = await house.perform("wrong")
        assert run.status == "failed"
        assert run.error["exception"] in {"TypeError", "ValueError", "AttributeError"}
        assert house.registry.find(neighbour.id) is not None
        assert (await house.perform("demo", input="next")).status == "succeeded"
