"""Who may use which workspace.

1. It is decided on the uid and the gid that the kernel saw when the other side connected, on nothing else: not on its
   pid, which may be somebody else's by now, and not on its further groups, which are not among what it saw.
2. Where no workspace is configured, whoever can open the socket may use every one. Where one is, each may be used by
   those that it lists, and those that are not configured by nobody else than 3.
3. The daemon's own user and root may use every workspace.
4. Names are looked up when the configuration is read; one that nobody has is refused. So is the user that stands for
   all those the kernel cannot name here (``nobody``): it would be everybody of another user namespace.

Not here: what is answered to whoever may not (``server/methods/access.py``).
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs

from outlived.settings import SettingsRefused, WorkspaceSettings

MAX_ID = 0xFFFFFFFE


@attrs.frozen
class Members:
    """Who may use a workspace."""

    uids: frozenset[int]
    gids: frozenset[int]

    def has(self, uid: int, gid: int) -> bool:
        return uid in self.uids or gid in self.gids


@attrs.frozen
class Access:
    """All that is configured; empty: everybody may use everything."""

    workspaces: Mapping[str, Members] = attrs.Factory(dict)

    def list_workspaces(self, uid: int, gid: int, *, trusted: bool) -> list[str] | None:
        """Those that this peer may use, in order of their names; None: any."""
        if trusted or not self.workspaces:
            return None
        return sorted(name for name, members in self.workspaces.items() if members.has(uid, gid))


def open_access(configured: Mapping[str, WorkspaceSettings]) -> Access:
    """What the settings mean on this machine. Raises SettingsRefused."""
    nobody, nogroup = _read_overflow("overflowuid"), _read_overflow("overflowgid")
    return Access({
        name: Members(
            _find_all(f"workspaces.{name}.users", each.users, lambda user: pwd.getpwnam(user).pw_uid, nobody),
            _find_all(f"workspaces.{name}.groups", each.groups, lambda group: grp.getgrnam(group).gr_gid, nogroup),
        )
        for name, each in configured.items()
    })  # fmt: skip


def _find_all(
    key: str, names: Iterable[str | int], find: Callable[[str], int], overflow: int
) -> frozenset[int]:
    found = set()
    for name in names:
        try:
            number = name if isinstance(name, int) else find(name)
        except (KeyError, ValueError) as error:
            raise SettingsRefused(f"cannot accept {key}: there is no {name!r} on this machine") from error
        if number > MAX_ID:
            raise SettingsRefused(f"cannot accept {key}: {number} is no id")
        if number == overflow:
            raise SettingsRefused(
                f"cannot accept {key}: {name!r} stands for everybody the kernel cannot name here"
            )
        found.add(number)
    return frozenset(found)


def _read_overflow(name: str) -> int:
    try:
        return int(Path("/proc/sys/kernel", name).read_text("ascii"))
    except (OSError, ValueError):
        return 65534
