"""Processes of this host: who they are, who belongs to a run, and signals that reach nobody else.

A leaf: every room may use it, it uses none of ours but the type of an identity.

1. A process is its boot, its pid namespace, its pid and its start ticks; never a pid alone.
2. Signals go through a pidfd opened before the identity is checked, so a pid that is used again between the
   look and the signal cannot receive it.
3. A run's processes are its first process (its *leader*), whoever descends from that, whoever is in its session, and
   whoever has the ``OUTLIVE_RUN_ID`` in its environment. A session proves something while the leader lives, after
   its death only to whoever saw it die. Descent proves something while every process between lives: a leader that is
   a child subreaper inherits the orphans below it, so that nothing leaves it while it lives.
4. So the leader is killed last: only when looks have found nothing else of its run.
5. A cgroup, where a run has one, is killed before all that; it is handed in, this file knows no cgroups.

Not here: when to signal (``agents/command.py``, ``supervisor/takeover.py``), cgroups (``cgroups.py``).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import attrs
import trio

from outlived.rules.leases import ProcessIdentity

RUN_VARIABLE = "OUTLIVE_RUN_ID"
_PROC = Path("/proc")
KILL_ROUNDS = 60
QUIET_ROUNDS = 2
LOOK_SECONDS = 0.1
_PR_SET_CHILD_SUBREAPER = 36


def read_resident_bytes() -> int:
    """How much memory this process has now."""
    return int(os.pread(_open_statm(), 200, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")


@cache
def _open_statm() -> int:
    """Opened once: it is asked for when no descriptor is left, too."""
    return os.open(_PROC / "self/statm", os.O_RDONLY | os.O_CLOEXEC)


def read_host() -> str:
    return socket.gethostname()


def read_boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def read_pid_namespace() -> str:
    return str((_PROC / "self/ns/pid").readlink())


def read_start_ticks(pid: int) -> int | None:
    """When that process started, in clock ticks since boot; None if it is gone (a zombie is gone)."""
    return fields.start_ticks if (fields := _read_stat(pid)) else None


def read_identity(pid: int) -> ProcessIdentity | None:
    """Who has that pid now; None if nobody."""
    start_ticks = read_start_ticks(pid)
    if start_ticks is None:
        return None
    return ProcessIdentity(read_boot_id(), read_pid_namespace(), pid, start_ticks)


def read_own_identity() -> ProcessIdentity:
    """This process."""
    return read_child_identity(os.getpid())


def read_child_identity(pid: int) -> ProcessIdentity:
    """A child of ours that nobody has waited for yet, even if it has ended already."""
    stat = _parse_stat(pid)
    assert stat is not None, f"process {pid} is no child of ours"
    return ProcessIdentity(read_boot_id(), read_pid_namespace(), pid, stat.start_ticks)


def is_hidden(pid: int) -> bool:
    """Whether somebody has that pid whom /proc does not show us (``hidepid=``, ``ProtectProc=``): no proof of a death."""
    try:
        (_PROC / str(pid) / "stat").read_bytes()
    except PermissionError:
        return True
    except (FileNotFoundError, ProcessLookupError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
    return False


@attrs.frozen
class _Stat:
    pid: int
    ended: bool
    parent: int
    session: int
    start_ticks: int


def _read_stat(pid: int) -> _Stat | None:
    """A living process; a zombie is none."""
    stat = _parse_stat(pid)
    return None if stat is None or stat.ended else stat


def _parse_stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = text.rpartition(")")[2].split()
    return _Stat(pid, fields[0] in {"Z", "X"}, int(fields[1]), int(fields[3]), int(fields[19]))


Leaders = Mapping[str, ProcessIdentity | None]
"""Run id -> its first process, where one was recorded."""


def find_run_processes(leaders: Leaders, *, just_ended: bool = False) -> dict[str, list[ProcessIdentity]]:
    """The living processes of each run. ``just_ended``: the caller has seen the leaders die.

    One pass over /proc; reads files, so call it in a thread.
    """
    boot_id, namespace = read_boot_id(), read_pid_namespace()
    sessions: dict[int, str] = {}
    for run_id, leader in leaders.items():
        if leader is None or (leader.boot_id, leader.pid_namespace) != (boot_id, namespace):
            continue
        now = read_start_ticks(leader.pid)
        if now == leader.start_ticks or (now is None and just_ended):
            sessions[leader.pid] = run_id
    alive = {
        pid: stat for pid in _list_pids() if pid != os.getpid() and (stat := _read_stat(pid)) is not None
    }
    owners = _find_descendants({pid: run_id for pid, run_id in sessions.items() if pid in alive}, alive)
    since = _find_first_start(leaders, boot_id, namespace)
    found: dict[str, list[ProcessIdentity]] = {}
    for stat in alive.values():
        owner = owners.get(stat.pid) or sessions.get(stat.session)
        if owner is None and stat.start_ticks >= since:
            owner = _read_run_id(stat.pid)
        if owner is not None and owner in leaders:
            identity = ProcessIdentity(boot_id, namespace, stat.pid, stat.start_ticks)
            found.setdefault(owner, []).append(identity)
    return found


def _find_first_start(leaders: Leaders, boot_id: str, namespace: str) -> int:
    """Nothing that a run started is older than its first process: most of what lives need not be asked whose it is."""
    known = [leader.start_ticks for leader in leaders.values() if leader is not None]
    here = all(
        leader is not None and (leader.boot_id, leader.pid_namespace) == (boot_id, namespace)
        for leader in leaders.values()
    )
    return min(known, default=0) if here else 0


def _find_descendants(leaders: Mapping[int, str], alive: Mapping[int, _Stat]) -> dict[int, str]:
    """Who descends from a leader, the leaders among them; pid -> run id.

    A parent is known by a number, and numbers are used again: a child counts if, after it was seen to have that
    parent, the parent still is the process that it was before.
    """
    children: dict[int, list[_Stat]] = {}
    for stat in alive.values():
        children.setdefault(stat.parent, []).append(stat)
    owners = dict(leaders)
    pending = list(leaders)
    while pending:
        pid = pending.pop()
        for child in children.get(pid, []):
            if child.pid in owners or _read_stat(child.pid) != child:
                continue
            if read_start_ticks(pid) == alive[pid].start_ticks:
                owners[child.pid] = owners[pid]
                pending.append(child.pid)
    return owners


def _list_pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208 - names are all it needs


def _read_run_id(pid: int) -> str | None:
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except (OSError, ValueError):  # gone, or somebody else's
        return None
    prefix = f"{RUN_VARIABLE}=".encode()
    for variable in environment.split(b"\0"):
        if variable.startswith(prefix):
            return variable.removeprefix(prefix).decode(errors="replace")
    return None


def send_signal(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal exactly this process; False if it is gone or not ours to signal."""
    try:
        fd = os.pidfd_open(identity.pid)
    except (ProcessLookupError, PermissionError, OSError):
        return False
    try:
        if read_start_ticks(identity.pid) != identity.start_ticks:
            return False
        signal.pidfd_send_signal(fd, number)
    except (ProcessLookupError, PermissionError):
        return False
    else:
        return True
    finally:
        os.close(fd)


def signal_group(pgid: int, number: signal.Signals) -> None:
    """Signal the group of a child of ours that was not reaped yet."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


class Container(Protocol):
    """What contains a run better than all that can be found out about it: its cgroup."""

    async def kill(self) -> bool:
        """Kill everything in it; False if something lives on all the same."""


def find_no_container(run_id: str) -> Container | None:  # noqa: ARG001 - it is nobody's
    """Runs without cgroups."""
    return None


async def kill_run_processes(
    leaders: Leaders,
    *,
    just_ended: bool = False,
    find_container: Callable[[str], Container | None] = find_no_container,
) -> list[str]:
    """Kill every process of these runs, their living leaders last; the runs that still have some.

    What a leader would leave behind is nobody's descendant any more. It is stopped meanwhile, so that it starts
    nothing in the place of what is killed; stopped, it inherits orphans all the same. One that other processes
    outlive in the end is killed, too: they have their signal, and it is up to the kernel.
    """
    await _kill_containers(leaders, find_container)
    look = partial(find_run_processes, leaders, just_ended=just_ended)
    living = {leader for leader in leaders.values() if leader is not None and _is_alive(leader)}
    if living:
        for leader in living:
            send_signal(leader, signal.SIGSTOP)
        await _kill_until_quiet(look, spared=living)
    return await _kill_until_quiet(look, spared=set())


async def _kill_until_quiet(
    look: Callable[[], Mapping[str, list[ProcessIdentity]]], spared: set[ProcessIdentity]
) -> list[str]:
    """Kill whatever a look finds, again and again until none is found; the runs that still have some.

    A process that is forking is caught in a later round: what it forks is the run's, too. One look that finds none
    proves nothing: a process may fork after /proc was listed, and be gone before it is looked at.
    """
    left: list[str] = []
    quiet = 0
    for attempt in range(KILL_ROUNDS):
        found = await trio.to_thread.run_sync(look)
        doomed = {run_id: [each for each in found[run_id] if each not in spared] for run_id in found}
        left = sorted(run_id for run_id, identities in doomed.items() if identities)
        quiet = 0 if left else quiet + 1
        if quiet == QUIET_ROUNDS:
            break
        for run_id in left:
            for identity in doomed[run_id]:
                send_signal(identity, signal.SIGKILL)
        await trio.sleep(min(0.001 * 2**attempt, 0.05))
    return left


def _is_alive(identity: ProcessIdentity) -> bool:
    return read_identity(identity.pid) == identity


async def _kill_containers(leaders: Leaders, find_container: Callable[[str], Container | None]) -> None:
    async with trio.open_nursery() as nursery:
        for run_id in leaders:
            if (container := find_container(run_id)) is not None:
                nursery.start_soon(container.kill)


async def wait_gone(identity: ProcessIdentity) -> None:
    """Return once that process has ended, be it a child of ours or not; at once if it is gone already."""
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    except OSError:  # a kernel before 5.3, or no descriptor left
        while read_start_ticks(identity.pid) == identity.start_ticks:
            await trio.sleep(LOOK_SECONDS)
        return
    try:
        if read_start_ticks(identity.pid) == identity.start_ticks:
            await trio.lowlevel.wait_readable(fd)
    finally:
        trio.lowlevel.notify_closing(fd)
        os.close(fd)


_prctl = ctypes.PyDLL(None).prctl
_prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def become_subreaper() -> None:
    """``preexec_fn`` of a run's wrapper: orphans below this process become its children, whatever it executes.

    Between fork and exec, in the child of a process with threads, whatever another thread held is locked for ever.
    So nothing is imported or looked up here: the function was resolved when this module was imported, and PyDLL calls
    it without letting the interpreter's lock go, which this thread holds. A refusal is no error: the run is contained
    by its session and its environment then.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
