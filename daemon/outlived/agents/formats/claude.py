"""``claude``: what ``claude -p --output-format stream-json --verbose`` prints. Experimental: written from its
documentation, and never run here.

1. An ``assistant`` message has text, thought and calls of tools, a ``user`` message their results. With
   ``--include-partial-messages`` text and thought come as ``stream_event`` before; then the message itself only repeats
   them.
2. From ``system`` (``init``) to ``result`` is one step, named ``turn``; ``result`` has usage and cost.
3. A ``result`` that says ``is_error`` is the turn's error.
4. What a subagent says (``parent_tool_use_id``) is its caller's business: the result of that call has it.

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

_GOOD = (None, "success")
_SILENT = ("rate_limit_event", "tool_progress", "auth_status", "keep_alive")


class ClaudeLines(ObjectLines):
    """The translator."""

    def _read(self, event: dict[str, Any]) -> list[Said]:
        kind = event.get("type")
        if isinstance(event.get("parent_tool_use_id"), str) or kind in _SILENT:
            return []
        match kind:
            case "system":
                return self._read_system(event)
            case "assistant" | "user":
                return self._read_message(read_object(event.get("message")))
            case "stream_event":
                return self._read_stream(read_object(event.get("event")))
            case "result":
                return self._read_result(event)
        raise Malformed(f"{str(kind)[:100]!r} is no event that is known of claude")

    def _read_system(self, event: dict[str, Any]) -> list[Said]:
        if event.get("subtype") != "init":
            return []
        self._note_session(event.get("session_id"))
        return [self._begin_step("turn")]

    def _read_message(self, message: dict[str, Any]) -> list[Said]:
        content = message.get("content")
        streamed = message.get("id") is not None and message.get("id") == self._memory.get("streamed")
        said: list[Said] = []
        for block in content if isinstance(content, list) else ():
            if not isinstance(block, dict):
                raise Malformed("a part of its message is no object")
            said += self._read_block(block, streamed=streamed)
        return said

    def _read_block(self, block: dict[str, Any], *, streamed: bool) -> list[Said]:
        match block.get("type"):
            case "text":
                return [] if streamed else self._speak(block.get("text"))
            case "thinking":
                text = block.get("thinking")
                return [] if streamed or not text else [Said("reasoning.delta", {"text": str(text)})]
            case "tool_use":
                return self._call(read_id(block.get("id")), read_id(block.get("name")), block.get("input"))
            case "tool_result":
                failed = block.get("is_error") is True
                return [
                    self._return(read_id(block.get("tool_use_id")), block.get("content"), is_error=failed)
                ]
        return []

    def _read_stream(self, event: dict[str, Any]) -> list[Said]:
        """A piece of a message that is still being written."""
        match event.get("type"):
            case "message_start":
                self._memory["streamed"] = str(read_object(event.get("message")).get("id"))[:100]
            case "content_block_start":
                if read_object(event.get("content_block")).get("type") == "text":
                    self._memory["apart"] = bool(self._memory.get("spoke"))
            case "content_block_delta":
                return self._read_delta(read_object(event.get("delta")))
        return []

    def _read_delta(self, delta: dict[str, Any]) -> list[Said]:
        match delta:
            case {"type": "text_delta", "text": str(text)} if text:
                between = "\n\n" if self._memory.pop("apart", False) else ""
                self._memory["spoke"] = True
                return [Said("text.delta", {"text": between + text})]
            case {"type": "thinking_delta", "thinking": str(text)} if text:
                return [Said("reasoning.delta", {"text": text})]
        return []

    def _read_result(self, event: dict[str, Any]) -> list[Said]:
        if isinstance(event.get("session_id"), str):
            self._note_session(event["session_id"])
        if event.get("is_error") is True or event.get("subtype") not in _GOOD:
            subtype = str(event.get("subtype"))[:100]
            self._fail(subtype, event.get("result") or f"the turn ended with {subtype}")
        return [self._end_step("turn", _read_usage(event))]


def _read_usage(event: dict[str, Any]) -> dict[str, int]:
    """Its input is without what was cached; ours is all of it."""
    usage = read_object(event.get("usage"))
    cached = read_amount(usage.get("cache_read_input_tokens"))
    made = read_amount(usage.get("cache_creation_input_tokens"))
    counted = {
        "input_tokens": read_amount(usage.get("input_tokens")) + cached + made,
        "output_tokens": read_amount(usage.get("output_tokens")),
        "cached_tokens": cached,
    }
    cost = read_cost(event.get("total_cost_usd"))
    return counted if cost is None else {**counted, "cost_micro_usd": cost}
