"""CPU and memory of a process and everything it started, from /proc.

1. CPU is user and system time of the living and of the reaped. A child that ends while it is counted moves into
   its parent's sum, so nothing is lost; a clock tick is 10 ms, so windows are seconds.

Not here: which processes there are (``stage.py``).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")


def find_tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - called in measured windows: names are enough
        if entry.isdigit() and (fields := _read_stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    tree = [pid]
    for parent in tree:  # grows while it is walked
        tree += children.get(parent, [])
    return tree


def read_cpu(pid: int) -> float:
    """Seconds of CPU that the process and its descendants, living or reaped, have used."""
    return (
        sum(sum(map(int, fields[11:15])) for each in find_tree(pid) if (fields := _read_stat(each))) / TICKS
    )


def read_rss(pid: int) -> int:
    """Bytes resident of one process, without its descendants."""
    return _read_memory(Path(f"/proc/{pid}/status"), "VmRSS:")


def read_pss(pid: int) -> int:
    """Bytes of one process, what it shares counted in proportion."""
    return _read_memory(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def _read_memory(path: Path, field: str) -> int:
    for line in path.read_text("ascii", "replace").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    return 0


def _read_stat(pid: int) -> list[str]:
    """The fields of stat behind the name, ``state`` first; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return stat.rpartition(")")[2].split()


class Meter:
    """``with Meter({"daemon": pid, …}) as meter``: the CPU that each used inside, and this process ("load")."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self.seconds = 0.0
        """Wall time; meaningful after the block, like ``cpu``, seconds by process."""
        self.cpu: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._before = {name: read_cpu(pid) for name, pid in self._pids.items()}
        self._own, self._started = time.process_time(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._started
        own = time.process_time() - self._own
        self.cpu = {name: read_cpu(pid) - self._before[name] for name, pid in self._pids.items()}
        self.cpu["load"] = own

    def per(self, units: float) -> dict[str, float]:
        """Milliseconds of CPU per unit of work, by process."""
        return {name: seconds * 1000 / units for name, seconds in self.cpu.items()} if units else {}

    def part(self) -> dict[str, float]:
        """The part of one core that each process kept busy."""
        return {name: seconds / self.seconds for name, seconds in self.cpu.items()}
