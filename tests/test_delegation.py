"""Which cgroup's children are ours to make: systemd is asked, where there is one."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived import delegation
from outlived.delegation import NotDelegated, find_subtree, list_places

MOUNT = "38 31 0:35 {root} {place} rw,relatime shared:9 - {kind} cgroup2 rw,nsdelegate"


def test_the_place_of_a_cgroup_is_read_from_what_the_kernel_says():
    """Version 2 may be the only one, one of two, or a part of another container's; version 1 does not count."""
    unified = MOUNT.format(root="/", place="/sys/fs/cgroup", kind="cgroup2")
    hybrid = MOUNT.format(root="/", place="/sys/fs/cgroup/unified", kind="cgroup2")
    part = MOUNT.format(root="/docker/1", place="/sys/fs/cgroup", kind="cgroup2")
    old = MOUNT.format(root="/", place="/sys/fs/cgroup/memory", kind="cgroup")
    odd = MOUNT.format(root="/", place="/a\\040b", kind="cgroup2")
    mine = "9:memory:/x\n0::/a.slice/b.service\n"
    assert list_places(unified, mine) == [Path("/sys/fs/cgroup/a.slice/b.service")]
    assert list_places(f"{old}\n{hybrid}", mine) == [Path("/sys/fs/cgroup/unified/a.slice/b.service")]
    assert list_places(part, "0::/docker/1/c\n") == [Path("/sys/fs/cgroup/c")]
    assert list_places(part, "0::/docker/1\n") == [Path("/sys/fs/cgroup")]
    assert list_places(part, "0::/docker/10\n") == []
    assert list_places(odd, "0::/\n") == [Path("/a b")]
    assert list_places(old, mine) == []
    assert list_places(unified, "9:memory:/x\n") == []
    assert list_places("", "") == []


@given(st.text(), st.text())
@settings(derandomize=True, deadline=None)
def test_whatever_is_read_there_are_places_or_none(mountinfo, cgroup):
    """Nothing that stands there is a reason to fail."""
    assert all(isinstance(place, Path) for place in list_places(mountinfo, cgroup))


@pytest.mark.parametrize(
    ("own", "delegated", "chosen"),
    [
        ("a.slice/b.service", "a.slice/b.service", "a.slice/b.service"),
        ("a.slice/b.service/daemon", "a.slice/b.service", "a.slice/b.service"),
        ("user@1.service/b.service", "user@1.service", None),
        ("user@1.service/app.slice/b.service/daemon", "user@1.service", None),
        ("a.slice/b.service", "a.slice", None),
        ("a.slice/b.service", "", None),
    ],
)
def test_systemd_says_what_is_ours(own, delegated, chosen, monkeypatch):
    """With systemd, our own cgroup or the one around our leaf is ours if it was delegated, and to nobody else."""
    monkeypatch.setattr(delegation, "_has_systemd", lambda: True)
    monkeypatch.setattr(delegation, "_is_delegated", lambda path: str(path) == f"/c/{delegated}")
    if chosen is None:
        with pytest.raises(NotDelegated, match="delegated"):
            delegation._choose_base(Path("/c") / own)
    else:
        assert delegation._choose_base(Path("/c") / own) == Path("/c") / chosen


@pytest.mark.parametrize(
    ("own", "says", "chosen"),
    [
        ("app.slice/b.service", True, "app.slice/b.service"),
        ("app.slice/b.service/daemon", True, "app.slice/b.service"),
        ("app.slice/b.service", False, None),
    ],
)
def test_a_manager_that_leaves_no_mark_is_asked(own, says, chosen, tmp_path, monkeypatch):
    """A manager that leaves no mark on what it delegates is asked for the unit, and believed."""
    unit, asked = tmp_path / "app.slice/b.service", []
    unit.mkdir(parents=True)
    (unit / "cgroup.procs").touch()
    monkeypatch.setattr(delegation, "_has_systemd", lambda: True)
    monkeypatch.setattr(delegation, "_is_delegated", lambda _: False)
    monkeypatch.setattr(delegation, "_ask_manager", lambda path: asked.append(path) or says)
    if chosen is None:
        with pytest.raises(NotDelegated, match="delegated"):
            delegation._choose_base(tmp_path / own)
    else:
        assert delegation._choose_base(tmp_path / own) == tmp_path / chosen
    assert asked == [unit]


@pytest.mark.parametrize(
    ("answer", "delegated"), [("yes", True), ("no", False), ("", False), ("no such unit >&2; exit 4", False)]
)
def test_the_right_manager_is_believed_word_for_word(answer, delegated, tmp_path, monkeypatch):
    """A unit below the user's own manager is that one's, any other the system's; only yes is yes."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$1 $5" >{tmp_path}/asked\necho {answer}\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for place, whose in ((f"user@{os.geteuid()}.service/a.service", "--user"), ("a.service", "--system")):
        assert delegation._ask_manager(Path("/c") / place) is delegated
        assert (tmp_path / "asked").read_text() == f"{whose} a.service\n"


def test_a_subtree_that_cannot_be_written_is_none(tmp_path, monkeypatch):
    """What was delegated and is mounted read-only, or is somebody else's, is not ours; the reason is said."""
    monkeypatch.setattr(delegation, "_find_own", lambda: tmp_path / "gone")
    monkeypatch.setattr(delegation, "_has_systemd", lambda: False)
    with pytest.raises(NotDelegated, match="No such file"):
        find_subtree()


def test_a_process_without_version_2_has_no_subtree(monkeypatch):
    """Where no cgroup of version 2 has this process in it there is none."""
    monkeypatch.setattr(delegation, "list_places", lambda *_: [Path("/nowhere")])
    with pytest.raises(NotDelegated, match="version 2"):
        find_subtree()


def test_a_manager_that_does_not_answer_has_delegated_nothing(monkeypatch):
    """No systemctl, no user manager, no such unit: nothing was delegated."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    manager = Path(f"/c/user@{os.geteuid()}.service")
    assert not delegation._ask_manager(manager / "b.service")
    monkeypatch.setenv("PATH", "/nowhere")
    assert not delegation._ask_manager(manager / "b.service")
