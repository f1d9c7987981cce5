"""Trees of processes that try to get away from their run: none is left, the wrapper goes last, no stranger suffers."""

import itertools
import os
import signal
import subprocess
import time

import attrs
import pytest
import trio
import trio.testing

from outlived import processes
from outlived.identifiers import make_id
from outlived.processes import (
    find_run_processes,
    kill_run_processes,
    read_child_identity,
    read_identity,
    wait_gone,
)
from tests.support.locks import wait_for
from tests.support.programs import list_pids, python, started
from tests.support.trees import SIZES, TREES, count_planted, planted

words = itertools.count(2_000_000)
SECONDS = 5.0
"""About one, on a machine that does nothing else."""


@pytest.fixture
def word():
    return f"{next(words)}.{os.getpid()}"


async def grown(name, word, wrapper):
    await wait_for(
        lambda: count_planted(word, wrapper.pid) >= SIZES.get(name, 1), f"the tree {name} has grown"
    )


# ---------------------------------------------------------------- trees


@pytest.mark.parametrize("name", TREES)
async def test_nothing_of_a_tree_is_left(name, word):
    """However a run's processes forked, and whatever they ignore, they are gone soon, without the run's cgroup."""
    run_id = make_id()
    with planted(name, word, run_id) as (wrapper, leader):
        await grown(name, word, wrapper)
        began = time.monotonic()
        assert await kill_run_processes({run_id: leader}) == []
        assert time.monotonic() - began < SECONDS
        assert list_pids(word) == []
        assert wrapper.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("name", ["bare double fork", "stopped"])
async def test_descent_finds_what_nothing_else_does(name, word):
    """Orphans that left session and environment behind are found below a wrapper that inherits them, and only there."""
    run_id = make_id()
    with planted(name, word, run_id) as (wrapper, leader):
        await grown(name, word, wrapper)
        found = {identity.pid for identity in find_run_processes({run_id: leader})[run_id]}
        assert found >= set(list_pids(word))
        unknown = {identity.pid for identity in find_run_processes({run_id: None})[run_id]}
        assert unknown.isdisjoint(set(list_pids(word)) - {wrapper.pid})


async def test_without_a_subreaper_orphans_are_lost(word):
    """What makes the difference is the wrapper's inheriting: orphans of a plain one are nobody's."""
    run_id = make_id()
    with planted("bare double fork", word, run_id, subreaper=False) as (wrapper, leader):
        await grown("bare double fork", word, wrapper)
        found = {identity.pid for identity in find_run_processes({run_id: leader})[run_id]}
        assert found.isdisjoint(set(list_pids(word)) - {wrapper.pid})


async def test_the_leader_is_killed_last(word, monkeypatch):
    """A run's wrapper gets its signal only after looks that found nothing else of its run."""
    run_id, signalled = make_id(), []
    send = processes.send_signal
    with planted("bare double fork", word, run_id) as (wrapper, leader):

        def note(identity, number):
            signalled.append((identity.pid, number, list_pids(word)))
            return send(identity, number)

        monkeypatch.setattr(processes, "send_signal", note)
        await grown("bare double fork", word, wrapper)
        assert await kill_run_processes({run_id: leader}) == []
    to_leader = [number for pid, number, _ in signalled if pid == leader.pid]
    assert to_leader == [signal.SIGSTOP, signal.SIGKILL]
    assert signalled[-1] == (leader.pid, signal.SIGKILL, [leader.pid])


async def test_a_leader_that_starts_others_anew_does_not_hold_up_the_end(word):
    """A run's first process that replaces what is killed is stopped before its children are killed."""
    run_id = make_id()
    forever = "import subprocess\nwhile True: subprocess.run(['sleep', '1000'])"
    with started(*python(forever), word, start_new_session=True) as process:
        leader = read_child_identity(process.pid)
        await wait_for(lambda: len(find_run_processes({run_id: leader})[run_id]) == 2, "it has a child")
        began = time.monotonic()
        assert await kill_run_processes({run_id: leader}) == []
        assert time.monotonic() - began < processes.KILL_ROUNDS * 0.02
        assert process.wait(5) == -signal.SIGKILL


async def test_a_leader_goes_even_if_something_stays(word, monkeypatch):
    """What does not die in time does not keep the wrapper alive, and is reported."""
    run_id = make_id()
    send = processes.send_signal
    with planted("bare double fork", word, run_id) as (wrapper, leader):
        monkeypatch.setattr(processes, "KILL_ROUNDS", 3)
        monkeypatch.setattr(
            processes, "send_signal", lambda who, number: who.pid == leader.pid and send(who, number)
        )
        await grown("bare double fork", word, wrapper)
        await kill_run_processes({run_id: leader})
        assert wrapper.wait(5) == -signal.SIGKILL


# ---------------------------------------------------------------- strangers


async def test_a_stranger_with_the_parents_number_is_no_descendant(word, monkeypatch):
    """If a parent's number was used again while the process table was read, its new children are not the run's."""
    run_id = make_id()
    with planted("plain", word, run_id) as (wrapper, leader):
        await grown("plain", word, wrapper)
        real = processes.read_start_ticks
        looks = []

        def used_again(pid):
            looks.append(pid)
            return real(pid) if pid != wrapper.pid or looks.count(pid) == 1 else 2**62

        monkeypatch.setattr(processes, "read_start_ticks", used_again)
        monkeypatch.setattr(processes, "_read_run_id", lambda _: None)
        environs = {identity.pid for identity in find_run_processes({run_id: attrs.evolve(leader)})[run_id]}
        in_session = {pid for pid in environs if pid != wrapper.pid and os.getsid(pid) != wrapper.pid}
        assert in_session == set()


@pytest.mark.parametrize("forged", [{"start_ticks": 1}, {"boot_id": "another"}, {"pid_namespace": "pid:[1]"}])
async def test_descendants_of_a_stranger_are_left_alone(word, forged):
    """A leader of whom only the number is right is a stranger: neither it nor its children are signalled."""
    other, run_id = make_id(), make_id()
    with planted("session", word, other) as (wrapper, leader):
        await grown("session", word, wrapper)
        before = set(list_pids(word))
        assert await kill_run_processes({run_id: attrs.evolve(leader, **forged)}) == []
        assert set(list_pids(word)) == before
        assert wrapper.poll() is None


async def test_a_daemon_below_a_run_is_spared():
    """A daemon that a run of its own has started kills around itself and what it started itself."""
    run_id = make_id()
    script = (
        f"import sys; sys.path[:] = {os.sys.path!r}\n"
        "import os, subprocess\n"
        "from outlived.processes import find_run_processes, read_identity\n"
        "child = subprocess.Popen(['sleep', '1000'], env={}, start_new_session=True)\n"
        f"found = find_run_processes({{{run_id!r}: read_identity(os.getppid())}})\n"
        f"print(sorted(each.pid for each in found[{run_id!r}]) == [os.getppid()])\n"
        "child.kill()\n"
    )
    command = ["sh", "-c", '"$@" <&-; exit', "sh", os.sys.executable, "-c", script]
    with started(*command, stdout=subprocess.PIPE, start_new_session=True) as shell:
        assert shell.stdout.read() == b"True\n"


# ---------------------------------------------------------------- containers


@attrs.define
class Box:
    """Contains a run, and notes when it was killed."""

    when: list = attrs.Factory(list)

    async def kill(self):
        self.when.append("box")
        return True


async def test_a_runs_container_is_killed_first(word, monkeypatch):
    """Whatever contains a run is killed before anything is looked for; a run without one is found all the same."""
    ours, other = make_id(), make_id()
    box = Box()
    send = processes.send_signal
    monkeypatch.setattr(
        processes, "send_signal", lambda who, number: box.when.append("signal") or send(who, number)
    )
    with planted("session", word, ours) as (wrapper, leader):
        await grown("session", word, wrapper)
        boxes = {ours: box}
        assert await kill_run_processes({ours: leader, other: None}, find_container=boxes.get) == []
        assert box.when[0] == "box"
        assert box.when.count("box") == 1
        assert list_pids(word) == []


# ---------------------------------------------------------------- waiting for somebody else's child


async def test_the_end_of_a_process_that_is_no_child_is_seen(word):
    """Waiting for a process of an earlier daemon returns when it has ended, not before."""
    with planted("session", word, make_id()) as (wrapper, _):
        await grown("session", word, wrapper)
        [pid] = [pid for pid in list_pids(word) if pid != wrapper.pid]
        identity = read_identity(pid)
        with trio.move_on_after(0.05) as soon:
            await wait_gone(identity)
        assert soon.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_gone, identity)
            await trio.testing.wait_all_tasks_blocked()
            os.kill(pid, signal.SIGKILL)
            nursery.cancel_scope.deadline = trio.current_time() + 10
        assert not nursery.cancel_scope.cancelled_caught


@pytest.mark.parametrize("forged", [{"start_ticks": 1}, {"pid": 2**22 + 1}])
async def test_who_is_gone_is_not_waited_for(forged):
    """A process that has ended, or whose number somebody else has now, is gone at once."""
    with trio.fail_after(5):
        await wait_gone(attrs.evolve(processes.read_own_identity(), **forged))


async def test_without_a_pidfd_the_end_is_seen_all_the_same(monkeypatch):
    """Where no descriptor is to be had, looking now and then has to do."""

    def refuse(pid):
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", refuse)
    monkeypatch.setattr(processes, "LOOK_SECONDS", 0.001)
    with started("sleep", "1000") as process, trio.fail_after(5):
        identity = read_child_identity(process.pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_gone, identity)
            await trio.testing.wait_all_tasks_blocked()
            process.kill()
