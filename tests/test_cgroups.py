"""Cgroups of runs: where they may be, what they contain, how they end; in real ones where this process may make them."""

import itertools
import os
import signal
import subprocess
import sys

import attrs
import pytest
import trio

from outlived import cgroups as leaf
from outlived.cgroups import Cgroup, Cgroups, find_cgroups
from outlived.identifiers import make_id
from outlived.rules.limits import Limits
from tests.support.locks import wait_for
from tests.support.programs import list_pids, read_state, started
from tests.support.trees import SIZES, TREES, script

words = itertools.count(3_000_000)


@pytest.fixture
def found():
    """Where this process may make cgroups. Others may be there that are none of ours."""
    found = find_cgroups()
    if found is None:
        pytest.skip("there is no cgroup here that this process may make others in")
    return found


@pytest.fixture
def ours(found):
    """A cgroup of the test's own, for others; what a test leaves there is removed."""
    around = Cgroup(found.base / f"test-{make_id()}")
    around.path.mkdir()
    yield Cgroups(around.path)
    trio.run(around.kill)
    assert around.remove()


@pytest.fixture
def word():
    return f"{next(words)}.{os.getpid()}"


def plant(cgroup, name, word):
    """A tree in a cgroup, from its first process on."""
    gate = 'read -r go; eval "$1"'
    process = subprocess.Popen(
        ["sh", "-c", gate, "sh", script(name, word)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert cgroup.add(process.pid)
    process.stdin.write(b"go\n")
    process.stdin.close()
    process.wait()
    return process.pid


# ---------------------------------------------------------------- where they are


def test_cgroups_can_be_switched_off():
    """``cgroups = "off"`` means off."""
    assert find_cgroups("off") is None


def test_controllers_are_only_for_the_root(tmp_path):
    """Where somebody has to put processes in beside the runs no controller is enabled: the next start would fail."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    assert leaf._list_controllers(tmp_path) == {"memory", "pids"}
    (tmp_path / "cgroup.type").write_text("domain\n")  # every one has a type but the root
    assert leaf._list_controllers(tmp_path) == frozenset()


def test_a_limit_is_set_where_there_is_a_controller(tmp_path):
    """What a controller can hold is written into the run's cgroup, and known again by a later daemon."""
    run_id = make_id()
    path = tmp_path / f"run-{run_id}"
    path.mkdir()
    for name in ("memory.max", "memory.swap.max", "pids.max"):
        (path / name).write_text("max")
    (tmp_path / "cgroup.subtree_control").write_text("")
    root = Cgroups(tmp_path, frozenset({"memory", "pids"}))
    assert root.find(run_id).controllers == frozenset()
    cgroup = root.open(run_id, Limits(max_memory=64 << 20, max_pids=500))
    assert cgroup.controllers == {"memory", "pids"}
    assert root.find(run_id) == cgroup
    assert [(path / name).read_text() for name in ("memory.max", "pids.max")] == ["67108864", "500"]


# ---------------------------------------------------------------- what they contain


@pytest.mark.parametrize("kill", ["cgroup.kill", "not.in.this.kernel"])
@pytest.mark.parametrize("name", TREES)
async def test_nothing_leaves_a_cgroup_alive(name, kill, ours, word, monkeypatch):
    """However a run's processes forked, and whatever they ignore, killing their cgroup is the end of them."""
    monkeypatch.setattr(leaf, "_KILL", kill)
    cgroup = ours.open(make_id())
    plant(cgroup, name, word)
    await wait_for(lambda: len(list_pids(word)) >= SIZES.get(name, 1), f"the tree {name} has grown")
    await wait_for(lambda: set(cgroup.list_pids()) >= set(list_pids(word)), "all of it is in the cgroup")
    with trio.fail_after(5):
        assert await cgroup.kill()
    assert list_pids(word) == []
    assert not cgroup.is_populated()
    assert cgroup.remove()
    assert not cgroup.path.exists()


async def test_a_frozen_cgroup_does_nothing_until_it_is_thawed(ours, word):
    """Frozen processes stand still, go on when thawed, and can be killed while frozen."""
    cgroup = ours.open(make_id())
    plant(cgroup, "session", word)
    [pid] = await wait_for(lambda: list_pids(word), "it runs")
    events = cgroup.path / "cgroup.events"
    cgroup.freeze()
    await wait_for(lambda: "frozen 1" in events.read_text(), "it is frozen")
    cgroup.thaw()
    await wait_for(lambda: "frozen 0" in events.read_text(), "it is thawed")
    cgroup.freeze()
    await wait_for(lambda: "frozen 1" in events.read_text(), "it is frozen")
    assert await cgroup.kill()
    assert read_state(pid) in {None, "Z"}


async def test_what_a_run_made_below_its_cgroup_goes_with_it(ours, word):
    """A run that makes cgroups of its own is found, killed and removed with them."""
    cgroup = ours.open(make_id())
    below = cgroup.path / "a" / "b"
    below.mkdir(parents=True)
    with started("sleep", "1000") as process:
        (below / "cgroup.procs").write_text(str(process.pid))
        assert cgroup.list_pids() == [process.pid]
        assert not cgroup.remove()
        assert await cgroup.kill()
        assert process.wait(5) == -signal.SIGKILL
    assert cgroup.remove()
    assert cgroup.remove(), "it is gone, and that is no error"


async def test_a_later_daemon_finds_the_cgroup_of_a_run(ours, word):
    """What an earlier daemon made is found by the run's id, and listed; opening it again changes nothing."""
    run_id = make_id()
    cgroup = ours.open(run_id)
    assert ours.open(run_id) == cgroup
    again = attrs.evolve(ours)
    assert again.find(run_id) == cgroup
    assert run_id in again.list_run_ids()
    assert again.find(make_id()) is None
    assert cgroup.remove()
    assert again.find(run_id) is None


def test_a_process_that_is_gone_cannot_be_put_in(ours):
    """Whoever ended at the gate is not put into a cgroup, and the caller is told."""
    cgroup = ours.open(make_id())
    process = subprocess.Popen(["true"])
    process.wait()
    assert not cgroup.add(process.pid)


def test_nobody_outside_is_killed_without_the_kernels_help(ours):
    """A process that has a number of the list by the time it is looked at is not signalled."""
    cgroup = ours.open(make_id())
    with started("sleep", "1000") as stranger:
        cgroup._kill_one(stranger.pid)
        assert stranger.poll() is None


async def test_what_dead_daemons_left_is_tidied_away(ours, word, autojump_clock):
    """A cgroup that was empty, and is after a while, is removed; one where something lives, or that is new, is not."""
    left, alive, begun, new = (make_id() for _ in range(4))
    ours.open(left)
    plant(ours.open(alive), "session", word)
    ours.open(begun)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.tidy)
        await trio.sleep(leaf.TIDY_SECONDS / 2)
        plant(ours.find(begun), "session", word)
        ours.open(new)
    assert ours.find(left) is None
    assert {alive, begun, new} <= set(ours.list_run_ids())
    assert ours.find(new).remove()


async def test_what_does_not_die_is_said(ours, word, monkeypatch):
    """Killing is bounded in time, and says if something lives on."""
    cgroup = ours.open(make_id())
    plant(cgroup, "session", word)
    with monkeypatch.context() as patch:
        patch.setattr(leaf, "KILL_SECONDS", 0.05)
        patch.setattr(Cgroup, "_kill_all", lambda _: None)
        assert not await cgroup.kill()
    assert await cgroup.kill()


def test_a_cgroup_that_cannot_be_made_is_no_ones_failure(tmp_path):
    """Where no cgroup can be made a run does without."""
    nowhere = Cgroups(tmp_path / "missing", frozenset({"memory"}))
    assert nowhere.open(make_id()) is None
    assert nowhere.find(make_id()) is None
    assert nowhere.list_run_ids() == []


# ---------------------------------------------------------------- limits


def test_only_controllers_that_are_there_hold_a_limit(ours):
    """A limit that no controller can hold is not claimed to be held."""
    limits = Limits(max_memory=64 << 20, max_pids=50)
    assert ours.open(make_id(), limits).controllers == frozenset()
    lying = attrs.evolve(ours, controllers=frozenset({"memory", "pids"}))
    assert lying.open(make_id(), limits).controllers == frozenset()


def test_a_run_that_needs_too_much_memory_is_told_from_others(found):
    """The kernel's kill for want of memory is seen in the run's cgroup."""
    if "memory" not in found.controllers:
        pytest.skip("the memory controller is not to be had here")
    cgroup = found.open(make_id(), Limits(max_memory=32 << 20))
    hog = "import sys; sys.stdin.read(); x = bytearray(256 << 20)"
    with started(sys.executable, "-c", hog, stdin=subprocess.PIPE) as process:
        cgroup.add(process.pid)
        process.stdin.close()
        assert process.wait(30) == -signal.SIGKILL
    assert cgroup.was_out_of_memory()
    assert cgroup.remove()


def test_a_run_without_that_controller_was_never_out_of_memory(ours):
    """Where nothing is accounted nothing is claimed."""
    assert not ours.open(make_id()).was_out_of_memory()


def test_the_memory_events_are_read_as_the_kernel_writes_them(tmp_path):
    """A kill counts, a try that came close does not."""
    cgroup = Cgroup(tmp_path, frozenset({"memory"}))
    (tmp_path / "memory.events").write_text("low 0\nhigh 3\nmax 17\noom 1\noom_kill 0\noom_group_kill 0\n")
    assert not cgroup.was_out_of_memory()
    (tmp_path / "memory.events").write_text("low 0\nhigh 3\nmax 17\noom 1\noom_kill 2\noom_group_kill 0\n")
    assert cgroup.was_out_of_memory()
