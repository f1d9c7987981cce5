"""The status line: one line below the output of a run, as long as it is followed at a terminal.

1. It is erased before anything else is written and painted again after it, in the same write; when it is gone, the
   terminal shows what it would have shown without it.
2. It is painted only where the cursor's place is certain (``cursor.py``), and only in the foreground.
3. The cursor stays at the end of the output, so that erasing means "from the cursor on", whatever the terminal's size is
   by then. It is never hidden: a client that is killed leaves a terminal as it should be.

rich's own live display is not used: it counts in whole lines, and would write over a line that is still open.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TextIO, TypeAlias

import anyio

from outlive.cli.cursor import Cursor
from outlive.cli.layout import Paint, fit, one_line

if TYPE_CHECKING:
    from outlive.cli.screen import Screen

Words: TypeAlias = Callable[[], str]

_ERASE = "\x1b[J"
_MAKE_ROOM_BELOW = "\x1bD\x1b[A"
_KEEP, _BACK = "\x1b7", "\x1b8"
_GO_BELOW = "\x1b[B\r"
_NO_COLOUR = "\x1b[0m"
_TICK_SECONDS = 0.2
_LEAST_SECONDS = 0.05  # between two paintings: a flood of text is not to be slowed down
_FEWEST_ROWS = 3
_FEWEST_COLUMNS = 20


class Status:
    """What is painted now. ``words`` is what it is to say; None: nothing. ``columns``: see ``columns_of``."""

    def __init__(self, columns: Callable[[], int | None], cursor: Cursor, paint: Paint) -> None:
        self._columns = columns
        self._cursor = cursor
        self._paint = paint
        self._shown = ""
        self._painted_at = 0.0
        self.words: Words | None = None

    def around(self, text: str) -> str:
        """What to write in order to write ``text``."""
        erased = self._erase()
        self._cursor.feed(text)
        if self.words is None or time.monotonic() - self._painted_at < _LEAST_SECONDS:
            return erased + text
        return erased + text + self._show()

    def tick(self) -> str:
        """What to write because time has passed."""
        return "" if self._shown and self._shown == self._line() else self._erase() + self._show()

    def _erase(self) -> str:
        erase = _ERASE if self._shown else ""
        self._shown = ""
        return erase

    def _show(self) -> str:
        self._shown = self._line()
        if not self._shown:
            return ""
        self._painted_at = time.monotonic()
        painted = f"{_NO_COLOUR}{self._paint(self._shown, 'dim')}{_BACK}"
        if self._cursor.at_start:
            return f"{_KEEP}{painted}"
        return f"{_MAKE_ROOM_BELOW}{_KEEP}{_GO_BELOW}{painted}"

    def _line(self) -> str:
        """What may be shown at this moment, perhaps nothing."""
        columns = None if self.words is None else self._columns()
        if self.words is None or columns is None or not self._cursor.may_paint(columns):
            return ""
        return fit(f" {one_line(self.words())}", columns - 1).rstrip()


def columns_of(terminal: TextIO) -> int | None:
    """How many columns there are now for a status line; None while there can be none."""
    try:
        columns, rows = os.get_terminal_size(terminal.fileno())
        foreground = os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return None
    return columns if foreground and rows >= _FEWEST_ROWS and columns >= _FEWEST_COLUMNS else None


@asynccontextmanager
async def status(screen: Screen, words: Words) -> AsyncIterator[None]:
    """Show ``words`` below the output, at a terminal, until the end of the block."""
    if not screen.show(words):
        yield
        return
    try:
        async with anyio.create_task_group() as ticking:
            ticking.start_soon(_tick, screen)
            try:
                yield
            finally:
                ticking.cancel_scope.cancel()
    except ExceptionGroup as group:  # the group is ours, the error its block's
        raise group.exceptions[0] from None
    finally:
        screen.show(None)


async def _tick(screen: Screen) -> None:
    while True:
        await anyio.sleep(_TICK_SECONDS)
        screen.tick()
