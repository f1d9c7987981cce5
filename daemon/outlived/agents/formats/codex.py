"""``codex``: what ``codex exec --json`` prints. Tried with 0.171; the recordings are in ``tests/agents/formats``.

1. ``agent_message`` is the answer, ``reasoning`` is thought; every other item is a tool: its call when it starts, its
   result when it is completed. A ``todo_list`` is shown as data. An ``error`` item is a warning: a line of the log.
2. A turn is one step, named ``turn``.
3. Usage counts from the beginning of the thread: a turn's own is the difference to what its session had before.
4. ``turn.failed`` is the turn's error; the program then exits with status 1.

Not here: how a thread is gone on with (``sessions.py``).
"""

from __future__ import annotations

from typing import Any

from outlived.agents import Said, Session
from outlived.agents.formats.objects import Malformed, ObjectLines, read_amount, read_id, read_object

_RESULTS = frozenset({"aggregated_output", "exit_code", "status", "result", "error"})
"""Fields of an item that are there only once it is completed."""
_FAILED = ("failed", "declined")
_TOKENS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_input_tokens": "cached_tokens",
}


class CodexLines(ObjectLines):
    """The translator."""

    def _read(self, event: dict[str, Any]) -> list[Said]:
        match event.get("type"):
            case "thread.started":
                self._note_session(event.get("thread_id"))
                return []
            case "turn.started":
                return [self._begin_step("turn")]
            case "turn.completed":
                return [self._end_step("turn", self._count(read_object(event.get("usage"))))]
            case "turn.failed":
                self._fail("turn.failed", read_object(event.get("error")).get("message"))
                return []
            case "error":
                return [Said("log", {"stream": "codex", "text": f"{event.get('message')}\n"})]
            case "item.started" | "item.updated" | "item.completed" as stage:
                item = event.get("item")
                if isinstance(item, dict):
                    return self._read_item(item, done=stage == "item.completed")
        raise Malformed(f"{str(event.get('type'))[:100]!r} is no event that is known of codex")

    def _read_item(self, item: dict[str, Any], *, done: bool) -> list[Said]:
        kind = read_id(item.get("type"))
        if kind in {"agent_message", "reasoning", "error"}:
            return self._read_saying(kind, item) if done else []
        if kind == "todo_list":
            return [Said("data", {"name": "todo_list", "value": item.get("items")})]
        call_id = read_id(item.get("id"))
        given = {
            name: value for name, value in item.items() if name not in _RESULTS and name not in {"id", "type"}
        }
        said = self._call(call_id, kind, given)
        if done:
            result = {
                name: item[name] for name in _RESULTS if name != "status" and item.get(name) is not None
            }
            failed = item.get("status") in _FAILED or item.get("error") is not None
            said.append(self._return(call_id, dict(sorted(result.items())), is_error=failed))
        return said

    def _read_saying(self, kind: str, item: dict[str, Any]) -> list[Said]:
        text = item.get("message" if kind == "error" else "text")
        if not isinstance(text, str):
            raise Malformed(f"its {kind} has no text")
        if kind == "agent_message":
            return self._speak(text)
        if kind == "reasoning":
            return [Said("reasoning.delta", {"text": text})]
        return [Said("log", {"stream": "codex", "text": text + "\n"})]

    def _count(self, totals: dict[str, Any]) -> dict[str, int]:
        """What this turn has used, of what its thread has used in all."""
        now = {ours: read_amount(totals.get(theirs)) for theirs, ours in _TOKENS.items()}
        before: dict[str, int] = read_object(self.session.note.get("used")) if self.session else {}
        if any(now[name] < before.get(name, 0) for name in now):
            before = {}  # it counts anew
        if self.session is not None:
            self.session = Session(self.session.id, {"used": now})
        return {name: amount - before.get(name, 0) for name, amount in now.items()}
