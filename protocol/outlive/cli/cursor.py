"""Where the cursor of a terminal is, as far as the text that was written tells.

1. After a line feed it is at the start of a line, whatever came before.
2. On an open line it is known only as long as everything on the line is of known width: a colour has none, a control
   character makes the place unknown until the next line feed.
3. Text that moves the cursor by itself (anything but colours) draws a picture: nobody else may draw in it any more.

Not here: what is painted where (``status.py``).
"""

from __future__ import annotations

import re
import unicodedata

from outlive.cli.layout import cells

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_BEGUN_COLOUR = re.compile(r"\x1b(\[[0-9;:]{0,32})?\Z")
_DOUBTFUL = {"So", "Sk", "Mn", "Me", "Mc", "Cn", "Co"}
_MOVES = re.compile(r"[\x00-\x06\x08\x0b\x0c\x0e-\x1f\x80-\x9f]")


class Cursor:
    """Feed it everything that is written. ``draws`` is rule 3."""

    def __init__(self) -> None:
        self.at_start = True
        self.draws = False
        self._cells: int | None = 0
        self._wide = False
        self._doubtful = 0  # cells by which terminals may disagree: emoji, combining characters, unknown ones
        self._begun = ""  # an escape sequence whose rest is still to come

    def feed(self, text: str) -> None:
        """Follow what this text does."""
        text = self._begun + text
        begun = _BEGUN_COLOUR.search(text)
        self._begun = begun.group() if begun else ""
        text = _COLOUR.sub("", text.removesuffix(self._begun))
        self.draws = self.draws or _MOVES.search(text) is not None
        _, ended, rest = text.rpartition("\n")
        if ended:
            self.at_start, self._cells, self._wide, self._doubtful = True, 0, False, 0
        if rest:
            self.at_start = False
            self._add(rest)

    def may_paint(self, columns: int) -> bool:
        """Whether a line may be painted at the cursor or below its line, and erased from the cursor on.

        At the right margin it may not: the cursor may be waiting there to wrap, which every movement forgets.
        """
        if self.draws or self._begun or self._cells is None:
            return False
        if self.at_start:
            return True
        # A wide character does not fit the last cell of a row.
        cut_short = self._cells // columns if self._wide else 0
        least, most = self._cells - self._doubtful, self._cells + self._doubtful + cut_short
        return least // columns == most // columns and least % columns > 0 and most % columns < columns - 1

    def _add(self, text: str) -> None:
        if self._cells is None or not text.isprintable():
            self._cells = None
            return
        self._cells += cells(text)
        if not text.isascii():
            self._wide = True
            self._doubtful += 2 * sum(unicodedata.category(character) in _DOUBTFUL for character in text)
