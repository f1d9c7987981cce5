"""Processes of this host: who they are, who belongs to a run, and that nobody else is ever signalled."""

import os
import signal
import subprocess
from contextlib import contextmanager

import attrs
import pytest
import trio

from outlived import processes
from outlived.identifiers import make_id
from outlived.processes import (
    find_run_processes,
    kill_run_processes,
    read_child_identity,
    read_identity,
    read_own_identity,
    read_start_ticks,
    send_signal,
    signal_group,
)
from tests.support.locks import wait_for
from tests.support.programs import list_pids, python, read_state

TREE = """
import os, time
for generation in range(7):
    if os.fork() == 0 and generation % 2:
        os.setsid()
time.sleep(1000)
"""
"""128 processes in seven doublings; many leave their session."""

BARE = "env -i sh -c 'echo $$; exec sleep 1000' & wait"
"""Has a child without its environment, and says its pid."""

NAMED = """
import ctypes, sys, time
ctypes.CDLL(None).prctl(15, sys.argv[1].encode("latin-1"), 0, 0, 0)
print("ready", flush=True)
time.sleep(1000)
"""


@contextmanager
def living(command=("sleep", "1000"), run_id=None, **options):
    """A process of a run; killed on the way out, with its session, if it still lives."""
    environment = {**os.environ, **({processes.RUN_VARIABLE: run_id} if run_id else {})}
    with subprocess.Popen(command, env=environment, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def pids_of(found, run_id):
    return sorted(identity.pid for identity in found.get(run_id, []))


# ---------------------------------------------------------------- who they are


def test_a_process_is_its_boot_namespace_pid_and_start():
    """An identity is the same at every look, another process has another, and nobody has none."""
    me = read_own_identity()
    assert me == read_identity(os.getpid()) == read_own_identity()
    assert me.pid == os.getpid()
    with living() as process:
        assert read_identity(process.pid) != attrs.evolve(me, pid=process.pid)
    assert read_identity(process.pid) is None
    assert read_start_ticks(2**22 + 1) is None


def test_a_zombie_is_gone():
    """A process that has ended but was not waited for has no identity, except for its parent's own use."""
    with living() as process:
        alive = read_identity(process.pid)
        assert read_child_identity(process.pid) == alive
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert read_state(process.pid) == "Z"
        assert read_identity(process.pid) is None
        assert read_start_ticks(process.pid) is None
        assert read_child_identity(process.pid) == alive
        assert not send_signal(alive, signal.SIGTERM)


@pytest.mark.parametrize("name", ["a b", ") Z 1 (", "\xff\xfe", "x)"])
def test_a_strange_name_changes_nothing(name):
    """A process may call itself what it likes: its identity is read all the same, and so is everybody's."""
    run_id = make_id()
    with living([*python(NAMED), name], run_id, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        identity = read_identity(process.pid)
        assert identity is not None
        assert pids_of(find_run_processes({run_id: None}), run_id) == [process.pid]
        assert send_signal(identity, signal.SIGKILL)


# ---------------------------------------------------------------- signals


def test_a_signal_reaches_exactly_that_process():
    """The process meant is signalled; afterwards there is nobody to signal."""
    with living() as process:
        identity = read_identity(process.pid)
        assert send_signal(identity, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not send_signal(identity, signal.SIGKILL)


@pytest.mark.parametrize("forged", [{"start_ticks": 1}, {"start_ticks": 2**62}])
async def test_a_pid_that_is_used_again_is_never_signalled(forged):
    """A process that merely has the pid of one that is gone is neither signalled nor counted as of the run."""
    run_id = make_id()
    with living() as bystander:
        recycled = attrs.evolve(read_identity(bystander.pid), **forged)
        assert not send_signal(recycled, signal.SIGKILL)
        assert find_run_processes({run_id: recycled}) == {}
        assert find_run_processes({run_id: recycled}, just_ended=True) == {}
        assert await kill_run_processes({run_id: recycled}, just_ended=True) == []
        assert bystander.poll() is None


@pytest.mark.parametrize("forged", [{"boot_id": "another"}, {"pid_namespace": "pid:[1]"}])
def test_a_process_of_another_boot_or_namespace_proves_nothing(forged):
    """A leader recorded elsewhere says nothing about the session of that number here."""
    run_id = make_id()
    with living() as bystander:
        elsewhere = attrs.evolve(read_identity(bystander.pid), **forged)
        assert find_run_processes({run_id: elsewhere}) == {}


def test_signalling_a_group_that_is_gone_is_no_error():
    """A group whose last process has just ended is not worth an exception."""
    with living() as process:
        process.kill()
    signal_group(process.pid, signal.SIGTERM)


# ---------------------------------------------------------------- who belongs to a run


def test_a_runs_processes_are_found_by_their_environment():
    """Whoever carries the run's id is its process, in whatever session, recorded or not; nobody else is."""
    ours, theirs = make_id(), make_id()
    with (
        living(run_id=ours) as first,
        living(run_id=ours) as second,
        living(run_id=theirs) as other,
        living(),
    ):
        assert pids_of(find_run_processes({ours: None}), ours) == sorted([first.pid, second.pid])
        both = find_run_processes({ours: None, theirs: None})
        assert pids_of(both, theirs) == [other.pid]
        assert find_run_processes({make_id(): None}) == {}


def test_a_runs_processes_are_found_by_their_session():
    """A child that lost the environment is found by the session of the run's first process while that lives."""
    run_id = make_id()
    with living(["sh", "-c", BARE], run_id, stdout=subprocess.PIPE) as leader:
        child = int(leader.stdout.readline())
        identity = read_identity(leader.pid)
        assert pids_of(find_run_processes({run_id: identity}), run_id) == sorted([leader.pid, child])
        assert pids_of(find_run_processes({run_id: None}), run_id) == [leader.pid]


def test_a_session_outlives_its_leader_only_for_a_witness():
    """After the leader's death its session proves something only to the one who saw it die."""
    run_id = make_id()
    with living(["sh", "-c", BARE], run_id, stdout=subprocess.PIPE) as leader:
        child = int(leader.stdout.readline())
        identity = read_identity(leader.pid)
        leader.kill()
        leader.wait()
        try:
            assert find_run_processes({run_id: identity}) == {}
            assert pids_of(find_run_processes({run_id: identity}, just_ended=True), run_id) == [child]
        finally:
            os.kill(child, signal.SIGKILL)


def test_the_daemon_is_no_process_of_a_run(monkeypatch):
    """A daemon that was itself started by a run does not find itself."""
    run_id = make_id()
    script = f"import sys; sys.path[:] = {os.sys.path!r}\nfrom outlived.processes import find_run_processes\n"
    script += f"print(find_run_processes({{{run_id!r}: None}}))"
    with living([os.sys.executable, "-c", script], run_id, stdout=subprocess.PIPE) as process:
        assert process.stdout.read() == b"{}\n"


# ---------------------------------------------------------------- killing


async def test_a_tree_that_is_still_growing_is_killed():
    """A hundred processes and more, forking while they are killed, half of them in sessions of their own: none is left."""
    run_id = make_id()
    with living([*python(TREE), run_id], run_id):
        await wait_for(lambda: len(list_pids(run_id)) > 20, "the tree grows")
        with trio.fail_after(20):
            assert await kill_run_processes({run_id: None}) == []
        assert list_pids(run_id) == []


async def test_a_process_that_forks_during_the_look_is_killed(monkeypatch):
    """A process that forks after /proc was listed, and is gone before it is looked at, does not hide its child."""
    run_id = make_id()
    hop = "import os, sys, time; sys.stdin.read(); os.fork() and os._exit(0); time.sleep(1000)"
    list_all, hopped = processes._list_pids, []

    def list_then_hop():
        listed = list_all()
        if not hopped:
            hopped.append(True)
            process.stdin.close()
            process.wait()
        return listed

    with living([*python(hop), run_id], run_id, stdin=subprocess.PIPE) as process:
        monkeypatch.setattr(processes, "_list_pids", list_then_hop)
        assert await kill_run_processes({run_id: None}) == []
        assert hopped
        left = list_pids(run_id)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert left == []


async def test_several_runs_are_killed_in_one_go():
    """Killing for many runs kills all of theirs, and nobody else's."""
    ours = [make_id() for _ in range(3)]
    with living(run_id=ours[0]) as a, living(run_id=ours[1]) as b, living(run_id=make_id()) as other:
        assert await kill_run_processes(dict.fromkeys(ours)) == []
        assert (a.wait(), b.wait()) == (-signal.SIGKILL, -signal.SIGKILL)
        assert other.poll() is None


async def test_what_cannot_be_killed_is_reported(monkeypatch):
    """Runs whose processes do not die are named, after a bounded number of rounds."""
    monkeypatch.setattr(processes, "KILL_ROUNDS", 3)
    monkeypatch.setattr(processes, "send_signal", lambda *_: False)
    run_id = make_id()
    with living(run_id=run_id) as process:
        assert await kill_run_processes({run_id: None, make_id(): None}) == [run_id]
        assert process.poll() is None
