"""Looking at processes from outside, through /proc: those of runs, those that are gone."""

import contextlib
import os
from pathlib import Path

from tests.support.waits import wait_until

QUIET = 20
VARIABLE = b"OUTLIVE_RUN_ID="


def find_run_processes(run_ids: set[str]) -> dict[int, str]:
    """Every living process that carries the id of one of these runs; pid -> run id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                environment = (entry / "environ").read_bytes().split(b"\0")
                ids = {
                    variable.removeprefix(VARIABLE).decode()
                    for variable in environment
                    if variable.startswith(VARIABLE)
                }
                if ids & run_ids and is_alive(int(entry.name)):
                    found[int(entry.name)] = (ids & run_ids).pop()
    return found


def is_alive(pid: int) -> bool:
    """Whether there is such a process; a zombie is none."""
    return read_state(pid) not in {"", "Z", "X"}


def is_suspended(pid: int) -> bool:
    """Whether a SIGSTOP has taken effect."""
    return read_state(pid) == "T"


def wait_idle(pid: int, seconds: float = 30.0) -> None:
    """Return once it has done nothing for a moment."""
    seen: list[str] = []

    def is_idle() -> bool:
        seen.append(_read_time(pid))
        return len(seen) > QUIET and len(set(seen[-QUIET:])) == 1

    wait_until(is_idle, seconds, f"process {pid} is idle")


def _read_time(pid: int) -> str:
    """The processor time it has used."""
    return " ".join(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[11:13])


def read_state(pid: int) -> str:
    """The letter that the kernel has for it; empty if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]
