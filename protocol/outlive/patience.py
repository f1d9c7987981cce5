"""Trying again after a lost connection: how long, how often, and who is told.

1. The patience is counted from the first failure after the last progress; at its end the last error is raised.
   Progress is something received, or a connection that held for a while: a daemon that accepts and closes is none.
2. Only what may be repeated is tried again: a lost connection, and errors that call themselves retryable.

Not here: what is repeated, and why that is safe (``client.py``, ``tail.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import anyio

from outlive.connection import ConnectionLost
from outlive.errors import OutliveError

Notice: TypeAlias = Callable[[str], None]

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_A_WHILE_SECONDS = 5.0


class Patience:
    """``seconds`` of trying again; ``notice`` receives sentences for people. One per call or tail."""

    def __init__(self, seconds: float, notice: Notice | None) -> None:
        self._seconds = seconds
        self._notice = notice
        self._deadline: float | None = None
        self._pause = _FIRST_PAUSE_SECONDS
        self._resumed_at = 0.0
        self._in_trouble = False

    async def wait(self, error: ConnectionLost | OutliveError) -> None:
        """Pause before the next attempt. Raises ``error`` when it is final or the patience is at its end."""
        if isinstance(error, OutliveError) and not error.retryable:
            raise error
        now = anyio.current_time()
        if self._deadline is None or now - self._resumed_at > _A_WHILE_SECONDS:
            self._deadline = now + self._seconds
            self._pause = _FIRST_PAUSE_SECONDS
        if now + self._pause > self._deadline:
            raise error
        if not self._in_trouble:
            self._in_trouble = True
            self._say(f"{error}; trying again for {self._deadline - now:.0f} s")
        await anyio.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._resumed_at = anyio.current_time()

    def connected(self, sentence: str) -> None:
        """If somebody was told of trouble, tell them ``sentence``."""
        if self._in_trouble:
            self._in_trouble = False
            self._say(sentence)

    def progress(self) -> None:
        """Something was received: the patience is whole again."""
        self._deadline = None

    def _say(self, sentence: str) -> None:
        if self._notice is not None:
            self._notice(sentence)
