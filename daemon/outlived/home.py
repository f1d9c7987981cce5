"""The state directory: one daemon's home, locked while it lives there, known by an id that stays.

A leaf. 1. The directory is 0700 and ours. 2. The lock is an flock: it ends with the process, however that ends.
3. ``home_id`` is made once; a daemon with the same one is the same daemon after a restart.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class HomeRefused(Exception):
    """The state directory cannot be used; the message says why."""


@contextmanager
def open_home(path: Path) -> Iterator[str]:
    """Live in a state directory; the id of this home. Raises HomeRefused."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise HomeRefused(f"cannot use state directory {path}: {reason}") from error
    try:
        _take(path, lock)
        yield _read_or_make_id(path)
    finally:
        os.close(lock)


def _take(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        raise HomeRefused(
            f"cannot use state directory {path}: another daemon (pid {holder}) has it"
        ) from error
    with suppress(OSError):  # only to tell who it is: a full disk is no reason to refuse
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _read_or_make_id(path: Path) -> str:
    file = path / "home_id"
    try:
        if not file.exists():
            aside = path / "home_id.new"
            aside.write_text(f"{uuid.uuid4()}\n", "ascii")
            aside.rename(file)
        return str(uuid.UUID(file.read_text("ascii").strip()))
    except (OSError, ValueError) as error:
        raise HomeRefused(f"cannot read {file}, or make it: {error}") from error
