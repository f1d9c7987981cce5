"""What an ACP agent tells and asks, read without a process: whatever it is, it becomes events or nothing."""

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from outlive.events import EVENTS
from outlived.agents import Said
from outlived.agents.acp.peer import MAX_LINE, Answered, Asked, Noise, Peer, Told
from outlived.agents.acp.permissions import decide
from outlived.agents.acp.updates import MAX_OPEN, Updates, read_usage
from tests.support.logs import texts, values

examples = settings(derandomize=True, max_examples=300, deadline=None)
fields = st.sampled_from(
    ["toolCallId", "title", "kind", "status", "rawInput", "rawOutput", "content", "entries"]
)
kinds = st.sampled_from(
    ["agent_message_chunk", "agent_thought_chunk", "tool_call", "tool_call_update", "plan", "x"]
)
statuses = st.sampled_from(["pending", "in_progress", "completed", "failed"])
contents = st.fixed_dictionaries({"type": st.just("text"), "text": texts}) | st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("content"),
            "content": st.fixed_dictionaries({"type": st.just("text"), "text": texts}),
        }
    ),
    max_size=2,
)
updates = st.builds(
    lambda kind, known, odd: {"sessionUpdate": kind, **known, **odd},
    kinds,
    st.fixed_dictionaries(
        {},
        optional={
            "toolCallId": st.sampled_from(["a", "b"]), "title": texts, "kind": texts, "status": statuses,
            "rawInput": values, "rawOutput": values, "content": contents,
        },
    ),
    st.just({}) | st.dictionaries(fields, values, max_size=2),
)  # fmt: skip


@examples
@given(told=st.lists(updates, max_size=15))
def test_any_updates_make_events_of_the_wire(told):
    """Whatever an agent tells becomes events with the data the wire has for them; each result has its call before it."""
    reader = Updates()
    said = [each for update in told for each in reader.read(update)] + reader.finish()
    open_calls = set()
    for each in said:
        msgspec.convert(each.data, EVENTS[each.type])
        if each.type == "tool.call":
            assert each.data["tool_call_id"] not in open_calls
            open_calls.add(each.data["tool_call_id"])
        elif each.type == "tool.result":
            open_calls.remove(each.data["tool_call_id"])


def test_only_so_many_calls_are_remembered():
    """An agent that announces calls without end is not remembered without end."""
    reader = Updates()
    for number in range(MAX_OPEN * 2):
        reader.read({"sessionUpdate": "tool_call", "toolCallId": str(number), "status": "in_progress"})
    assert len(reader._calls) == len(reader._begun) == MAX_OPEN


def test_a_call_is_said_when_it_begins_to_work():
    """An announced call waits until more is known of it, or something is asked of it; then it is said once."""
    reader = Updates()
    assert (
        reader.read({"sessionUpdate": "tool_call", "toolCallId": "1", "title": "bash", "kind": "execute"})
        == []
    )
    update = {"sessionUpdate": "tool_call_update", "toolCallId": "1", "rawInput": {"command": "ls"}}
    assert reader.read(update) == []
    call = Said(
        "tool.call",
        {"tool_call_id": "1", "name": "execute", "input": {"title": "ls", "command": "ls"}},
    )
    assert reader.begin({"toolCallId": "1", "title": "ls"}) == [call]
    assert reader.read({**update, "status": "in_progress"}) == []
    done = {"sessionUpdate": "tool_call_update", "toolCallId": "1", "status": "failed", "rawOutput": [1]}
    assert reader.read(done) == [Said("tool.result", {"tool_call_id": "1", "output": [1], "is_error": True})]
    assert reader.finish() == []


@examples
@given(params=st.dictionaries(st.sampled_from(["toolCall", "options", "x"]), values))
def test_any_question_gets_an_answer(params):
    """Whatever is asked, the answer is one of the protocol, and its record can be stored."""
    for policy in ("allow", "deny", "allow_reads"):
        decision = decide(policy, params)
        assert decision.outcome == {"outcome": {"outcome": "cancelled"}}
        msgspec.convert(decision.record.data, EVENTS["data"])


def test_a_yes_is_for_once():
    """Of several ways to say yes or no the one for this time is taken, whatever their order."""
    options = [
        {"optionId": kind, "name": kind, "kind": kind}
        for kind in ("reject_always", "allow_always", "allow_once", "reject_once")
    ]
    chosen = {
        policy: decide(policy, {"toolCall": {"kind": "edit"}, "options": options}).outcome["outcome"][
            "optionId"
        ]
        for policy in ("allow", "deny", "allow_reads")
    }
    assert chosen == {"allow": "allow_once", "deny": "reject_once", "allow_reads": "reject_once"}
    only = [{"optionId": "a", "name": "a", "kind": "allow_always"}]
    assert decide("deny", {"options": only}).outcome == {"outcome": {"outcome": "cancelled"}}


def test_usage_is_what_the_turn_says():
    """Usage is counted with what was cached; an agent that says nothing, or nonsense, uses nothing."""
    assert read_usage({"usage": {"inputTokens": 1, "cachedReadTokens": 2, "thoughtTokens": 3}}) == {
        "input_tokens": 3, "output_tokens": 3, "cached_tokens": 2,
    }  # fmt: skip
    assert read_usage({}) == read_usage({"usage": "much"}) == {}
    assert read_usage({"usage": {"inputTokens": True, "outputTokens": -1}})["input_tokens"] == 0


@examples
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes_make_messages_however_cut(data, cuts):
    """Bytes of any kind make the same messages however they are cut, and nothing raises."""
    whole = Peer().receive(data)
    peer, pieces, begin = Peer(), [], 0
    for cut in [*sorted(cuts), len(data)]:
        pieces += peer.receive(data[begin:cut])
        begin = max(begin, cut)
    assert pieces == whole
    assert all(isinstance(each, Asked | Told | Answered | Noise) for each in whole)


def test_messages_are_told_apart():
    """Requests, notifications, replies and errors; what is none of them is noise, with its reason."""
    lines = [
        {"id": 1, "method": "a", "params": {"x": 1}},
        {"method": "b"},
        {"id": "2", "result": None},
        {"id": 3, "error": {"code": 1, "message": "no"}},
        {"id": None, "error": {"code": 1}},
        {"id": True, "result": 1},
    ]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    assert Peer().receive(data)[:4] == [
        Asked(1, "a", {"x": 1}),
        Told("b", {}),
        Answered("2", None, None),
        Answered(3, None, {"code": 1, "message": "no"}),
    ]
    assert [each.reason for each in Peer().receive(data)[4:]] == ["it is neither a request nor a reply"] * 2
    [noise] = Peer().receive(b"x" * (MAX_LINE + 1))
    assert "longer than" in noise.reason
