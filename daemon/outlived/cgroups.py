"""Cgroups: one for each run, where the daemon has a subtree that is its own to use.

A leaf: every room may use it, it uses none of ours but the type of a run's limits.

Theory of operation. A process cannot leave its cgroup by forking, whatever else it does: a cgroup for each run
contains them better than sessions, environments and descent do. The runs' cgroups are children of the *base*:

    <base>/run-<run id>        the run: its wrapper, its command, and whatever these start

1. The base is ours to use, or there are none (``delegation.py``).
2. We never move ourselves, and enable controllers only in the root of the hierarchy. Everywhere else a cgroup whose
   ``cgroup.subtree_control`` has a controller takes no process while something lives below it, and somebody has to put
   processes into the base: systemd the next daemon, ``docker exec`` its shell (docs/decisions/0025). Cgroups without
   controllers have no such rule, and kill as well.
3. Killing is ``cgroup.kill`` where the kernel has it (5.14), else freeze, SIGKILL to each, thaw. It is done when the
   cgroup says that nobody lives in it, and bounded in time.
4. Nothing here fails a run: what cannot be had is logged, and the run is contained without it.

Not here: processes outside cgroups (``processes.py``), limits by other means (``containment.py``).
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Literal

import attrs
import structlog
import trio

from outlived.delegation import NotDelegated, find_subtree
from outlived.rules.limits import NO_LIMITS, Limits

log = structlog.get_logger("outlived.cgroups")

KILL_SECONDS = 5.0
LONGEST_PAUSE = 0.05
PREFIX = "run-"
LIMITING = frozenset({"memory", "pids"})
"""The controllers that we have a use for."""
_KILL = "cgroup.kill"


@attrs.frozen
class Cgroup:
    """The cgroup of one run. ``controllers`` are those that hold its limits."""

    path: Path
    controllers: frozenset[str] = frozenset()

    def add(self, pid: int) -> bool:
        """Put a process in, with all that it starts from now on; False if that cannot be."""
        try:
            (self.path / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            log.warning(
                "cannot put a process into its run's cgroup", cgroup=str(self.path), reason=str(error)
            )
            return False
        return True

    def list_pids(self) -> list[int]:
        """The processes in it, and in what they made below it."""
        pids: set[int] = set()
        for path in self._list_tree():
            with suppress(OSError, ValueError):  # gone, or a threaded one: its processes are listed above it
                pids.update(int(pid) for pid in (path / "cgroup.procs").read_text().split())
        return sorted(pids - {0})  # 0: one of a pid namespace that we cannot see

    def is_populated(self) -> bool:
        """Whether anything lives in it; a zombie does not."""
        return _read_flat(self.path / "cgroup.events").get("populated", 0) != 0

    def freeze(self) -> None:
        """Let nothing in it run. It happens soon, and can be undone at once."""
        self._freeze("1")

    def thaw(self) -> None:
        self._freeze("0")

    async def kill(self) -> bool:
        """Kill everything in it; False if something lives on all the same."""
        pause = 0.001
        with trio.move_on_after(KILL_SECONDS):
            while self.is_populated():
                self._kill_all()
                await trio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        return not self.is_populated()

    def remove(self) -> bool:
        """Remove it, with what was made below it; False while something lives in it."""
        try:
            for path in reversed(self._list_tree()):
                path.rmdir()
        except FileNotFoundError:
            return True
        except OSError as error:
            log.warning("cannot remove a run's cgroup", cgroup=str(self.path), reason=str(error))
            return False
        return True

    def was_out_of_memory(self) -> bool:
        """Whether the kernel has killed something in it for want of memory."""
        return _read_flat(self.path / "memory.events").get("oom_kill", 0) > 0

    def _kill_all(self) -> None:
        try:
            _write_existing(self.path / _KILL, "1")
        except OSError:  # a kernel before 5.14
            self.freeze()
            for pid in self.list_pids():
                self._kill_one(pid)
            self.thaw()

    def _kill_one(self, pid: int) -> None:
        """By a pidfd that was opened before the look at where the process is: nobody else is signalled."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return
        try:
            where = Path(f"/proc/{pid}/cgroup").read_text()
            if f"/{self.path.name}" in where:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        except OSError:
            pass  # gone meanwhile
        finally:
            os.close(fd)

    def _freeze(self, value: str) -> None:
        with suppress(OSError):  # gone, or a kernel before 5.2
            _write_existing(self.path / "cgroup.freeze", value)

    def _list_tree(self) -> list[Path]:
        """This cgroup and those below it; whoever is above comes first."""
        return [Path(path) for path, _, _ in os.walk(self.path)]


@attrs.frozen
class Cgroups:
    """Where runs have cgroups of their own. ``controllers`` are those that their limits may use."""

    base: Path
    controllers: frozenset[str] = frozenset()

    def open(self, run_id: str, limits: Limits = NO_LIMITS) -> Cgroup | None:
        """Make the cgroup of a run, with those of its limits that a controller can hold; None if it cannot be made."""
        path = self.base / f"{PREFIX}{run_id}"
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            log.warning("cannot make a cgroup for a run", cgroup=str(path), reason=str(error))
            return None
        held: set[str] = set()
        if limits.max_memory is not None and self._enable("memory"):
            with suppress(OSError):  # without swap, or without accounting for it
                _write_existing(path / "memory.swap.max", "0")
            held |= _hold(path, "memory", limits.max_memory)
        if limits.max_pids is not None and self._enable("pids"):
            held |= _hold(path, "pids", limits.max_pids)
        return Cgroup(path, frozenset(held))

    def find(self, run_id: str) -> Cgroup | None:
        """The cgroup that was made for a run, perhaps by an earlier daemon."""
        path = self.base / f"{PREFIX}{run_id}"
        if not path.is_dir():
            return None
        held = {name for name in LIMITING if _is_held(path / f"{name}.max")}
        return Cgroup(path, frozenset(held))

    def list_run_ids(self) -> list[str]:
        """The runs that have a cgroup here."""
        return sorted(
            path.name.removeprefix(PREFIX) for path in self.base.glob(f"{PREFIX}*") if path.is_dir()
        )

    def _enable(self, controller: str) -> bool:
        """Let the base's children have that controller."""
        if controller not in self.controllers:
            return False
        try:
            _write_existing(self.base / "cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            log.warning("cannot limit runs by cgroup", controller=controller, reason=str(error))
            return False
        return True


def find_cgroups(setting: Literal["auto", "off"] = "auto") -> Cgroups | None:
    """Where runs may have cgroups of their own; None if nowhere, or if that is not wanted."""
    if setting == "off":
        return None
    try:
        base = find_subtree()
    except NotDelegated as error:
        log.info("runs have no cgroups of their own", reason=str(error))
        return None
    return Cgroups(base, _list_controllers(base))


def _list_controllers(base: Path) -> frozenset[str]:
    """The controllers that may be enabled below ``base``: none, but in the root. That has no type."""
    if (base / "cgroup.type").exists():
        return frozenset()
    return LIMITING.intersection((base / "cgroup.controllers").read_text().split())


def _hold(path: Path, controller: str, bound: int) -> set[str]:
    """Set a limit; the controller that holds it, or none."""
    try:
        _write_existing(path / f"{controller}.max", str(bound))
    except OSError as error:
        log.warning(
            "cannot limit a run by its cgroup", cgroup=str(path), controller=controller, reason=str(error)
        )
        return set()
    return {controller}


def _is_held(path: Path) -> bool:
    try:
        return path.read_text().strip() != "max"
    except OSError:
        return False


def _write_existing(path: Path, value: str) -> None:
    """Write to a file of the kernel's; never make one."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _read_flat(path: Path) -> dict[str, int]:
    """A file of ``name number`` lines; empty if it is not there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {name: int(value) for name, value in (line.split() for line in lines)}
