"""What a program's output means: lines of its stdout in, events out. One small pure file per format.

1. A translator does no I/O, knows no time and never raises, whatever it is given.
2. All that it remembers between two lines is its ``state``: JSON, below 16 KiB, whatever was read. Stored with the
   events of the lines before, it lets another daemon go on with the next line (``open_translator(format, state)``).
3. A line that is no event of its format is said as it is, as ``log`` of the stream ``stdout``, and counted.
4. No line can settle its run, or say anything that only a daemon says.
5. Steps are numbered by the translator: see ``steps.py``.

Not here: cutting bytes into lines, and how long a line may be (``agents/command.py``); how large an event's data
may be, and making it storable (``supervisor/desk.py``). ``text`` has no translator: it is passed on byte for byte.
"""

from __future__ import annotations

from typing import Any, Protocol

from outlived.agents import Said, Session
from outlived.agents.formats.claude import ClaudeLines
from outlived.agents.formats.codex import CodexLines
from outlived.agents.formats.jsonl import JsonLines, PythonLines
from outlived.agents.formats.objects import ObjectLines
from outlived.agents.formats.opencode import OpencodeLines
from outlived.agents.formats.steps import FIRST_STEP


class Translator(Protocol):
    """One program's output so far."""

    def read_line(self, line: str) -> list[Said]:
        """What a line of stdout, without its newline, amounts to."""

    def refuse_line(self, line: str, reason: str) -> list[Said]:
        """Say a line, or as much of it as there is, that cannot be read at all: one that is too long."""

    def finish(self) -> list[Said]:
        """What is left to say once there is no more output, however the program ended."""

    @property
    def state(self) -> dict[str, Any]:
        """All that is remembered: JSON, a new object each time."""

    @property
    def error(self) -> dict[str, Any] | None:
        """How the turn failed, as an error of the wire, if the program has said so."""

    @property
    def session(self) -> Session | None:
        """The program's own name for the conversation, once it has said it: by it a next turn goes on."""


def open_translator(
    format: str,  # noqa: A002 - the configuration's word
    state: dict[str, Any] | None = None,
    *,
    first_step: int = FIRST_STEP,
    session: Session | None = None,
) -> Translator:
    """The translator of a format, at its beginning or with a ``state`` of earlier.

    ``first_step``: the number of the program's first step; in a next attempt the one after those that are done.
    ``session``: the conversation that the program was told to go on with.
    """
    return _TRANSLATORS[format](state or {}, first_step, session)


def explain_end(error: dict[str, Any] | None, said: dict[str, Any] | None) -> dict[str, Any] | None:
    """How the turn ended: by its exit status (``error``, None for 0), and by what the program ``said`` about it.

    Its own words explain an exit status, not a signal.
    """
    if error is None or said is None or error["code"] != "exit_status":
        return error or said
    return {**said, "exit_status": error["exit_status"]}


_TRANSLATORS: dict[str, type[ObjectLines]] = {
    "jsonl": JsonLines,
    "python": PythonLines,
    "codex": CodexLines,
    "opencode": OpencodeLines,
    "claude": ClaudeLines,
}
FORMATS = ("text", *_TRANSLATORS)
