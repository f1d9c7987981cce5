"""What a daemon of this user has left running, for people.

Not here: the note itself (``outlive/left.py``).
"""

from __future__ import annotations

from outlive.cli.logs import log_file
from outlive.left import LeftRun, read_left

SHOWN = 20


def left_runs() -> list[LeftRun]:
    """What the last daemon that was started from here has left to the next one."""
    try:
        return read_left(log_file().parent)
    except ValueError:
        return []  # nobody's home


def describe_left(runs: list[LeftRun], width: int | None) -> list[str]:
    """One line for each, below one that says what they are; nothing if there are none."""
    if not runs:
        return []
    lines = [f"left running for the next daemon: {len(runs)}"]
    for run in runs[:SHOWN]:
        line = f"  {run.run_id[-8:]}  pid {run.pid}  {' '.join(run.what.split())}"
        lines.append(line if width is None or len(line) <= width else line[: width - 1] + "…")
    return lines if len(runs) <= SHOWN else [*lines, f"  and {len(runs) - SHOWN} more"]
