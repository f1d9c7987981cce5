"""Who may use which workspace: the lists, and the names in them."""

import grp
import os
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlived.settings import SettingsRefused, WorkspaceSettings
from outlived.supervisor.access import Access, Members, open_access

ids = st.integers(0, 5)
members = st.builds(Members, st.frozensets(ids), st.frozensets(ids))
accesses = st.builds(Access, st.dictionaries(st.sampled_from("abc"), members))


@given(accesses, ids, ids)
def test_lists_and_nothing_else_decide(access, uid, gid):
    """Without a list everybody may use everything; with one, those whose uid or gid is in it, and nobody else."""
    allowed = access.list_workspaces(uid, gid, trusted=False)
    if not access.workspaces:
        assert allowed is None
        return
    assert allowed == sorted(
        name for name, each in access.workspaces.items() if uid in each.uids or gid in each.gids
    )
    assert access.list_workspaces(uid, gid, trusted=True) is None


def test_names_are_looked_up():
    """Names and numbers mean the same."""
    me, mine = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    named = open_access({"w": WorkspaceSettings([me], [mine])})
    numbered = open_access({"w": WorkspaceSettings([os.getuid()], [os.getgid()])})
    assert named == numbered


@pytest.mark.parametrize(("key", "settings"), [
    ("workspaces.w.users: there is no 'no-such-user-here'", WorkspaceSettings(["no-such-user-here"])),
    ("workspaces.w.groups: there is no 'no-such-group-here'", WorkspaceSettings([], ["no-such-group-here"])),
    ("workspaces.w.users: 4294967295 is no id", WorkspaceSettings([0xFFFFFFFF])),
])  # fmt: skip
def test_nobody_is_allowed_by_mistake(key, settings):
    """A name that nobody has, or a number that is no id, is refused with its key: a misspelling opens nothing."""
    with pytest.raises(SettingsRefused, match=f"cannot accept {key}"):
        open_access({"w": settings})


def test_nobody_is_nobody():
    """The user that stands for all whom the kernel cannot name here cannot be listed."""
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    with pytest.raises(SettingsRefused, match="stands for everybody"):
        open_access({"w": WorkspaceSettings([overflow])})
