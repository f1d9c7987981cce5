"""Containment: what this daemon can hold a run with, and the limits set before its command runs.

A leaf: every room may use it, it uses none of ours but the leaf of cgroups and the type of a run's limits.

1. A limit is held by the run's cgroup where its controller is in force, else by an rlimit that is set from outside on
   the process that waits to become the command, and inherited by whatever that starts.
2. The two do not mean the same. ``memory.max`` bounds the memory that a run has, in all; ``RLIMIT_DATA`` what each of
   its processes may write to and shares with nobody (``RLIMIT_AS`` counts what is only reserved, too: no Node starts below
   1 GiB of it). ``pids.max`` bounds the run's processes; ``RLIMIT_NPROC`` those of its user, so it is set that many above
   what the user has at that moment; and root has no such limit.
3. What is in force is said (``server/info``, the log), not assumed.

Not here: how long and how silent a run may be (``supervisor/limits.py``), who calls this at which moment
(``agents/command.py``).
"""

from __future__ import annotations

import os
import resource
from functools import cache
from pathlib import Path
from typing import Literal

import attrs
import structlog

from outlived.cgroups import Cgroup, Cgroups, find_cgroups
from outlived.rules.limits import Limits

log = structlog.get_logger("outlived.containment")

Holder = Literal["cgroup", "rlimit", "none"]


@attrs.frozen
class Containment:
    """What runs are held with here."""

    cgroups: Cgroups | None = None

    @property
    def controllers(self) -> list[str]:
        """The controllers that runs' limits may use."""
        return sorted(self.cgroups.controllers) if self.cgroups is not None else []

    @property
    def kill(self) -> Literal["cgroup", "descendants"]:
        """What finds the processes of a run for certain."""
        return "descendants" if self.cgroups is None else "cgroup"

    @property
    def memory(self) -> Holder:
        return "cgroup" if "memory" in self.controllers else "rlimit"

    @property
    def pids(self) -> Holder:
        if "pids" in self.controllers:
            return "cgroup"
        return "none" if _is_true_root() else "rlimit"

    def open_cgroup(self, run_id: str, limits: Limits) -> Cgroup | None:
        """A cgroup for a run, where there are any."""
        return None if self.cgroups is None else self.cgroups.open(run_id, limits)

    def find_cgroup(self, run_id: str) -> Cgroup | None:
        """The cgroup of a run, be it of an earlier daemon; what ``kill_run_processes`` asks for."""
        return None if self.cgroups is None else self.cgroups.find(run_id)

    async def tidy(self) -> None:
        """Actor, once: remove cgroups that nobody will come back for."""
        if self.cgroups is not None:
            await self.cgroups.tidy()


def open_containment(setting: Literal["auto", "off"]) -> Containment:
    """See what there is, and say it."""
    containment = Containment(find_cgroups(setting))
    log.info(
        "runs are contained",
        kill=containment.kill,
        controllers=containment.controllers,
        memory=containment.memory,
        pids=containment.pids,
    )
    return containment


def apply_limits(pid: int, limits: Limits, cgroup: Cgroup | None) -> None:
    """Limit a process that waits at its gate, and all that it starts; by rlimits what the cgroup does not hold.

    Raises ProcessLookupError, PermissionError.
    """
    held = frozenset[str]() if cgroup is None else cgroup.controllers
    if limits.max_memory is not None and "memory" not in held:
        _lower(pid, resource.RLIMIT_DATA, limits.max_memory)
    if limits.max_pids is not None and "pids" not in held:
        _lower(pid, resource.RLIMIT_NPROC, _count_tasks(os.getuid()) + limits.max_pids)


@cache
def _is_true_root() -> bool:
    """Root of the machine, or of a container that shares its users: no RLIMIT_NPROC holds it."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split()[:2] == ["0", "0"]


def _lower(pid: int, which: int, bound: int) -> None:
    """Set both limits; never above the one that is there."""
    _, hard = resource.prlimit(pid, which)
    if hard != resource.RLIM_INFINITY:
        bound = min(bound, hard)
    resource.prlimit(pid, which, (bound, bound))


def _count_tasks(uid: int) -> int:
    """The processes and threads that a user has, as the kernel counts them for RLIMIT_NPROC."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            count += _count_own_tasks(Path(entry.path), uid)
    return count


def _count_own_tasks(process: Path, uid: int) -> int:
    try:
        status = (process / "status").read_text(errors="replace")
    except OSError:
        return 0  # gone
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields["Threads"]) if int(fields["Uid"].split()[0]) == uid else 0
