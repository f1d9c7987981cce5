"""Where /proc hides other users' processes, a daemon that is not seen is not dead."""

import os
import subprocess
import sys

import pytest

OTHER = 65534
LOOK = """
import ctypes, os, sys
from outlived import processes
pid, hidepid, uid = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x00020000) == 0, os.strerror(ctypes.get_errno())
assert libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0
assert libc.mount(b"proc", b"/proc", b"proc", 0, f"hidepid={hidepid}".encode()) == 0
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
print(processes.read_start_ticks(pid), processes.is_hidden(pid), processes.is_hidden(os.getpid()))
"""


def look(pid: int, hidepid: str) -> list[str]:
    """What another user sees of a process: its start, whether it is hidden, whether they are themselves."""
    words = [sys.executable, "-c", LOOK, str(pid), hidepid, str(OTHER)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide processes")
@pytest.mark.parametrize("hidepid", ["1", "2"])
def test_a_hidden_process_is_not_gone(hidepid):
    """A process that is there is known to be there, however little of it is seen; one that is gone is gone."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as there:
        assert look(there.pid, hidepid) == ["None", "True", "False"]
    assert look(there.pid, hidepid) == ["None", "False", "False"]
