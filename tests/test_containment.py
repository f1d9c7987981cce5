"""What runs are held with: said as it is, and limits set from outside on a process that waits."""

import resource
import subprocess
import sys

import pytest

from outlived import containment
from outlived.cgroups import Cgroup, Cgroups
from outlived.containment import Containment, apply_limits, open_containment
from outlived.rules.limits import NO_LIMITS, Limits
from tests.support.programs import started

WAITS = "import sys; sys.stdin.read(); "
HELD = """
import os, signal, subprocess
from outlived.containment import apply_limits
from outlived.rules.limits import Limits
if os.geteuid() == 0:
    os.setuid(65534)
crowd = "read -r go; for each in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; wait"
pipes = dict.fromkeys(("stdin", "stderr"), subprocess.PIPE)
shell = subprocess.Popen(["sh", "-c", crowd], cwd="/", start_new_session=True, text=True, **pipes)
apply_limits(shell.pid, Limits(max_pids=6), None)
shell.stdin.write("go\\n")
shell.stdin.flush()
print(shell.stderr.readline())
os.killpg(shell.pid, signal.SIGKILL)
"""
"""Does as an ordinary user does: root is held by no such limit."""


@pytest.fixture
def waiting():
    """Start a Python that waits at its gate, then does what it was told."""
    started = []

    def start(script):
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", WAITS + script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_memory_is_bounded_from_outside(waiting):
    """A waiting process that was limited cannot get more memory than that, nor can its children."""
    nested = (
        "import subprocess; sys.exit(subprocess.call([sys.executable, '-S', '-c', 'bytearray(1 << 30)']))"
    )
    process = waiting(nested)
    apply_limits(process.pid, Limits(max_memory=256 << 20), None)
    _, said = process.communicate("", timeout=30)
    assert process.returncode == 1
    assert "MemoryError" in said


def test_processes_are_bounded_from_outside(waiting):
    """The limit is that many above what the user has already, and is never raised."""
    process = waiting("")
    apply_limits(process.pid, Limits(max_pids=50), None)
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NPROC)
    assert soft == hard
    assert 50 < soft < 50 + 100_000
    apply_limits(process.pid, Limits(max_pids=50_000_000), None)
    assert resource.prlimit(process.pid, resource.RLIMIT_NPROC) == (soft, hard)


@pytest.mark.parametrize("limits", [NO_LIMITS, Limits(wall_seconds=1, idle_seconds=1)])
def test_without_a_limit_nothing_is_set(limits, waiting):
    """What is not limited stays as it was."""
    process = waiting("")
    before = [resource.prlimit(process.pid, which) for which in (resource.RLIMIT_DATA, resource.RLIMIT_NPROC)]
    apply_limits(process.pid, limits, None)
    after = [resource.prlimit(process.pid, which) for which in (resource.RLIMIT_DATA, resource.RLIMIT_NPROC)]
    assert after == before


def test_what_the_cgroup_holds_needs_no_rlimit(waiting, tmp_path):
    """A limit is held once, by the better means: the cgroup's controller."""
    process = waiting("")
    before = resource.prlimit(process.pid, resource.RLIMIT_NPROC)
    cgroup = Cgroup(tmp_path, frozenset({"memory"}))
    apply_limits(process.pid, Limits(max_memory=256 << 20, max_pids=50), cgroup)
    assert resource.prlimit(process.pid, resource.RLIMIT_DATA) == (resource.RLIM_INFINITY,) * 2
    assert resource.prlimit(process.pid, resource.RLIMIT_NPROC) != before


def test_a_process_that_is_gone_is_no_stranger():
    """Limits for a process that has ended are refused, whoever called is told."""
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(ProcessLookupError):
        apply_limits(process.pid, Limits(max_memory=1 << 30), None)


def test_what_is_in_force_is_said(tmp_path, monkeypatch):
    """Whether there are cgroups and controllers, and what holds each limit; root has no limit of processes."""
    none, plain = Containment(), Containment(Cgroups(tmp_path))
    full = Containment(Cgroups(tmp_path, frozenset({"memory", "pids"})))
    assert (none.kill, none.controllers, none.memory) == ("descendants", [], "rlimit")
    assert (plain.kill, plain.controllers, plain.memory) == ("cgroup", [], "rlimit")
    assert (full.kill, full.controllers, full.memory, full.pids) == (
        "cgroup",
        ["memory", "pids"],
        "cgroup",
        "cgroup",
    )
    monkeypatch.setattr(containment, "_is_true_root", lambda: False)
    assert none.pids == plain.pids == "rlimit"
    monkeypatch.setattr(containment, "_is_true_root", lambda: True)
    assert none.pids == plain.pids == "none"


def test_containment_can_do_without_cgroups():
    """Switched off, there are none, and nothing of a run is looked for in one."""
    off = open_containment("off")
    assert off.cgroups is None
    assert off.open_cgroup("run", NO_LIMITS) is None
    assert off.find_cgroup("run") is None


def test_a_user_is_held_by_the_limit_of_processes():
    """A user's process cannot fork beyond its limit, however many processes others have."""
    with started(sys.executable, "-c", HELD, stdout=subprocess.PIPE, text=True) as process:
        said = process.communicate(timeout=30)[0]
    assert "fork" in said
