"""What a stream of bytes says: pure, from bytes to events, however the bytes were cut.

1. A reader holds back what is not complete (half a character, half a line); ``held`` bytes are read again by whoever
   goes on after us, so an offset is always that of something complete.
2. Nothing depends on the cuts: the same bytes make the same text, and the same lines the same events.
3. What a reader has to remember beyond that is ``state``; it is durable with the offset.

Not here: reading files (``follow.py``), what a line means (``formats``).
"""

from __future__ import annotations

import codecs
from typing import Any, Protocol

import attrs

from outlived.agents import Said, Session
from outlived.agents.formats import Translator, open_translator

LINE_BYTES = 1 << 20
SHOWN_BYTES = 2000


def open_reader(
    format_: str, state: dict[str, Any] | None, *, first_step: int, session: Session | None = None
) -> Reader:
    """The reader of a command's stdout, at its beginning or with the ``state`` of one before."""
    if format_ == "text":
        return TextReader("text.delta")
    state = state or {}
    translator = open_translator(format_, state.get("translator"), first_step=first_step, session=session)
    return LineReader(translator, skipping=bool(state.get("skipping")))


class Reader(Protocol):
    """Reads one stream."""

    @property
    def held(self) -> int:
        """Bytes that were given and not used yet."""

    @property
    def state(self) -> dict[str, Any] | None:
        """What it remembers."""

    @property
    def error(self) -> dict[str, Any] | None:
        """How the turn failed, if the program itself has said so."""

    @property
    def session(self) -> Session | None:
        """What the program calls its conversation, if it has said so."""

    def read(self, chunk: bytes) -> list[Said]:
        """What these bytes say, after those before."""

    def finish(self) -> list[Said]:
        """What is left at the end."""


class TextReader:
    """Bytes as they are: invalid UTF-8 becomes U+FFFD. ``type_`` and ``data``: the event whose text it is."""

    state = None
    error = None
    session = None

    def __init__(self, type_: str, **data: str) -> None:
        self._type = type_
        self._data = data
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def held(self) -> int:
        return len(self._decoder.getstate()[0])

    def read(self, chunk: bytes) -> list[Said]:
        return self._say(self._decoder.decode(chunk))

    def finish(self) -> list[Said]:
        return self._say(self._decoder.decode(b"", final=True))

    def _say(self, text: str) -> list[Said]:
        return [Said(self._type, {**self._data, "text": text})] if text else []


@attrs.define(eq=False)
class LineReader:
    """Lines, each translated. Of one that is longer than ``LINE_BYTES`` the beginning is shown, as malformed."""

    translator: Translator
    _skipping: bool = False
    _rest: bytearray = attrs.field(factory=bytearray, init=False)

    @property
    def held(self) -> int:
        return len(self._rest)

    @property
    def state(self) -> dict[str, Any]:
        return {"skipping": self._skipping, "translator": self.translator.state}

    @property
    def error(self) -> dict[str, Any] | None:
        return self.translator.error

    @property
    def session(self) -> Session | None:
        return self.translator.session

    def read(self, chunk: bytes) -> list[Said]:
        said: list[Said] = []
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            said += self._end_line(line)
        self._rest += rest
        if self._skipping:
            self._rest.clear()
        elif len(self._rest) > LINE_BYTES:
            said += self._translate(bytes(self._rest))
            self._rest.clear()
            self._skipping = True
        return said

    def finish(self) -> list[Said]:
        last = self._end_line(b"") if self._rest else []
        return last + self.translator.finish()

    def _end_line(self, end: bytes) -> list[Said]:
        line, skipped = bytes(self._rest) + end, self._skipping
        self._rest.clear()
        self._skipping = False
        return [] if skipped else self._translate(line)

    def _translate(self, line: bytes) -> list[Said]:
        if len(line) > LINE_BYTES:
            shown = line[:SHOWN_BYTES].decode(errors="replace")
            return self.translator.refuse_line(shown, f"it is longer than {LINE_BYTES} bytes")
        return self.translator.read_line(line.decode(errors="replace"))
