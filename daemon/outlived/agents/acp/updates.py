"""``session/update`` of the Agent Client Protocol, as events. Pure.

1. Chunks of the agent's message are text, chunks of thought reasoning; a plan is data.
2. A tool's name is its kind (``execute``, ``read``, …), its input what is known of it when it begins to work: until then
   updates complete it. Its result is what it returned, else what it shows.
3. Whatever is not known here is no event: the protocol grows, and says that clients ignore what they do not know.

Not here: who may do what (``permissions.py``), the conversation (``talk.py``).
"""

from __future__ import annotations

from typing import Any

from outlived.agents import Said

MAX_OPEN = 256
_ENDED = ("completed", "failed")
_WAITING = (None, "pending")
_FIELDS = ("title", "kind", "rawInput", "status")


class Updates:
    """What a session has told. Calls are remembered from their announcement to their end."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, Any]] = {}
        self._begun: set[str] = set()

    def read(self, update: dict[str, Any]) -> list[Said]:
        """What an update amounts to."""
        match update.get("sessionUpdate"):
            case "agent_message_chunk":
                return _say("text.delta", update)
            case "agent_thought_chunk":
                return _say("reasoning.delta", update)
            case "tool_call" | "tool_call_update":
                return self._read_call(update)
            case "plan":
                return [Said("data", {"name": "plan", "value": update.get("entries")})]
        return []

    def begin(self, call: dict[str, Any]) -> list[Said]:
        """A call of which something is asked: say it, if it was not said."""
        call_id = call.get("toolCallId")
        return self._begin(call_id, call) if isinstance(call_id, str) else []

    def finish(self) -> list[Said]:
        """Calls that never began to work, and were announced."""
        return [said for call_id in list(self._calls) for said in self._begin(call_id, {})]

    def _read_call(self, update: dict[str, Any]) -> list[Said]:
        call_id = update.get("toolCallId")
        if not isinstance(call_id, str):
            return []
        self._note(call_id, update)
        status = self._calls[call_id].get("status")
        said = [] if status in _WAITING else self._begin(call_id, {})
        if status in _ENDED:
            output = {"tool_call_id": call_id, "output": _read_output(update), "is_error": status == "failed"}
            said.append(Said("tool.result", output))
            self._begun.discard(call_id)
            del self._calls[call_id]
        return said

    def _note(self, call_id: str, update: dict[str, Any]) -> None:
        if call_id not in self._calls and len(self._calls) >= MAX_OPEN:
            oldest = next(iter(self._calls))
            self._begun.discard(oldest)
            del self._calls[oldest]
        call = self._calls.setdefault(call_id, {})
        call.update({name: update[name] for name in _FIELDS if update.get(name) is not None})

    def _begin(self, call_id: str, more: dict[str, Any]) -> list[Said]:
        if call_id in self._begun:
            return []
        self._note(call_id, more)
        self._begun.add(call_id)
        call = self._calls[call_id]
        given = call.get("rawInput")
        told = given if isinstance(given, dict) else {} if given is None else {"input": given}
        name = call.get("kind")
        data = {
            "tool_call_id": call_id,
            "name": name if isinstance(name, str) else "other",
            "input": {"title": call.get("title"), **told},
        }
        return [Said("tool.call", data)]


def _say(type_: str, update: dict[str, Any]) -> list[Said]:
    text = _read_text(update.get("content"))
    return [Said(type_, {"text": text})] if text else []


def _read_text(content: Any) -> str:
    """The text of a content block; a link is its address, anything else is no text."""
    match content:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "resource_link", "uri": str(uri)}:
            return uri
    return ""


def _read_output(update: dict[str, Any]) -> Any:
    """What a tool returned, as the agent says it: raw, else what it would show."""
    if update.get("rawOutput") is not None:
        return update["rawOutput"]
    content = update.get("content")
    shown = [
        _read_text(item.get("content")) if item.get("type") == "content" else item
        for item in (content if isinstance(content, list) else [])
        if isinstance(item, dict)
    ]
    texts = [item for item in shown if isinstance(item, str)]
    return "".join(texts) if len(texts) == len(shown) else shown


def read_usage(result: dict[str, Any]) -> dict[str, int]:
    """What a turn has consumed, where its agent says so. Our input is all of it, with what was cached."""
    usage = result.get("usage")
    if not isinstance(usage, dict):
        return {}

    def read(name: str) -> int:
        value = usage.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else 0

    cached = read("cachedReadTokens")
    return {
        "input_tokens": read("inputTokens") + cached + read("cachedWriteTokens"),
        "output_tokens": read("outputTokens") + read("thoughtTokens"),
        "cached_tokens": cached,
    }
