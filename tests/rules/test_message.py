"""How events become a message: the same draft however the log is cut, and never more than its limit."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.rules.message import DEFAULT_LIMIT, SHAPING, Draft, fold, read_content, restore
from outlived.rules.run import Event
from tests.support.logs import say_many, texts, write_at

examples = settings(derandomize=True, max_examples=200, deadline=None)
limits = st.integers(0, 120) | st.just(DEFAULT_LIMIT)


def write(*said: tuple[str, dict[str, Any]], limit: int = DEFAULT_LIMIT) -> Draft:
    """A draft of these events."""
    draft = Draft(limit)
    for seq, (type_, data) in enumerate(said, 1):
        draft.add(Event(seq, write_at(seq), type_, data))
    return draft


def text(said: str) -> tuple[str, dict[str, Any]]:
    return "text.delta", {"text": said}


def call(call_id: str, name: str = "look", given: Any = None) -> tuple[str, dict[str, Any]]:
    return "tool.call", {"tool_call_id": call_id, "name": name, "input": given}


def result(call_id: str, output: Any, *, is_error: bool = False) -> tuple[str, dict[str, Any]]:
    return "tool.result", {"tool_call_id": call_id, "output": output, "is_error": is_error}


def store_and_restore(draft: Draft, limit: int) -> Draft:
    """The draft as a row would hold it and a later owner would find it."""
    parts = msgspec.json.decode(msgspec.json.encode(draft.parts))
    return restore(parts, truncated=draft.truncated, as_of_seq=draft.as_of_seq, limit=limit)


def show(draft: Draft) -> tuple[Any, ...]:
    """Everything of a draft that anybody sees; parts as JSON, where 1 and 1.0 and True differ."""
    return msgspec.json.encode(draft.parts), draft.truncated, draft.as_of_seq


@examples
@given(events=say_many(), cut=st.integers(0, 12), limit=limits)
def test_a_stored_draft_goes_on_as_if_never_stored(events: list[Event], cut: int, limit: int):
    """A stored draft and the later events give the same message as all events from the beginning."""
    whole, first = Draft(limit), Draft(limit)
    for event in events:
        whole.add(event)
    for event in events[:cut]:
        first.add(event)
    stored = store_and_restore(first, limit)
    assert show(stored) == show(first)
    for event in events[cut:]:
        stored.add(event)
    assert show(stored) == show(whole)


@examples
@given(events=say_many(), cut=st.integers(0, 12), limit=limits)
def test_a_copy_is_its_own(events: list[Event], cut: int, limit: int):
    """Writing on a copy leaves the draft as it was."""
    draft = Draft(limit)
    for event in events[:cut]:
        draft.add(event)
    before = show(draft)
    copy = draft.copy()
    for event in events[cut:]:
        copy.add(event)
    assert show(draft) == before


@examples
@given(pieces=st.lists(texts, max_size=10), limit=limits)
def test_content_is_the_concatenation_up_to_the_limit(pieces: list[str], limit: int):
    """Content is all text there was, or as many whole characters of it as the limit holds, marked truncated."""
    said = "".join(pieces)
    draft = write(*[text(piece) for piece in pieces], limit=limit)
    content = read_content(draft.parts)
    assert draft.truncated == (len(said.encode()) > limit)
    if not draft.truncated:
        assert content == said
    else:
        assert said.startswith(content)
        assert len(content.encode()) <= limit < len(said[: len(content) + 1].encode())


@examples
@given(events=say_many(), limit=limits)
def test_a_message_stays_within_its_limit(events: list[Event], limit: int):
    """Whatever an agent says, what its message holds is bounded, and a truncated message changes no more."""
    draft = Draft(limit)
    for event in events:
        before, full = draft.parts, draft.truncated
        draft.add(event)
        assert draft.as_of_seq == event.seq
        assert sum(len(part.get("text", "").encode()) for part in draft.parts) <= limit
        if full or event.type not in SHAPING:
            assert draft.parts == before
            assert draft.truncated == full


@given(cut=st.integers(0, 8))
@examples
def test_a_character_is_never_cut(cut: int):
    """The limit falls between characters, not into one."""
    draft = write(text("aé€𝄞"), limit=cut)
    whole = [count for count in (0, 1, 3, 6, 10) if count <= cut]
    assert len(read_content(draft.parts).encode()) == whole[-1]
    assert draft.truncated


def test_exactly_full_is_not_truncated():
    """A message that holds just what was said has lost nothing; the next byte truncates it."""
    draft = write(text("abc"), text(""), limit=3)
    assert not draft.truncated
    draft.add(Event(3, write_at(3), *text("d")))
    assert draft.truncated
    assert read_content(draft.parts) == "abc"


def test_a_truncated_message_takes_nothing_smaller_later():
    """What did not fit ends the message: no later text may follow a hole."""
    draft = write(text("ab"), text("long long"), text("c"), limit=4)
    assert read_content(draft.parts) == "ablo"


def test_a_lowered_limit_adds_nothing():
    """A draft stored under a larger limit keeps what it has under a smaller one, and takes no more."""
    stored = write(text("0123456789"))
    draft = restore(stored.parts, truncated=False, as_of_seq=1, limit=4)
    draft.add(Event(2, write_at(2), *text("abcdefgh")))
    assert read_content(draft.parts) == "0123456789"
    assert draft.truncated


def test_neighbouring_prose_is_one_part():
    """Text beside text is one part, so is reasoning; anything between them parts them."""
    reasoning = ("reasoning.delta", {"text": "hm"})
    draft = write(text("a"), text("b"), reasoning, reasoning, text("c"), call("1"), text("d"))
    assert [(part["type"], part.get("text")) for part in draft.parts] == [
        ("text", "ab"), ("reasoning", "hmhm"), ("text", "c"), ("tool-look", None), ("text", "d"),
    ]  # fmt: skip
    assert read_content(draft.parts) == "abcd"


def test_an_empty_delta_makes_no_part():
    """Nothing said leaves no trace."""
    assert write(text(""), ("reasoning.delta", {"text": ""})).parts == []


def test_a_result_completes_the_newest_call_of_its_id():
    """Of two calls with one id the newer gets the result; its part changes in place."""
    draft = write(call("1", given=1), call("1", given=2), text("x"), result("1", "out"))
    assert [part.get("state") for part in draft.parts] == ["input-available", "output-available", None]
    assert draft.parts[1] == {
        "type": "tool-look", "toolCallId": "1", "state": "output-available", "input": 2, "output": "out",
    }  # fmt: skip


def test_a_failed_call_says_so():
    """A result that is an error becomes the part's error text."""
    draft = write(call("1"), result("1", "no such file", is_error=True))
    assert draft.parts[0]["state"] == "output-error"
    assert draft.parts[0]["errorText"] == "no such file"


def test_a_result_without_a_call_changes_nothing():
    """A result nobody called for is in the log only."""
    assert write(text("a"), result("9", "out")).parts == [{"type": "text", "text": "a"}]


def test_a_result_that_does_not_fit_truncates():
    """A result beyond the limit leaves its call open, and the message truncated."""
    draft = write(call("1"), result("1", "x" * 500), text("later"), limit=200)
    assert draft.truncated
    assert [part["state"] for part in draft.parts] == ["input-available"]


def test_an_error_text_is_text():
    """A failed call's output may be any JSON; its error text is a string."""
    draft = write(call("1"), result("1", {"code": 2}, is_error=True))
    assert draft.parts[0]["errorText"] == '{"code": 2}'


def test_steps_are_told_apart():
    """Where a later step begins is marked; neither the first step nor one that said nothing leaves a mark of its own."""
    step = ("step.started", {"step": 1, "name": "look"})
    draft = write(step, step, text("a"), step, step, text("b"), call("1"), step)
    assert [part["type"] for part in draft.parts] == [
        "text", "step-start", "text", "tool-look", "step-start",
    ]  # fmt: skip
    assert draft.parts[1] == {"type": "step-start"}
    assert read_content(draft.parts) == "ab"


def tell_again(events: list[Event]) -> list[dict[str, Any]]:
    """The parts of a log in the plainest way: no buffers, no sizes, no limit."""
    parts: list[dict[str, Any]] = []
    for event in events:
        data, kind = event.data, event.type.removesuffix(".delta")
        if kind in {"text", "reasoning"} and data["text"]:
            if parts and parts[-1]["type"] == kind:
                parts[-1] = {"type": kind, "text": parts[-1]["text"] + data["text"]}
            else:
                parts.append({"type": kind, "text": data["text"]})
        elif kind == "data":
            parts.append({"type": f"data-{data['name']}", "data": data["value"]})
        elif kind == "step.started" and parts and parts[-1]["type"] != "step-start":
            parts.append({"type": "step-start"})
        elif kind == "tool.call":
            parts.append(
                {
                    "type": f"tool-{data['name']}",
                    "toolCallId": data["tool_call_id"],
                    "state": "input-available",
                    "input": data["input"],
                }
            )
        elif kind == "tool.result":
            calls = [part for part in parts if part.get("toolCallId") == data["tool_call_id"]]
            for part in calls[-1:]:
                said = data["output"]
                if data["is_error"]:
                    text_ = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
                    part.update(state="output-error", errorText=text_)
                else:
                    part.update(state="output-available", output=said)
    return parts


@examples
@given(events=say_many())
def test_parts_are_the_fold_of_the_log(events: list[Event]):
    """The parts of a message are what its log amounts to, event by event, and nothing else."""
    assert msgspec.json.encode(fold(events)) == msgspec.json.encode(tell_again(events))


def test_data_becomes_a_part_of_its_name():
    """Data is a part whose type carries its name."""
    draft = write(("data", {"name": "chart", "value": [1, 2]}))
    assert draft.parts == [{"type": "data-chart", "data": [1, 2]}]


@pytest.mark.parametrize("type_", ["log", "usage", "run.started", "step.finished", "no.such.type"])
def test_other_events_pass_a_message_by(type_: str):
    """An event that shapes no message only moves the draft's place in the log."""
    draft = write(text("a"), (type_, {"text": "b"}))
    assert (read_content(draft.parts), draft.as_of_seq) == ("a", 2)
