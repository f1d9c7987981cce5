"""How a run's events become its assistant message: content and parts, one event at a time.

1. ``content`` is the concatenation of the ``text.delta`` texts, cut at ``limit`` bytes of UTF-8, at a
   character; from then on ``truncated`` is true and nothing more is added. The log keeps all.
2. ``parts`` follow the AI SDK's UIMessage form: neighbouring text becomes one part, so does neighbouring
   reasoning; a tool call becomes one part whose state its result changes; data becomes a ``data-NAME`` part. Where a step
   begins there is a ``step-start``, but not where there is nothing before it to be told apart from.
3. A draft remembers up to which event it is (``as_of_seq``); a stored draft plus the later events gives the
   same draft as all events from the beginning.

Not here: when a draft is stored (``journal/plan.py``), the message's status (the run's settlement).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import StringIO
from typing import Any

import attrs

from outlived.rules.run import Event

DEFAULT_LIMIT = 8 << 20

SHAPING = frozenset({"text.delta", "reasoning.delta", "tool.call", "tool.result", "data", "step.started"})
"""The event types that change a message; all others pass it by."""
FILLING = SHAPING - {"step.started"}
"""Those that add to what it holds: a mark alone is not worth a save."""


@attrs.define
class Prose:
    """A part that grows: ``kind`` is ``text`` or ``reasoning``."""

    kind: str
    text: StringIO

    def as_part(self) -> dict[str, Any]:
        return {"type": self.kind, "text": self.text.getvalue()}


@attrs.define
class Draft:
    """A message being written. ``size`` counts what its parts hold, in bytes, up to ``limit``."""

    limit: int = DEFAULT_LIMIT
    pieces: list[Prose | dict[str, Any]] = attrs.Factory(list)
    size: int = 0
    truncated: bool = False
    as_of_seq: int = 0

    def add(self, event: Event) -> None:
        """Take the next event of the log."""
        self.as_of_seq = event.seq
        if event.type in SHAPING and not self.truncated:
            _SHAPES[event.type](self, event.data)

    @property
    def parts(self) -> list[dict[str, Any]]:
        return [piece.as_part() if isinstance(piece, Prose) else piece for piece in self.pieces]

    def copy(self) -> Draft:
        """A draft that can be written on without changing this one."""
        return restore(self.parts, truncated=self.truncated, as_of_seq=self.as_of_seq, limit=self.limit)


def fold(events: Iterable[Event], limit: int = DEFAULT_LIMIT) -> list[dict[str, Any]]:
    """The parts that a log amounts to."""
    draft = Draft(limit)
    for event in events:
        draft.add(event)
    return draft.parts


def read_content(parts: list[dict[str, Any]]) -> str:
    """The text of a message with these parts."""
    return "".join(part["text"] for part in parts if part["type"] == "text")


def restore(
    parts: list[dict[str, Any]], *, truncated: bool, as_of_seq: int, limit: int = DEFAULT_LIMIT
) -> Draft:
    """The draft that was stored with these parts."""
    draft = Draft(limit, [], sum(_size_of(part) for part in parts), truncated, as_of_seq)
    for part in parts:
        prose = part["type"] in {"text", "reasoning"}
        draft.pieces.append(_open_prose(part["type"], part["text"]) if prose else part)
    return draft


def _open_prose(kind: str, text: str) -> Prose:
    buffer = StringIO()
    buffer.write(text)
    return Prose(kind, buffer)


def _size_of(part: dict[str, Any]) -> int:
    if part["type"] in {"text", "reasoning"}:
        return len(part["text"].encode())
    return len(json.dumps(part, ensure_ascii=False).encode())


def _write(value: Any) -> str:
    """Text as it is, anything else as its JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fit(draft: Draft, text: str) -> str:
    """As much of ``text`` as the message may still hold."""
    raw = text.encode()
    room = max(draft.limit - draft.size, 0)  # a stored draft may be from under a larger limit
    if len(raw) > room:
        draft.truncated = True
        raw = raw[:room]
        text = raw.decode(errors="ignore")
    draft.size += len(raw)
    return text


def _add_prose(draft: Draft, kind: str, text: str) -> None:
    text = _fit(draft, text)
    last = draft.pieces[-1] if draft.pieces else None
    if isinstance(last, Prose) and last.kind == kind:
        last.text.write(text)
    elif text:
        draft.pieces.append(_open_prose(kind, text))


def _add_text(draft: Draft, data: dict[str, Any]) -> None:
    _add_prose(draft, "text", data["text"])


def _add_reasoning(draft: Draft, data: dict[str, Any]) -> None:
    _add_prose(draft, "reasoning", data["text"])


def _add_part(draft: Draft, part: dict[str, Any]) -> None:
    size = _size_of(part)
    if draft.size + size > draft.limit:
        draft.truncated = True
        return
    draft.size += size
    draft.pieces.append(part)


def _add_tool_call(draft: Draft, data: dict[str, Any]) -> None:
    call = {"toolCallId": data["tool_call_id"], "state": "input-available", "input": data["input"]}
    _add_part(draft, {"type": f"tool-{data['name']}", **call})


def _add_tool_result(draft: Draft, data: dict[str, Any]) -> None:
    """Complete the newest call of that id; a result nobody called for is in the log only."""
    for index in range(len(draft.pieces) - 1, -1, -1):
        piece = draft.pieces[index]
        if isinstance(piece, Prose) or piece.get("toolCallId") != data["tool_call_id"]:
            continue
        output = {"state": "output-available", "output": data["output"]}
        if data.get("is_error"):
            output = {"state": "output-error", "errorText": _write(data["output"])}
        done = {**piece, **output}
        grown = _size_of(done) - _size_of(piece)
        if draft.size + grown > draft.limit:
            draft.truncated = True
            return
        draft.size += grown
        draft.pieces[index] = done
        return


def _add_data(draft: Draft, data: dict[str, Any]) -> None:
    _add_part(draft, {"type": f"data-{data['name']}", "data": data["value"]})


def _add_step(draft: Draft, _data: dict[str, Any]) -> None:
    last = draft.pieces[-1] if draft.pieces else _STEP_START
    if last != _STEP_START:
        _add_part(draft, dict(_STEP_START))


_STEP_START = {"type": "step-start"}
_SHAPES = {
    "text.delta": _add_text,
    "reasoning.delta": _add_reasoning,
    "tool.call": _add_tool_call,
    "tool.result": _add_tool_result,
    "data": _add_data,
    "step.started": _add_step,
}
