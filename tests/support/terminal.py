"""A terminal with somebody in front of it: a real pseudo-terminal, and a screen that shows what a person would see."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Self

import pexpect
import pyte

DEADLINE_SECONDS = 20.0
CTRL_C = "\x03"


class Screen:
    """What is seen after everything that was written. ``raw`` is all of that."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)
        self.raw = ""

    def write(self, text: str) -> None:
        self.raw += text
        self._stream.feed(text)

    def flush(self) -> None:
        """There is nothing to flush; pexpect wants a file."""

    def rows(self) -> list[str]:
        """The lines that are not empty, from the top."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def cursor(self) -> tuple[int, int]:
        """Column and row."""
        return self._screen.cursor.x, self._screen.cursor.y


class Terminal:
    """``with Terminal(argv, environment) as terminal``: a program in a pseudo-terminal of its own; killed at the end."""

    def __init__(
        self, argv: Sequence[str], environment: dict[str, str], columns: int = 80, rows: int = 24
    ) -> None:
        self.screen = Screen(columns, rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside the threads of other tests
            self._child: pexpect.spawn[str] = pexpect.spawn(
                argv[0],
                list(argv[1:]),
                env={"TERM": "xterm-256color", **environment},
                dimensions=(rows, columns),
                encoding="utf-8",
                codec_errors="replace",
                timeout=DEADLINE_SECONDS,
            )
        self._child.logfile_read = self.screen
        self._child.delaybeforesend = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close(force=True)

    def type(self, text: str) -> None:
        """Press keys."""
        self._child.send(text)

    def wait_for(self, text: str) -> None:
        """Return when the text has been written since the last time."""
        self._child.expect_exact(text)

    def wait_shown(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Return the screen's lines once they fulfil the condition."""
        while not condition(self.screen.rows()):
            try:
                self._child.expect(r"[\s\S]+")
            except (pexpect.TIMEOUT, pexpect.EOF) as error:
                shown = "\n".join(self.screen.rows())
                raise AssertionError(
                    f"in vain ({type(error).__name__}); the screen shows:\n{shown}"
                ) from None
        return self.screen.rows()

    def wait_end(self) -> int:
        """The exit status, once everything that was written has been read; a signal counts from 128."""
        self._child.expect(pexpect.EOF)
        self._child.wait()
        if self._child.signalstatus is not None:
            return 128 + self._child.signalstatus
        return self._child.exitstatus
