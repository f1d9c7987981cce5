"""``opencode``: what ``opencode run --format json`` prints. Tried with 1.18; recordings in ``tests/agents/formats``.

1. ``text`` is the answer and ``reasoning`` thought, each a whole part; ``tool_use`` is a call and its result at once.
2. A ``step_start`` to its ``step_finish`` is a step, named ``step``, with its usage and its cost.
3. ``error`` is the turn's error; the program then exits with status 1.

Not here: how a session is gone on with (``sessions.py``).
"""

from __future__ import annotations

from typing import Any

from outlived.agents import Said
from outlived.agents.formats.objects import (
    Malformed,
    ObjectLines,
    read_amount,
    read_cost,
    read_id,
    read_object,
)


class OpencodeLines(ObjectLines):
    """The translator."""

    def _read(self, event: dict[str, Any]) -> list[Said]:
        self._note_session(event.get("sessionID"))
        part = read_object(event.get("part"))
        match event.get("type"):
            case "step_start":
                return [self._begin_step("step")]
            case "step_finish":
                return [self._end_step("step", _read_usage(part))]
            case "text":
                return self._speak(part.get("text"))
            case "reasoning":
                if isinstance(text := part.get("text"), str):
                    return [Said("reasoning.delta", {"text": text})]
            case "tool_use":
                return self._read_tool(part)
            case "error":
                error = read_object(event.get("error"))
                message = read_object(error.get("data")).get("message") or error.get("name")
                self._fail(str(error.get("name") or "error")[:100], message)
                return []
        raise Malformed(f"{str(event.get('type'))[:100]!r} is no event that is known of opencode")

    def _read_tool(self, part: dict[str, Any]) -> list[Said]:
        call_id, state = read_id(part.get("callID")), read_object(part.get("state"))
        failed = state.get("status") == "error"
        output = state.get("error") if failed else state.get("output")
        said = self._call(call_id, read_id(part.get("tool")), state.get("input"))
        return [*said, self._return(call_id, output, is_error=failed)]


def _read_usage(part: dict[str, Any]) -> dict[str, int]:
    """Its input is without what was cached; ours is all of it."""
    tokens = read_object(part.get("tokens"))
    cache = read_object(tokens.get("cache"))
    cached = read_amount(cache.get("read"))
    usage = {
        "input_tokens": read_amount(tokens.get("input")) + cached + read_amount(cache.get("write")),
        "output_tokens": read_amount(tokens.get("output")) + read_amount(tokens.get("reasoning")),
        "cached_tokens": cached,
    }
    cost = read_cost(part.get("cost"))
    return usage if cost is None else {**usage, "cost_micro_usd": cost}
