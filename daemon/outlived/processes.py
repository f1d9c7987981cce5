"""Processes of this host: who they are, who belongs to a run, and signals that reach nobody else.

A leaf: every room may use it, it uses none of ours but the type of an identity.

1. A process is its boot, its pid namespace, its pid and its start ticks; never a pid alone.
2. Signals go through a pidfd opened before the identity is checked, so a pid that is used again between the
   look and the signal cannot receive it.
3. A run's processes are found by the ``OUTLIVE_RUN_ID`` in their environment and by the session of its first
   process. A session proves something while that process lives; after its death only to whoever saw it die.

Not here: when to signal (``agents/command.py``, ``supervisor/takeover.py``).
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs
import trio

from outlived.rules.leases import ProcessIdentity

RUN_VARIABLE = "OUTLIVE_RUN_ID"
_PROC = Path("/proc")
KILL_ROUNDS = 100
QUIET_ROUNDS = 2


def read_resident_bytes() -> int:
    """How much memory this process has now."""
    return int((_PROC / "self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


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


@attrs.frozen
class _Stat:
    pid: int
    ended: bool
    session: int
    start_ticks: int


def _read_stat(pid: int) -> _Stat | None:
    """A living process; a zombie is none."""
    stat = _parse_stat(pid)
    return None if stat is None or stat.ended else stat


def _parse_stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return _Stat(pid, fields[0] in {"Z", "X"}, int(fields[3]), int(fields[19]))


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
    found: dict[str, list[ProcessIdentity]] = {}
    for pid in _list_pids():
        stat = _read_stat(pid)
        if stat is None or pid == os.getpid():
            continue
        owner = sessions.get(stat.session) or _read_run_id(stat.pid)
        if owner is not None and owner in leaders:
            identity = ProcessIdentity(boot_id, namespace, stat.pid, stat.start_ticks)
            found.setdefault(owner, []).append(identity)
    return found


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


async def kill_run_processes(leaders: Leaders, *, just_ended: bool = False) -> list[str]:
    """Kill every process of these runs, again and again until none is found; the runs that still have some.

    A process that is forking is caught in a later round: what it forks carries the run's id too. One look that
    finds none proves nothing: a process may fork after /proc was listed, and be gone before it is looked at.
    """
    left: list[str] = []
    quiet = 0
    for attempt in range(KILL_ROUNDS):
        found = await trio.to_thread.run_sync(partial(find_run_processes, leaders, just_ended=just_ended))
        left = sorted(found)
        quiet = 0 if found else quiet + 1
        if quiet == QUIET_ROUNDS:
            break
        for identities in found.values():
            for identity in identities:
                send_signal(identity, signal.SIGKILL)
        await trio.sleep(min(0.001 * 2**attempt, 0.05))
    return left
