"""Stop being root, then become another program: Postgres refuses to run as root, and we may well be.

    python -I -S unroot.py namespace|drop UID GID DIRECTORY PROGRAM [ARGUMENT …]

1. `namespace`: a user namespace in which root's own uid is called UID. Files stay root's, seen from outside.
2. `drop`: really become UID, keeping at most one capability, to walk through directories such as a 0700 home.
3. Either way DIRECTORY must be within reach afterwards, or the program is not started.
4. The process stays the same process (no fork), so whoever started it has the pid of the server.

This file runs by itself in a child, without site-packages: the standard library only, and nothing of ours.
`unshare(1)` and `setpriv(1)` do the same; they are missing or too old on some systems, Python never is.
Choosing between the two ways is the work of `account.py`.
"""

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION = 0x20080522

# Either lets a process walk through directories that are not its own. The first can write nothing with it, but
# Docker does not hand it out; the second it does.
WALKING = (2, 1)  # CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE

# What a shell answers for a command that cannot be run.
CANNOT_RUN = 126


class Header(ctypes.Structure):
    """Linux's `__user_cap_header_struct`."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class Sets(ctypes.Structure):
    """Linux's `__user_cap_data_struct`: capabilities 0 to 31 in the first of two, bit by bit."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def enter_namespace(uid: int, gid: int) -> None:
    """Enter a new user namespace where our own uid and gid, and no others, exist under other names."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    _call("unshare", CLONE_NEWUSER)
    # An unprivileged process may map its gid only after giving up setgroups.
    Path("/proc/self/setgroups").write_text("deny", "ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1", "ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer_gid} 1", "ascii")


def drop_to(uid: int, gid: int) -> None:
    """Become another user for good, keeping one walking capability if there is one to keep."""
    if sys.platform == "linux":
        _call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if sys.platform == "linux":
        _keep_walking()


def _keep_walking() -> None:
    header, sets = Header(CAPABILITY_VERSION, 0), (Sets * 2)()
    _call("capget", ctypes.byref(header), sets)
    kept = next((number for number in WALKING if sets[0].permitted & 1 << number), None)
    bit = 0 if kept is None else 1 << kept
    _call("capset", ctypes.byref(header), (Sets * 2)(Sets(bit, bit, bit), Sets(0, 0, 0)))
    if kept is not None:
        # Only an ambient capability survives the exec of an ordinary program.
        _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept, 0, 0)


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def main(way: str, uid: str, gid: str, directory: str, *command: str) -> None:
    """Do as the module says; on failure one line on stderr and exit status 126."""
    become = {"namespace": enter_namespace, "drop": drop_to}[way]
    try:
        become(int(uid), int(gid))
        os.stat(os.path.join(directory, "."))  # noqa: PTH116, PTH118  # A Path would fold the dot away.
        os.execv(command[0], command)  # noqa: S606  # No shell is the point.
    except (OSError, AttributeError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(CANNOT_RUN)


if __name__ == "__main__":
    main(*sys.argv[1:])
