"""The cgroup whose children are ours to make, if there is one.

A leaf: it uses nothing of ours.

1. Being able to write is not being allowed to: systemd is the one writer of what it has not delegated. It says so of
   our own cgroup, or of the one around the leaf that ``DelegateSubgroup=`` put us into. Where no systemd runs nobody
   could object.
2. The system's manager says it by an attribute: ``user.delegate``, or before 251 ``trusted.delegate``, which only root may
   see. A user's manager leaves no mark (seen with 252). Without one the manager is asked, if we may write there at all.
3. Version 2 only, also where it is mounted beside version 1.

Not here: what is made there (``cgroups.py``).
"""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

ASK_SECONDS = 3.0
_UNIT = re.compile(r"\.(service|scope|slice|socket|mount|swap)$")


class NotDelegated(Exception):
    """There is no subtree for us; the message says why."""


def find_subtree() -> Path:
    """The directory of our cgroup, or of the one around it. Raises NotDelegated."""
    try:
        base = _choose_base(_find_own())
        _prove(base)
    except OSError as error:
        raise NotDelegated(str(error)) from error
    return base


def _find_own() -> Path:
    """Our own cgroup, as a directory."""
    mountinfo, cgroup = (
        Path("/proc/self", name).read_text(errors="surrogateescape") for name in ("mountinfo", "cgroup")
    )
    for path in list_places(mountinfo, cgroup):
        with suppress(OSError):
            if str(os.getpid()) in (path / "cgroup.procs").read_text().split():
                return path
    raise NotDelegated("no cgroup of version 2 is mounted that this process is in")


def list_places(mountinfo: str, cgroup: str) -> list[Path]:
    """Where a process's own cgroup of version 2 may lie, from what /proc says of it."""
    own = next((line[3:] for line in cgroup.splitlines() if line.startswith("0::")), None)
    if own is None:
        return []
    places: list[Path] = []
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split(" ", 1)[0] != "cgroup2":
            continue
        root, mountpoint = (_unescape(field) for field in fields.split(" ")[3:5])
        if root in {"/", own} or own.startswith(f"{root}/"):
            places.append(Path(mountpoint + (own if root == "/" else own.removeprefix(root))))
    return places


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _choose_base(own: Path) -> Path:
    """The cgroup whose children are ours to make."""
    if not _has_systemd():
        return own
    unit = own if _UNIT.search(own.name) else own.parent
    for base in (own, unit):
        if _is_delegated(base):
            return base
    if os.access(unit / "cgroup.procs", os.W_OK) and _ask_manager(unit):
        return unit
    raise NotDelegated(f"systemd has not delegated {own} (Delegate=yes would)")


def _has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _is_delegated(path: Path) -> bool:
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):  # there is none, or only root may see it
            if os.getxattr(path, name) == b"1":
                return True
    return False


def _ask_manager(unit: Path) -> bool:
    """Whether its manager has left a unit's cgroup to the unit; takes some 10 ms, once."""
    manager = f"user@{os.geteuid()}.service"
    whose = "--user" if any(path.name == manager for path in unit.parents) else "--system"
    command = ["systemctl", whose, "show", "--property=Delegate", "--value", unit.name]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, timeout=ASK_SECONDS, check=True)
        return done.stdout == b"yes\n"
    return False


def _prove(base: Path) -> None:
    """Make a child and remove it: a mount may be read-only, and an owner another. Raises OSError."""
    probe = base / f"probe-{os.getpid()}"
    probe.mkdir()
    probe.rmdir()
    if not os.access(base / "cgroup.procs", os.W_OK):
        raise NotDelegated(f"{base}/cgroup.procs is not ours to write")
