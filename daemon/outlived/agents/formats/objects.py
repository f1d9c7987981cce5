"""What all formats have in common: each line is a JSON object of a type, or it fits nothing.

1. Whatever a line holds, reading it raises nothing but Malformed, and that ends in this file.
2. A malformed line is said as ``log``, of the stream ``stdout``; at the end one more ``log`` counts them and says
   what was wrong with the first.
3. Blank lines do not exist.
4. What is remembered has a bound, whatever was read.

Not here: what the objects of a format mean (a file each).
"""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
import msgspec

from outlive.errors import ParseError
from outlive.strict_json import decode
from outlived.agents import Said, Session
from outlived.agents.formats.steps import StepBook

T = TypeVar("T")

REASON_CHARS = 300
ERROR_CHARS = 1000
ID_CHARS = 100
MAX_CALLS = 16
COUNTED = "outlived"
"""The stream of the line that counts."""


class Malformed(Exception):
    """The line is no event of its format; the message says why."""


def parse_object(line: str) -> dict[str, Any]:
    """The JSON object on a line. Raises Malformed."""
    try:
        value = decode(line.encode())
    except ParseError as error:
        raise Malformed(error.message) from error
    except UnicodeEncodeError as error:
        raise Malformed("cannot read the line: it is not UTF-8") from error
    if not isinstance(value, dict):
        raise Malformed("cannot read the line: it is no JSON object")
    return value


def convert(value: Any, kind: type[T]) -> T:
    """A value as a class of msgspec's. Raises Malformed."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Malformed(str(error)) from error


@attrs.define
class Complaints:
    """How many lines fitted nothing, and what was wrong with the first."""

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


class ObjectLines:
    """A translator without its format: that is ``_read`` and, where it remembers more, ``_memory``."""

    def __init__(self, state: dict[str, Any], first_step: int, session: Session | None = None) -> None:
        self.error: dict[str, Any] | None = state.get("error")
        self.session = Session(*state["session"]) if state.get("session") else None
        self._given = session
        self._steps = StepBook.restore(state.get("steps"), first_step)
        self._complaints = Complaints(*state.get("complaints", ()))
        self._memory: dict[str, Any] = state.get("memory", {})

    @property
    def state(self) -> dict[str, Any]:
        return {
            "error": self.error,
            "session": None if self.session is None else [self.session.id, self.session.note],
            "steps": self._steps.state,
            "complaints": [self._complaints.lines, self._complaints.first],
            "memory": {**self._memory},
        }

    def read_line(self, line: str) -> list[Said]:
        if not line or line.isspace():
            return []
        try:
            return self._read(parse_object(line))
        except Malformed as error:
            return self._complaints.note(line, str(error))

    def refuse_line(self, line: str, reason: str) -> list[Said]:
        return self._complaints.note(line, reason)

    def finish(self) -> list[Said]:
        return self._complaints.count()

    def _read(self, event: dict[str, Any]) -> list[Said]:
        """What an object amounts to. Raises Malformed."""
        raise NotImplementedError

    # ---- for the formats of other people's programs

    def _note_session(self, name: Any) -> None:
        """The program has said which conversation this is. What is known of one that goes on stays known."""
        name = read_id(name)
        if self.session is None or self.session.id != name:
            given = self._given
            self.session = given if given is not None and given.id == name else Session(name)

    def _fail(self, what: str, message: Any) -> None:
        """The turn has failed, as the program says; the first reason stays."""
        if self.error is None:
            text = message if isinstance(message, str) and message else "it did not say why"
            self.error = {"code": "exception", "message": text[:ERROR_CHARS], "exception": what}

    def _speak(self, text: Any) -> list[Said]:
        """One whole message of the answer; a blank line is between two."""
        if not isinstance(text, str):
            raise Malformed("its text is no string")
        if not text:
            return []
        between = "\n\n" if self._memory.get("spoke") else ""
        self._memory["spoke"] = True
        return [Said("text.delta", {"text": between + text})]

    def _begin_step(self, name: str) -> Said:
        """A step begins; one of that name that is still open was cut."""
        self._steps.end(name)
        return Said("step.started", {"step": self._steps.begin(name), "name": name})

    def _end_step(self, name: str, usage: dict[str, int]) -> Said:
        """A step is done; if none is open, its usage is told all the same."""
        number = self._steps.end(name)
        if number is None:
            return Said("usage", usage)
        return Said("step.finished", {"step": number, "name": name, "usage": usage})

    def _call(self, call_id: str, name: str, given: Any) -> list[Said]:
        """A tool is called, unless that is known already."""
        calls = self._memory.get("calls", [])
        if call_id in calls:
            return []
        self._memory["calls"] = [*calls, call_id][-MAX_CALLS:]
        return [Said("tool.call", {"tool_call_id": call_id, "name": name, "input": given})]

    def _return(self, call_id: str, output: Any, *, is_error: bool) -> Said:
        """A tool has answered."""
        self._memory["calls"] = [known for known in self._memory.get("calls", []) if known != call_id]
        return Said("tool.result", {"tool_call_id": call_id, "output": output, "is_error": is_error})


def read_amount(value: Any) -> int:
    """A count of tokens; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else 0


def read_cost(value: Any) -> int | None:
    """Dollars as integer micro-dollars; None for what is no sum."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        return None
    return round(value * 1_000_000)


def read_object(value: Any) -> dict[str, Any]:
    """An object in an object; an empty one where it is none."""
    return value if isinstance(value, dict) else {}


def read_id(value: Any) -> str:
    """A name by which something is known. Raises Malformed."""
    if not isinstance(value, str) or not 0 < len(value) <= ID_CHARS or not value.isprintable():
        raise Malformed("it has no usable id")
    return value
