"""Numbers for the steps that a program tells of.

1. The program names its steps; the daemon numbers them, in the order of their beginnings, without a gap.
2. They begin at 1, or after those that an earlier attempt has finished: a command whose output has a format is no step
   itself.
3. A step is known by the number that the program itself gives it, if it gives one, else by its name. Only a step
   that is open can be finished; the same one is not begun twice while it is open; only so many are open at once.

Not here: whether a step is done in all attempts (``supervisor/steps.py``): what these return is not kept.
"""

from __future__ import annotations

from typing import Any

import attrs

FIRST_STEP = 1
MAX_OPEN = 16
NAME_CHARS = 100

Key = str | int


@attrs.define
class StepBook:
    """The steps of one program. ``_open``: keys and numbers of those that have begun, oldest first."""

    _next: int = FIRST_STEP
    _open: list[tuple[Key, int]] = attrs.Factory(list)

    @classmethod
    def restore(cls, state: dict[str, Any] | None, first_step: int) -> StepBook:
        """The book that ``state`` was made from; a new one where there is none."""
        if state is None:
            return cls(first_step)
        return cls(state["next"], [(key, number) for key, number in state["open"]])

    @property
    def state(self) -> dict[str, Any]:
        return {"next": self._next, "open": [[key, number] for key, number in self._open]}

    def begin(self, key: Key) -> int | None:
        """The number of a step that begins; None if it cannot."""
        if len(self._open) >= MAX_OPEN or any(open_key == key for open_key, _ in self._open):
            return None
        number, self._next = self._next, self._next + 1
        self._open.append((key, number))
        return number

    def end(self, key: Key) -> int | None:
        """The number of a step that is done; None if it is not open."""
        for index, (open_key, number) in enumerate(self._open):
            if open_key == key:
                del self._open[index]
                return number
        return None
