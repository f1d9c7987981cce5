"""The spool of one attempt of a command: its streams as files, so that neither side needs the other to be alive.

``<state>/spool/<run id>-<attempt>/``, 0700, holds ``stdin``, ``stdout``, ``stderr``; ``status``, into which the wrapper
writes how the command ended; ``said``, what the wrapper's own shell complained about; ``held`` and ``ending``, marks of a daemon for the next one.

1. Whoever reads knows from the journal how far it was read, durably; a spool itself remembers nothing.
2. What is durable in the journal is given back to the disk (a hole is punched): offsets stay what they are, and a
   command may say a terabyte.
3. ``status`` has its room from the beginning: recording an end needs no space, no new file and no other program. It
   is one write of one line; a line without its end is none.
4. A spool is removed when its run is settled or released, never before.

Not here: running the command (``program.py``), following the files (``follow.py``).
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs

READ_BYTES = 64 << 10
NO_STATUS = b"   \n"
_STATUS = re.compile(rb" *(\d{1,3})\n")
_NAME = re.compile(r"([0-9a-f-]{36})-(\d+)")
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@attrs.frozen
class Spool:
    """One attempt's directory."""

    path: Path

    @classmethod
    def at(cls, root: Path, run_id: str, attempt: int) -> Spool:
        """Where the spool of that attempt is, or would be."""
        return cls(root / f"{run_id}-{attempt}")

    def create(self, given: bytes) -> None:
        """Make it, with what the command will read. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True)
        for name, content in (("stdin", given), ("stdout", b""), ("stderr", b""), ("status", NO_STATUS)):
            file = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as opened:
                opened.write(content)

    def exists(self) -> bool:
        return (self.path / "status").exists()

    def read_status(self) -> int | None:
        """What the wrapper's shell has for the command's end; None while there is none."""
        try:
            return self.parse_status((self.path / "status").read_bytes())
        except OSError:
            return None

    @staticmethod
    def parse_status(line: bytes) -> int | None:
        found = _STATUS.fullmatch(line)
        return None if found is None else int(found[1])

    def read_said(self) -> str:
        """The complaint of the wrapper's shell: most often that it cannot start the program."""
        try:
            with (self.path / "said").open("rb") as file:
                return " ".join(file.read(2000).decode(errors="replace").split())
        except OSError:
            return ""

    @property
    def is_held(self) -> bool:
        """Whether a daemon has stopped the command for saying too much, and not let it go on."""
        return (self.path / "held").exists()

    def mark_held(self, *, held: bool = True) -> None:
        with suppress(OSError):  # the disk is full: then the next daemon lets every command go on
            if held:
                (self.path / "held").touch()
            else:
                (self.path / "held").unlink()

    @property
    def is_ending(self) -> bool:
        """Whether a daemon has begun to end the command: however it has ended since then, it did not by itself."""
        return (self.path / "ending").exists()

    def mark_ending(self) -> None:
        with suppress(OSError):
            (self.path / "ending").touch()

    def remove(self) -> None:
        """Leave nothing of it."""
        shutil.rmtree(self.path, ignore_errors=True)


@attrs.define(eq=False)
class SpoolFile:
    """A stream while it is followed. ``read_upto``: so far it was read; ``freed_upto``: given back to the disk."""

    path: Path
    read_upto: int = 0
    freed_upto: int = 0
    _file: int = -1

    def open(self) -> None:
        """Raises OSError."""
        self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    @property
    def size(self) -> int:
        return os.fstat(self._file).st_size

    def read(self, upto: int | None = None) -> bytes:
        """The next bytes that are there, up to that offset; empty if there are none now."""
        wanted = READ_BYTES if upto is None else min(READ_BYTES, upto - self.read_upto)
        chunk = os.pread(self._file, max(wanted, 0), self.read_upto)
        self.read_upto += len(chunk)
        return chunk

    def free(self, upto: int) -> None:
        """Give the disk back what is before that offset; where the file system cannot, the file just stays."""
        if upto > self.freed_upto:
            _LIBC.fallocate(self._file, _PUNCH_HOLE | _KEEP_SIZE, 0, upto)
            self.freed_upto = upto


def list_spools(root: Path) -> Iterator[tuple[str, Spool]]:
    """Every spool there is, with its run's id."""
    with suppress(FileNotFoundError):
        for entry in sorted(root.iterdir()):
            if found := _NAME.fullmatch(entry.name):
                yield found[1], Spool(entry)
