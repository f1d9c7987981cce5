"""``jsonl``: every line of stdout is one event, ``{"type": "text.delta", "text": "Hello"}``.

1. The types are those of the protocol that an agent may cause, and no others; a type has its fields and no others;
   nothing is coerced. What breaks this is *malformed*: ``run.settled`` as well as a line of plain text.
2. ``step.started`` and ``step.finished`` name a step; ``step``, the program's own number for it, tells apart steps of
   one name that are open at once. The log gets the daemon's number.

Not here: what becomes of malformed lines (``objects.py``), what a program is told on its stdin (``stdin.py``), the data of events on the wire (``outlive/events.py``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from outlived.agents import Said
from outlived.agents.formats.objects import ERROR_CHARS, ID_CHARS, Malformed, ObjectLines, convert
from outlived.agents.formats.steps import NAME_CHARS

MAX_AMOUNT = 2**53 - 1

Name = Annotated[str, Meta(min_length=1, max_length=1000)]
StepName = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS)]
OwnNumber = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
Amount = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]


class TextDelta(Struct, tag_field="type", tag="text.delta", forbid_unknown_fields=True, frozen=True):
    """The answer grows."""

    text: str


class ReasoningDelta(
    Struct, tag_field="type", tag="reasoning.delta", forbid_unknown_fields=True, frozen=True
):
    """The agent thinks aloud."""

    text: str


class UsageAmounts(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """What was consumed since the last report."""

    input_tokens: Amount | None = None
    output_tokens: Amount | None = None
    cached_tokens: Amount | None = None
    cost_micro_usd: Amount | None = None


class UsageReport(UsageAmounts, tag_field="type", tag="usage", forbid_unknown_fields=True, frozen=True):
    """The same, by itself."""


class StepStarted(Struct, tag_field="type", tag="step.started", forbid_unknown_fields=True, frozen=True):
    """A step begins."""

    name: StepName
    step: OwnNumber | None = None


class StepFinished(Struct, tag_field="type", tag="step.finished", forbid_unknown_fields=True, frozen=True):
    """A step that has begun is done."""

    name: StepName
    step: OwnNumber | None = None
    usage: UsageAmounts | None = None


class ToolCall(Struct, tag_field="type", tag="tool.call", forbid_unknown_fields=True, frozen=True):
    """The agent calls a tool."""

    tool_call_id: Name
    name: Name
    input: Any


class ToolResult(Struct, tag_field="type", tag="tool.result", forbid_unknown_fields=True, frozen=True):
    """A tool has answered."""

    tool_call_id: Name
    output: Any
    is_error: bool = False


class Log(Struct, tag_field="type", tag="log", forbid_unknown_fields=True, frozen=True):
    """Something that is no part of the answer."""

    text: str
    stream: Name = "log"


class Data(Struct, tag_field="type", tag="data", forbid_unknown_fields=True, frozen=True):
    """The agent shows a value."""

    name: Name
    value: Any


Line: TypeAlias = (
    TextDelta | ReasoningDelta | UsageReport | StepStarted | StepFinished | ToolCall | ToolResult | Log | Data
)


class Failed(Struct, tag_field="type", tag="failed", forbid_unknown_fields=True, frozen=True):
    """What ``python -m outlive.agent --tell`` says when its agent has failed."""

    code: Literal["agent_unavailable", "exception"]
    message: Annotated[str, Meta(max_length=5000)]
    exception: Name


class JsonLines(ObjectLines):
    """The translator. It has no session and no error of its own: its exit status says how it ended."""

    def _read(self, event: dict[str, Any]) -> list[Said]:
        return self._tell(convert(event, Line))  # type: ignore[arg-type]

    def _tell(self, event: Line) -> list[Said]:
        match event:
            case TextDelta(text=""):
                return []
            case StepStarted(name=name, step=step):
                return [Said("step.started", {"step": self._begin(name, step), "name": name})]
            case StepFinished(name=name, step=step, usage=usage):
                data: dict[str, Any] = {"step": self._end(name, step), "name": name}
                if usage is not None:
                    data["usage"] = _list_known(usage)
                return [Said("step.finished", data)]
            case UsageReport():
                return [Said("usage", _list_known(event))]
        data = msgspec.structs.asdict(event)
        return [Said(str(event.__struct_config__.tag), data)]

    def _begin(self, name: str, step: int | None) -> int:
        number = self._steps.begin(name if step is None else step)
        if number is None:
            raise Malformed(f"step {name!r} is open already, or too many are")
        return number

    def _end(self, name: str, step: int | None) -> int:
        number = self._steps.end(name if step is None else step)
        if number is None:
            raise Malformed(f"no step {name!r} is open")
        return number


def _list_known(amounts: UsageAmounts) -> dict[str, int]:
    return {name: amount for name, amount in msgspec.structs.asdict(amounts).items() if amount is not None}


class PythonLines(JsonLines):
    """``python``: the same from our own runner, which also says how its agent failed."""

    def _read(self, event: dict[str, Any]) -> list[Said]:
        if event.get("type") != "failed":
            return super()._read(event)
        failed = convert(event, Failed)
        self.error = {"code": failed.code, "message": failed.message[:ERROR_CHARS]}
        if failed.code == "exception":
            self.error["exception"] = failed.exception[:ID_CHARS]
        return []
