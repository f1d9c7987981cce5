"""Stdin: the input as it is, or one object with everything an agent may want to know."""

import json

import attrs

from outlive import wire
from outlived.agents import Assignment
from outlived.agents.formats.stdin import write_stdin

ASSIGNMENT = Assignment("r", "w", "c", 2, "Hello\nthere", {"a": 1})
MESSAGE = wire.Message(
    "m", "c", "r0", 1, "user", "completed", "Hi", False, [{"type": "text", "text": "Hi"}], "t", "t"
)


def test_other_formats_get_the_input_as_it_is():
    """A program that is no jsonl agent reads the text of the input and nothing else."""
    for format_ in ("text", "codex", "opencode", "claude"):
        assert write_stdin(format_, ASSIGNMENT, [MESSAGE]) == "Hello\nthere"


def test_a_jsonl_agent_reads_one_line_with_run_input_and_history():
    """One JSON object on one line: the run, the input, and the chat's messages as the wire shows them."""
    line = write_stdin("jsonl", ASSIGNMENT, [MESSAGE])
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "run": {"id": "r", "workspace": "w", "chat_id": "c", "attempt": 2, "metadata": {"a": 1}},
        "input": "Hello\nthere",
        "parts": [{"type": "text", "text": "Hello\nthere"}],
        "history": [
            {
                "id": "m", "chat_id": "c", "run_id": "r0", "position": 1, "role": "user", "status": "completed",
                "content": "Hi", "truncated": False, "parts": [{"type": "text", "text": "Hi"}],
                "created_at": "t", "updated_at": "t",
            }
        ],
    }  # fmt: skip


def test_parts_are_given_as_they_were_asked():
    """An input of several parts arrives with all of them."""
    parts = [{"type": "text", "text": "Look"}, {"type": "file", "url": "file:///x"}]
    given = json.loads(write_stdin("jsonl", attrs.evolve(ASSIGNMENT, input="Look", parts=parts)))
    assert (given["input"], given["parts"], given["history"]) == ("Look", parts, [])
