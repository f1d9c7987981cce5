"""The terminal: stdout for data, stderr for people.

1. Text is written as it came and at once; a line feed is added only at a terminal, before a sentence.
2. A reader that went away (``| head -1``) ends the command quietly.

Not here: what objects look like as text (``render.py``).
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path
from typing import TextIO

from outlive.strict_json import encode


class Screen:
    """``farewell`` is said when Ctrl-C ends the command, with the exit code that goes with it."""

    def __init__(self) -> None:
        sys.stdout = self._out = _usable(sys.stdout)
        sys.stderr = self._err = _usable(sys.stderr)
        self._open_line = False
        self.farewell: tuple[int, str] | None = None

    def text(self, text: str) -> None:
        """Write data as it is."""
        if text:
            self._out.write(text)
            self._out.flush()
            self._open_line = not text.endswith("\n")

    def line(self, text: str) -> None:
        """Write one line of data."""
        self.text(f"{text}\n")

    def value(self, value: object) -> None:
        """Write one JSON value on a line of its own."""
        self.line(encode(value).decode())

    def say(self, sentence: str) -> None:
        """Tell a person something."""
        self.finish_line()
        printable = "".join(character if character.isprintable() else " " for character in sentence)
        self.murmur(f"outlive: {printable.strip()}\n")

    def murmur(self, text: str) -> None:
        """Write to stderr as it is; nobody may be listening there."""
        try:
            self._err.write(text)
            self._err.flush()
        except OSError:
            pass

    def finish_line(self) -> None:
        """At a terminal, end a line that the text left open."""
        if self._open_line and self._out.isatty():
            self.line("")

    def has_reader(self) -> bool:
        """Whether a person is probably reading stderr."""
        return self._err.isatty()

    def width(self) -> int | None:
        """How many columns a line of data may have; None where nobody looks."""
        return shutil.get_terminal_size().columns if self._out.isatty() else None

    def abandon(self) -> None:
        """The reader of stdout is gone: let nothing be flushed to it at exit."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._out.fileno())
        os.close(null)


def _usable(stream: TextIO | None) -> TextIO:
    """A stream that exists even if the caller closed it, and that takes every character."""
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="replace", newline="\n")
    return stream
