"""Bytes to lines, without I/O.

1. A line ends with a newline; what has none at the end of the stream is not a line and is dropped.
2. Memory stays below the limit whatever arrives; the time is linear in the bytes however they are cut.
3. A line longer than the limit is reported once, as soon as the limit is passed, and skipped to its end.
4. Blank lines do not exist.

Not here: what a line says (``strict_json.py``, ``peer.py``).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias


class Overlong(Enum):
    """The type of the one marker that stands for a line which was too long."""

    OVERLONG = "overlong"


OVERLONG: Final = Overlong.OVERLONG
Line: TypeAlias = bytes | Overlong


class LineSplitter:
    """Feed it bytes as they come; ``limit`` counts a line's bytes without its newline."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[Line]:
        """Return the lines that ``data`` completes, in order, without their newlines."""
        *ended, rest = data.split(b"\n")
        lines: list[Line] = []
        for piece in ended:
            self._take(piece, lines)
            self._end(lines)
        self._take(rest, lines)
        return lines

    def finish(self) -> int:
        """The stream has ended: drop the unterminated rest and return its size in bytes."""
        dropped = len(self._held)
        self._held = bytearray()
        self._skipping = False
        return dropped

    def _take(self, piece: bytes, lines: list[Line]) -> None:
        if self._skipping:
            return
        if len(self._held) + len(piece) > self._limit:
            lines.append(OVERLONG)
            self._held = bytearray()
            self._skipping = True
            return
        self._held += piece

    def _end(self, lines: list[Line]) -> None:
        if self._held:
            line = bytes(self._held)
            self._held = bytearray()  # a new one: clear() would keep the memory of the longest line
            if not line.isspace():
                lines.append(line)
        self._skipping = False
