"""``jsonl``: every line of stdout is one event, ``{"type": "text.delta", "text": "Hello"}``.

1. The types are those of the protocol that an agent may cause, and no others; a type has its fields and no others;
   nothing is coerced. What breaks this is *malformed*: ``run.settled`` as well as a line of plain text.
2. A malformed line is said as ``log``, of the stream ``stdout``; at the end one more ``log`` counts them and says
   what was wrong with the first.
3. Blank lines do not exist.
4. ``step.started`` and ``step.finished`` name a step; ``step``, the program's own number for it, tells apart steps of
   one name that are open at once. The log gets the daemon's number.

Not here: what a program is told on its stdin (``stdin.py``), the data of events on the wire (``outlive/events.py``).
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import attrs
import msgspec
from msgspec import Meta, Struct

from outlive.errors import ParseError
from outlive.strict_json import decode
from outlived.agents import Said
from outlived.agents.formats.steps import NAME_CHARS, StepBook

MAX_AMOUNT = 2**53 - 1
REASON_CHARS = 300
COUNTED = "outlived"
"""The stream of the line that counts."""

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


class Malformed(Exception):
    """The line is no event; the message says why."""


def parse_line(line: str) -> Line:
    """The event on a line. Raises Malformed."""
    try:
        value = decode(line.encode())
        return msgspec.convert(value, Line)  # type: ignore[no-any-return]
    except ParseError as error:
        raise Malformed(error.message[:REASON_CHARS]) from error
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise Malformed(str(error)[:REASON_CHARS]) from error


@attrs.define
class Complaints:
    """How many lines fitted nothing, and what was wrong with the first: shared by all formats."""

    lines: int = 0
    first: str = ""

    def note(self, line: str, reason: str) -> list[Said]:
        """Say a line that fits nothing as it is."""
        if not self.lines:
            self.first = reason[:REASON_CHARS]
        self.lines += 1
        return [Said("log", {"stream": "stdout", "text": line + "\n"})]

    def count(self) -> list[Said]:
        """Say how many there were, if there were any."""
        if not self.lines:
            return []
        lines = "1 line" if self.lines == 1 else f"{self.lines} lines"
        text = f"{lines} of stdout that are no events; about the first: {self.first}\n"
        return [Said("log", {"stream": COUNTED, "text": text})]


class JsonLines:
    """The translator. It has no session and no error of its own: its exit status says how it ended."""

    error: dict[str, Any] | None = None
    session: str | None = None

    def __init__(self, state: dict[str, Any], first_step: int) -> None:
        self._steps = StepBook.restore(state.get("steps"), first_step)
        self._complaints = Complaints(*state.get("complaints", ()))

    @property
    def state(self) -> dict[str, Any]:
        return {"steps": self._steps.state, "complaints": [self._complaints.lines, self._complaints.first]}

    def read_line(self, line: str) -> list[Said]:
        if not line or line.isspace():
            return []
        try:
            return self._read(parse_line(line))
        except Malformed as error:
            return self._complaints.note(line, str(error))

    def refuse_line(self, line: str, reason: str) -> list[Said]:
        return self._complaints.note(line, reason)

    def finish(self) -> list[Said]:
        return self._complaints.count()

    def _read(self, event: Line) -> list[Said]:
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
