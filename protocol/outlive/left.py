"""What a daemon has left running when it ended: a file in its state directory, for whoever asks before the next one comes.

1. The daemon writes it, whole or not at all, when it leaves commands to its successor, which removes it.
2. It is a note, not a record: the runs themselves are in the database. One that cannot be read says nothing.

Not here: leaving and adopting (the daemon), showing it (``cli/info.py``, ``cli/daemon.py``).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import attrs
import msgspec

_FILE = "left.json"


@attrs.frozen(slots=False)
class LeftRun:
    """One command that goes on. ``what``: its agent or its command line; ``pid``: the process that watches over it."""

    run_id: str
    what: str
    pid: int | None


def write_left(state: Path, runs: list[LeftRun]) -> None:
    """Say what is left. Raises OSError."""
    aside = state / f"{_FILE}.new"
    aside.write_bytes(msgspec.json.encode(runs))
    aside.chmod(0o600)
    aside.rename(state / _FILE)


def read_left(state: Path) -> list[LeftRun]:
    """What the last daemon of that state directory has left; nothing if there is no such note."""
    try:
        return msgspec.json.decode((state / _FILE).read_bytes(), type=list[LeftRun])
    except (OSError, msgspec.DecodeError):
        return []


def forget_left(state: Path) -> None:
    """The note is out of date."""
    with suppress(OSError):
        (state / _FILE).unlink()
