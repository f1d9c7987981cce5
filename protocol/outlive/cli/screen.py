"""The terminal: stdout for data, stderr for people.

1. Text is written as it came and at once; a line feed is added only at a terminal, before a sentence.
2. Colours and the status line are for a terminal that can show them; ``NO_COLOR`` turns the colours off.
3. A reader that went away (``| head -1``) ends the command quietly.

Not here: what objects look like as text (``render.py``), where the status line goes (``status.py``).
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TextIO

from outlive.cli.cursor import Cursor
from outlive.cli.layout import Paint, one_line, plain
from outlive.cli.status import Status, Words, columns_of
from outlive.strict_json import encode

_CANNOT_SHOW = {"", "dumb", "unknown"}


class Screen:
    """``farewell`` is said when Ctrl-C ends the command, with the exit code that goes with it."""

    def __init__(self) -> None:
        sys.stdout = self._out = _usable(sys.stdout)
        sys.stderr = self._err = _usable(sys.stderr)
        able = os.environ.get("TERM", "") not in _CANNOT_SHOW
        colours = able and not os.environ.get("NO_COLOR")
        self._terminals = {stream for stream in (self._out, self._err) if stream.isatty()}
        self._cursor = Cursor()
        self._dirty: TextIO | None = None  # the terminal whose line is open
        self.paint: Paint = paint if colours and self._out in self._terminals else plain
        self._paint_aside: Paint = paint if colours and self._err in self._terminals else plain
        both = able and self._terminals == {self._out, self._err}
        self._status = Status(partial(columns_of, self._out), self._cursor, self.paint) if both else None
        self.farewell: tuple[int, str] | None = None

    def text(self, text: str) -> None:
        """Write data as it is."""
        if text:
            self._write(self._out, text)

    def line(self, text: str) -> None:
        """Write one line of data."""
        self.text(f"{text}\n")

    def value(self, value: object) -> None:
        """Write one JSON value on a line of its own."""
        self.line(encode(value).decode())

    def say(self, sentence: str, style: str = "") -> None:
        """Tell a person something."""
        self.finish_line()
        self._mention(self._paint_aside(f"outlive: {one_line(sentence).strip()}", style) + "\n")

    def murmur(self, text: str) -> None:
        """Pass on what is beside the point, as it is; nobody may be listening there."""
        if text:
            self._mention(self._paint_aside(text, "dim"))

    def finish_line(self) -> None:
        """At a terminal, end a line that the text left open."""
        if self._dirty is not None:
            self._write(self._dirty, "\n")

    def has_reader(self) -> bool:
        """Whether a person is probably reading stderr."""
        return self._err in self._terminals

    def width(self) -> int | None:
        """How many columns a line of data may have; None where nobody looks."""
        return shutil.get_terminal_size().columns if self._out in self._terminals else None

    def has_status(self) -> bool:
        """Whether there may be a status line."""
        return self._status is not None

    def show(self, words: Words | None) -> bool:
        """Begin to show a status line, or end it. False where there can be none."""
        if self._status is None:
            return False
        self._status.words = words
        self.tick()
        return True

    def tick(self) -> None:
        """Time has passed: the status line may have something else to say."""
        if self._status is not None and (change := self._status.tick()):
            self._out.write(change)
            self._out.flush()

    def break_off(self) -> None:
        """Ctrl-C was pressed, and the terminal has echoed it."""
        if self.has_reader():
            self._mention("\n")

    def abandon(self) -> None:
        """The reader of stdout is gone: let nothing be flushed to it at exit."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._out.fileno())
        os.close(null)

    def _mention(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._write(self._err, text)

    def _write(self, stream: TextIO, text: str) -> None:
        if stream in self._terminals:
            if self._status is None:
                self._cursor.feed(text)
            else:
                text = self._status.around(text)
            self._dirty = None if self._cursor.at_start else stream
        stream.write(text)
        stream.flush()


def paint(text: str, style: str) -> str:
    """The text with the codes of a style around it."""
    if not style:
        return text
    from rich.color import ColorSystem  # late: only terminals need it
    from rich.style import Style

    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def _usable(stream: TextIO | None) -> TextIO:
    """A stream that exists even if the caller closed it, and that takes every character."""
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="replace", newline="\n")
    return stream
