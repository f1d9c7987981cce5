"""A terminal with a shell in it, and a person before it who can wait, type and read.

A real pseudo-terminal and a real bash; what is on the screen is what a terminal emulator makes of the bytes, so that a line
which was drawn and wiped away again is not there.
"""

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte

from tests.support.waits import wait_until

DEADLINE_SECONDS = 60.0
LINES = 400
_PROMPT = re.compile(rb"\x1e(\d+)\x1e")
_SHELL = """
import fcntl, os, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
"""


def open_shell(
    directory: Path, environment: dict[str, str], size: tuple[int, int]
) -> tuple[int, subprocess.Popen]:
    """A bash in a pseudo-terminal of so many lines and columns: our end of it, not blocking, and the shell."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
    shell = subprocess.Popen(
        [sys.executable, "-c", _SHELL],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=directory,
        env={"TERM": "xterm-256color", **environment, "HISTFILE": "", "PS2": ""},
        start_new_session=True,
    )
    os.close(slave)
    return master, shell


class Screen(pyte.Screen):
    """A screen that knows which of its rows go on in the next."""

    def __init__(self, columns: int, lines: int) -> None:
        self.wrapped: set[int] = set()
        self._drawing = False
        super().__init__(columns, lines)

    def draw(self, data: str) -> None:
        self._drawing = True
        super().draw(data)
        self._drawing = False

    def linefeed(self) -> None:
        if self._drawing:
            self.wrapped.add(self.cursor.y)
        super().linefeed()

    def rows(self) -> list[str]:
        """What is on it, down to the cursor, whole lines as they were written."""
        rows = [""]
        for y in range(self.cursor.y + 1):
            cells = self.buffer[y]
            rows[-1] += "".join(cells[x].data for x in range(max(cells, default=-1) + 1))
            if y not in self.wrapped:
                rows.append("")
        return [row.rstrip() for row in rows]


class Terminal:
    """One window. ``columns`` is its width."""

    def __init__(self, directory: Path, environment: dict[str, str], columns: int) -> None:
        self._columns = columns
        # \036 marks the prompt and holds the last status: nothing else says it.
        prompt = {"PS1": r"\036$?\036"}
        self._master, self._shell = open_shell(directory, {**environment, **prompt}, (50, columns))
        self._seen = b""
        self._typed = b""
        self.status: int | None = None
        self.wait_prompt()

    def type(self, text: str) -> None:
        """Type one command, which may have several lines, and press return."""
        assert self.is_idle, "the last command is still running"
        self._seen, self.status = b"", None
        self._typed = text.encode() + b"\n"
        self.press(self._typed)

    def press(self, keys: bytes) -> None:
        """Press keys, whatever is running."""
        os.write(self._master, keys)

    @property
    def is_idle(self) -> bool:
        """Whether the shell waits for a command."""
        self._read()
        return self.status is not None

    def wait_prompt(self) -> None:
        """Return when the last command has ended; ``status`` is its exit status."""
        wait_until(lambda: self.is_idle, DEADLINE_SECONDS, "the command ends")

    def lines(self) -> list[str]:
        """What is on the screen since the last command was typed, without that command."""
        self._read()
        screen = Screen(self._columns, LINES)
        pyte.ByteStream(screen).feed(
            _PROMPT.sub(b"", self._seen.removeprefix(self._typed.replace(b"\n", b"\r\n")))
        )
        rows = [part for row in screen.rows() for part in _split(row)]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def close(self) -> None:
        """Close the window, as one does with the mouse: whoever is in it gets SIGHUP."""
        os.close(self._master)
        try:
            self._shell.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)
            raise

    def _read(self) -> None:
        try:
            while chunk := os.read(self._master, 1 << 16):
                self._seen += chunk
        except (BlockingIOError, OSError):  # OSError: nobody is left at the other side
            pass
        if self.status is None and (prompt := _PROMPT.search(self._seen)):
            self.status = int(prompt[1])


def _split(row: str) -> list[str]:
    """A terminal echoes ``^C`` wherever the cursor is; here it is a line of its own."""
    before, key, behind = row.partition("^C")
    return [part for part in (before, key, behind) if part] or [""]
