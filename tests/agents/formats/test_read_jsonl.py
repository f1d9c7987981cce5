"""``jsonl``: each line is an event, or it is said as it is; no line can do what only a daemon may."""

import json

import msgspec
import pytest
from hypothesis import given, settings

from outlive.events import EVENTS
from outlived.agents import Said
from outlived.agents.formats import open_translator
from outlived.agents.formats.steps import MAX_OPEN
from outlived.rules.lifecycle import fold
from outlived.rules.run import Event, Fact, Status
from tests.support.lines import anything, jsonl_lines, translate
from tests.support.logs import write_at

examples = settings(derandomize=True, max_examples=300, deadline=None)
ALLOWED = {name for name in EVENTS if not name.startswith("run.")}


def read(*lines):
    """What these lines amount to, without what is said at the end."""
    translator = open_translator("jsonl")
    return [said for line in lines for said in translator.read_line(line)]


def write(**event):
    return json.dumps(event)


@examples
@given(lines=jsonl_lines)
def test_any_lines_make_events_of_the_wire(lines):
    """Whatever is printed becomes events that an agent may cause, with the data that the wire has for them."""
    said, _ = translate("jsonl", lines)
    for each in said:
        assert each.type in ALLOWED
        msgspec.convert(each.data, EVENTS[each.type])


@examples
@given(lines=jsonl_lines)
def test_another_translator_goes_on_between_any_two_lines(lines):
    """State saved and given to another translator changes nothing, wherever it is done; it stays small."""
    whole, translator = translate("jsonl", lines)
    for cut in range(len(lines)):
        assert translate("jsonl", lines, cut)[0] == whole
    assert len(msgspec.json.encode(translator.state)) < 16 << 10


@examples
@given(lines=jsonl_lines)
def test_a_log_with_any_lines_can_be_folded(lines):
    """The log stays one that the lifecycle accepts, and the steps that are done are those that were counted."""
    said, _ = translate("jsonl", lines)
    begun = [
        ("run.created", {"status": "pending", "owner": "o", "epoch": 1}),
        (Fact.STARTED, {"attempt": 1, "owner": "o", "epoch": 1}),
    ]
    everything = [*begun, *((each.type, each.data) for each in said)]
    run = fold(Event(seq, write_at(seq), type_, data) for seq, (type_, data) in enumerate(everything, 1))
    assert run.status is Status.RUNNING
    started = [each.data["step"] for each in said if each.type == "step.started"]
    finished = [each.data["step"] for each in said if each.type == "step.finished"]
    assert started == list(range(1, 1 + len(started)))
    assert run.step_count == len(finished) == len(set(finished))
    assert set(finished) <= set(started)


@examples
@given(line=anything)
def test_what_is_no_event_is_said_as_it_is(line):
    """A line of anything else is logged with its newline, and counted at the end."""
    said, _ = translate("jsonl", [line])
    if line and not line.isspace():
        first, last = said
        assert first == Said("log", {"stream": "stdout", "text": line + "\n"})
        assert last.data["text"].startswith("1 line of stdout")
    else:
        assert said == []


@pytest.mark.parametrize(
    "line",
    [
        write(type="run.settled", status="succeeded", error=None),
        write(type="run.stop_requested", by="me", reason=None, requested_at="now"),
        write(type="text.delta", text=3),
        write(type="text.delta", text="x", seq=1),
        write(type="text.delta"),
        write(type="usage", input_tokens=-1),
        write(type="usage", input_tokens=2**53),
        write(type="usage", input_tokens=True),
        write(type="tool.call", tool_call_id="1", name="look"),
        write(type="step.finished", name="never begun"),
        write(type="step.started", name=""),
        write(text="x"),
        '{"type": "text.delta", "text": "x"',
        '{"type": "text.delta", "text": "\\u0000"}',
        '{"type": "data", "name": "x", "value": NaN}',
        '{"type": "data", "name": "x", "value": ' + "[" * 70 + "]" * 70 + "}",
        '[{"type": "text.delta", "text": "x"}]',
        "null",
    ],
)
def test_what_breaks_a_rule_is_no_event(line):
    """A wrong type, a wrong field, a wrong value, or no JSON at all: the line is logged, nothing else happens."""
    assert read(line) == [Said("log", {"stream": "stdout", "text": line + "\n"})]


def test_each_type_becomes_its_event():
    """What an agent may say arrives as the wire has it."""
    assert read(
        write(type="text.delta", text="Hello"),
        write(type="text.delta", text=""),
        "  ",
        write(type="reasoning.delta", text="Hm"),
        write(type="usage", input_tokens=3, output_tokens=None),
        write(type="tool.call", tool_call_id="c1", name="look", input={"at": [1]}),
        write(type="tool.result", tool_call_id="c1", output=None),
        write(type="log", text="note"),
        write(type="data", name="plan", value=[1, 2]),
    ) == [
        Said("text.delta", {"text": "Hello"}),
        Said("reasoning.delta", {"text": "Hm"}),
        Said("usage", {"input_tokens": 3}),
        Said("tool.call", {"tool_call_id": "c1", "name": "look", "input": {"at": [1]}}),
        Said("tool.result", {"tool_call_id": "c1", "output": None, "is_error": False}),
        Said("log", {"text": "note", "stream": "log"}),
        Said("data", {"name": "plan", "value": [1, 2]}),
    ]


def test_steps_are_numbered_by_the_daemon():
    """Steps count from 1, in the order of their beginnings; usage belongs to one."""
    said = read(
        write(type="step.started", name="a", step=7),
        write(type="step.started", name="a", step=8),
        write(type="step.started", name="a", step=7),
        write(type="step.finished", name="a", step=8, usage={"output_tokens": 5}),
        write(type="step.started", name="b"),
        write(type="step.finished", name="b"),
        write(type="step.finished", name="b"),
    )
    assert [(each.type, each.data) for each in said if each.type != "log"] == [
        ("step.started", {"step": 1, "name": "a"}),
        ("step.started", {"step": 2, "name": "a"}),
        ("step.finished", {"step": 2, "name": "a", "usage": {"output_tokens": 5}}),
        ("step.started", {"step": 3, "name": "b"}),
        ("step.finished", {"step": 3, "name": "b"}),
    ]
    assert len([each for each in said if each.type == "log"]) == 2


def test_a_next_attempt_numbers_on():
    """An attempt whose predecessors have finished steps begins after them."""
    translator = open_translator("jsonl", first_step=9)
    assert translator.read_line(write(type="step.started", name="a"))[0].data == {"step": 9, "name": "a"}


def test_only_so_many_steps_are_open():
    """One more than may be open at once is malformed; the log says so."""
    said = read(*[write(type="step.started", name=f"step {number}") for number in range(MAX_OPEN + 1)])
    assert [each.type for each in said] == [*["step.started"] * MAX_OPEN, "log"]


def test_the_end_counts_what_was_malformed():
    """The last event says how many lines were no events, and why the first was none."""
    said, _ = translate("jsonl", [write(type="text.delta", text=3), "hello", write(type="usage")])
    assert said[-1].data["stream"] == "outlived"
    assert (
        said[-1]
        .data["text"]
        .startswith("2 lines of stdout that are no events; about the first: Expected `str`")
    )


def test_a_line_that_is_too_long_counts_as_well():
    """Whoever cuts lines says what there is of one that it could not keep."""
    translator = open_translator("jsonl")
    assert translator.refuse_line("{...", "it is too long") == [
        Said("log", {"stream": "stdout", "text": "{...\n"})
    ]
    assert "about the first: it is too long" in translator.finish()[0].data["text"]
