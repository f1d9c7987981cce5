"""Formats of other people's programs: what they really printed becomes the same events as any agent's.

``recordings/`` has what ``codex exec --json`` and ``opencode run --format json`` printed for the model server of the
tests; claude's is written from its documentation.
"""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlive.events import EVENTS
from outlived.agents import Said, Session
from outlived.agents.formats import FORMATS, explain_end, open_translator
from outlived.agents.formats.sessions import continue_session
from tests.support.lines import anything, translate
from tests.support.logs import texts, values

RECORDINGS = Path(__file__).parent / "recordings"
NAMES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))
OTHERS = ("codex", "opencode", "claude")

examples = settings(derandomize=True, max_examples=100, deadline=None)


def load(name):
    """The lines of a recording."""
    return (RECORDINGS / f"{name}.jsonl").read_text("utf-8").splitlines()


def read(name, **given_):
    """What a recording amounts to, and its translator."""
    translator = open_translator(name.partition("-")[0], **given_)
    said = [said for line in load(name) for said in translator.read_line(line)]
    return [*said, *translator.finish()], translator


def show(said):
    """Type and data of each event, logs left out."""
    return [(each.type, each.data) for each in said if each.type != "log"]


# ---------------------------------------------------------------- recordings


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_was_recorded_is_unknown(name):
    """Every line that a real program printed is understood."""
    said, _ = read(name)
    assert not [each for each in said if each.type == "log" and each.data["stream"] == "stdout"]


def test_codex_calls_a_tool():
    """A command of codex is a tool call with its result, the turn is a step with its usage."""
    said, translator = read("codex-tool")
    shell = "/bin/bash -lc 'echo from-the-shell'"
    assert show(said)[:3] == [
        ("step.started", {"step": 1, "name": "turn"}),
        (
            "tool.call",
            {"tool_call_id": "item_1", "name": "command_execution", "input": {"command": shell}},
        ),
        (
            "tool.result",
            {
                "tool_call_id": "item_1",
                "output": {"aggregated_output": "from-the-shell\n", "exit_code": 0},
                "is_error": False,
            },
        ),
    ]
    text, finished = show(said)[3:]
    assert text[0] == "text.delta"
    assert "from-the-shell" in text[1]["text"]
    usage = {"input_tokens": 60, "output_tokens": 14, "cached_tokens": 20}
    assert finished == ("step.finished", {"step": 1, "name": "turn", "usage": usage})
    assert translator.session == Session(json.loads(load("codex-tool")[0])["thread_id"], {"used": usage})
    assert translator.error is None


def test_codex_counts_only_this_turn():
    """A thread that is gone on with says what it used in all; the run gets what it used itself."""
    _, first = read("codex-tool")
    said, second = read("codex-resumed", session=first.session)
    assert [each.type for each in said if each.type != "log"] == [
        "step.started", "reasoning.delta", "text.delta", "step.finished",
    ]  # fmt: skip
    assert said[-1].data["usage"] == {"input_tokens": 30, "output_tokens": 7, "cached_tokens": 10}
    assert second.session.id == first.session.id
    assert second.session.note["used"]["input_tokens"] == 90


def test_codex_tells_what_failed():
    """A tool that failed is a failed result; a change of files is a tool, too."""
    result = next(each for each in read("codex-failing-tool")[0] if each.type == "tool.result")
    assert (result.data["is_error"], result.data["output"]["exit_code"]) == (True, 3)
    call = next(each for each in read("codex-file-change")[0] if each.type == "tool.call")
    assert call.data["name"] == "file_change"
    assert call.data["input"]["changes"][0]["kind"] == "add"


@pytest.mark.parametrize("format_", ["codex", "opencode"])
def test_a_refused_turn_says_why(format_):
    """A model server that refuses makes an error with its own words, beside the exit status."""
    _, translator = read(f"{format_}-refused")
    assert translator.error["code"] == "exception"
    assert "no, says the model server (401)" in translator.error["message"]
    status = {"code": "exit_status", "message": "the command exited with status 1", "exit_status": 1}
    explained = explain_end(status, translator.error)
    assert explained == {**translator.error, "exit_status": 1}
    killed = {"code": "signal", "message": "it was killed", "signal": "SIGKILL"}
    assert explain_end(killed, translator.error) == killed
    assert explain_end(None, translator.error) == translator.error
    assert explain_end(None, open_translator(format_).error) is None
    assert explain_end(status, None) == status


def test_opencode_works_in_steps():
    """Each step of opencode is a step with usage and cost; a tool's call and result come at once."""
    said, translator = read("opencode-tool")
    usage = {"input_tokens": 30, "output_tokens": 7, "cached_tokens": 10, "cost_micro_usd": 44}
    assert show(said) == [
        ("step.started", {"step": 1, "name": "step"}),
        (
            "tool.call",
            {
                "tool_call_id": "call_1",
                "name": "bash",
                "input": {"command": "echo from-the-shell", "description": "d"},
            },
        ),
        ("tool.result", {"tool_call_id": "call_1", "output": "from-the-shell\n", "is_error": False}),
        ("step.finished", {"step": 1, "name": "step", "usage": usage}),
        ("step.started", {"step": 2, "name": "step"}),
        ("text.delta", {"text": "It said: from-the-shell\n"}),
        ("step.finished", {"step": 2, "name": "step", "usage": usage}),
    ]
    assert translator.session.id.startswith("ses_")


def test_opencode_thinks_and_fails():
    """Thought is reasoning, and a tool that was refused is a failed result."""
    said, _ = read("opencode-think")
    assert ("reasoning.delta", {"text": "Let me think."}) in show(said)
    result = next(each for each in read("opencode-failing-tool")[0] if each.type == "tool.result")
    assert result.data["is_error"]


def test_claude_says_nothing_twice():
    """What was streamed is not said again by its message; usage is with what was cached."""
    said, translator = read("claude-documented")
    assert show(said) == [
        ("step.started", {"step": 1, "name": "turn"}),
        ("reasoning.delta", {"text": "Let me look."}),
        ("text.delta", {"text": "I will "}),
        ("text.delta", {"text": "look."}),
        ("tool.call", {"tool_call_id": "toolu_1", "name": "Bash", "input": {"command": "echo hello"}}),
        ("tool.result", {"tool_call_id": "toolu_1", "output": "hello", "is_error": False}),
        ("text.delta", {"text": "\n\nIt says hello."}),
        (
            "step.finished",
            {
                "step": 1,
                "name": "turn",
                "usage": {
                    "input_tokens": 159, "output_tokens": 20, "cached_tokens": 50, "cost_micro_usd": 12346,
                },
            },
        ),
    ]  # fmt: skip
    assert translator.session == Session("5f1e2d3c-0000-4000-8000-000000000001")


def test_claude_says_why_it_failed():
    """A result that is an error is the turn's error."""
    translator = open_translator("claude")
    translator.read_line('{"type":"result","subtype":"error_max_turns","is_error":true}')
    assert translator.error["message"] == "the turn ended with error_max_turns"


# ---------------------------------------------------------------- anything at all


def _spoil(draw, value):
    """A value like that one, with something of it replaced or left out."""
    if isinstance(value, dict) and value:
        name = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 4)) == 0:
            return {key: inner for key, inner in value.items() if key != name}
        return {**value, name: _spoil(draw, value[name])}
    if isinstance(value, list) and value:
        return [_spoil(draw, value[0]), *value[1:]]
    return draw(values | texts)


@st.composite
def printed(draw, format_):
    """Lines like those of a format: recorded ones in any order, spoiled ones, and anything else."""
    recorded = [line for name in NAMES if name.startswith(format_) for line in load(name)]
    lines = draw(st.lists(st.sampled_from(recorded), max_size=12))
    kinds = [draw(st.sampled_from(["as it is", "spoiled", "anything"])) for _ in lines]
    return [
        json.dumps(_spoil(draw, json.loads(line)))
        if kind == "spoiled"
        else (draw(anything) if kind == "anything" else line)
        for line, kind in zip(lines, kinds, strict=True)
    ]


@pytest.mark.parametrize("format_", OTHERS)
def test_any_lines_make_events_of_the_wire(format_):
    """Whatever is printed becomes events that an agent may cause; no state is too large, wherever it is handed on."""

    @examples
    @given(lines=printed(format_))
    def check(lines):
        whole, translator = translate(format_, lines)
        for each in whole:
            assert not each.type.startswith("run.")
            msgspec.convert(each.data, EVENTS[each.type])
        for cut in range(len(lines)):
            said, other = translate(format_, lines, cut)
            assert (said, other.state, other.error, other.session) == (
                whole, translator.state, translator.error, translator.session,
            )  # fmt: skip
        started = [each.data["step"] for each in whole if each.type == "step.started"]
        assert started == list(range(1, 1 + len(started)))
        finished = [each.data["step"] for each in whole if each.type == "step.finished"]
        assert len(set(finished)) == len(finished)

    check()


@pytest.mark.parametrize("format_", [name for name in FORMATS if name != "text"])
def test_no_state_grows(format_):
    """Long ids, many calls, many steps, long errors: what is remembered stays below 16 KiB."""
    translator = open_translator(format_)
    long = "\N{MATHEMATICAL DOUBLE-STRUCK CAPITAL A}" * 90
    for number in range(100):
        lines = [
            {"type": "step.started", "name": long + str(number)},
            {"type": "item.started", "item": {"id": f"{long}{number}", "type": "x"}},
            {"type": "turn.failed", "error": {"message": "\x01" * 100_000}},
            {"type": "thread.started", "thread_id": f"{long}{number}"},
            {
                "type": "tool_use", "sessionID": f"{long}{number}",
                "part": {"callID": f"{long}{number}", "tool": "x", "state": {}},
            },
            {"type": "error", "sessionID": long, "error": {"name": "\x01" * 5000}},
            {
                "type": "assistant",
                "message": {"content": [{"type": "tool_use", "id": f"{long}{number}", "name": "x"}]},
            },
            {"type": "result", "subtype": "\x01" * 1000, "result": "\x01" * 5000},
            {"\x01" * 5000: 1},
        ]  # fmt: skip
        for line in lines:
            translator.read_line(json.dumps(line))
    assert len(msgspec.json.encode(translator.state)) < 16 << 10


# ---------------------------------------------------------------- going on


def test_a_session_is_gone_on_with():
    """Each program is told in its own way, with the options it had; a command without a session is as it was."""
    session = Session("s1")
    assert continue_session("codex", ["codex", "exec", "--json", "-"], session) == [
        "codex", "exec", "--json", "resume", "s1", "-",
    ]  # fmt: skip
    assert continue_session("codex", ["codex", "exec", "--json"], session)[-2:] == ["resume", "s1"]
    assert continue_session("opencode", ["opencode", "run"], session)[-2:] == ["--session", "s1"]
    assert continue_session("claude", ["claude", "-p"], session)[-2:] == ["--resume", "s1"]
    assert continue_session("jsonl", ["x"], session) == ["x"]
    assert continue_session("codex", ["codex", "exec", "-"], None) == ["codex", "exec", "-"]


def test_what_a_program_calls_unknown_is_said_as_it_is():
    """An event of a version to come is in the log, and counted."""
    translator = open_translator("codex")
    [said] = translator.read_line('{"type":"thread.renamed","name":"x"}')
    assert said == Said("log", {"stream": "stdout", "text": '{"type":"thread.renamed","name":"x"}\n'})
    assert "'thread.renamed' is no event that is known of codex" in translator.finish()[0].data["text"]
