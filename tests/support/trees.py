"""Trees of processes that try to get away, each under a wrapper that lingers, as a run's wrapper does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from outlived import processes
from tests.support.programs import list_pids

LINGER = 'eval "$1"; while :; do kill -STOP "$$"; done'
"""Does what it is told, then stays, whatever becomes of that, and starts nothing more."""

TREES = {
    "plain": "sleep 1000 {word} &",
    "session": "setsid sleep 1000 {word} &",
    "double fork": "(setsid sh -c 'sleep 1000 {word} & exit' &)",
    "bare double fork": "(env -i setsid sh -c 'sleep 1000 {word} & sleep 1000 {word} & exit' &)",
    "proof": "env -i setsid sh -c \"trap '' TERM HUP INT; sleep 1000 {word}; sleep 1000 {word}\" &",
    "stopped": "env -i setsid sh -c 'sleep 1000 {word} & kill -STOP $!; kill -STOP $$' {word} &",
    "holds stdout": "(env -i setsid sleep 1000 {word} 2>&1 &)",
    "bomb": "env -i setsid {python} -S -c '{bomb}' {word} &",
}
BOMB = """
import os, sys, time
for generation in range(199):
    if os.fork() == 0:
        os.setsid()
        if generation % 2 and os.fork():
            os._exit(0)
        time.sleep(1000)
time.sleep(1000)
"""
"""200 processes that live, each in a session of its own; half of them are orphans."""
SIZES = {"bare double fork": 2, "proof": 2, "stopped": 2, "bomb": 200}


def script(name: str, word: str) -> str:
    """A shell script that plants the tree; its processes have ``word`` on their command line."""
    return TREES[name].format(word=word, python=sys.executable, bomb=BOMB)


@contextmanager
def planted(
    name: str, word: str, run_id: str, *, subreaper: bool = True
) -> Iterator[tuple[subprocess.Popen[bytes], processes.ProcessIdentity]]:
    """The tree below its wrapper, and who the wrapper is. Whatever a test leaves is killed in the end."""
    environment = {**os.environ, processes.RUN_VARIABLE: run_id}
    with subprocess.Popen(
        ["sh", "-c", LINGER, "sh", script(name, word)],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=processes.become_subreaper if subreaper else None,  # noqa: PLW1509 - it says why it is safe
    ) as wrapper:
        try:
            yield wrapper, processes.read_child_identity(wrapper.pid)
        finally:
            with suppress(ProcessLookupError):  # what lingers with it is in its group
                os.killpg(wrapper.pid, signal.SIGKILL)
            for pid in list_pids(word):
                os.kill(pid, signal.SIGKILL)


def count_planted(word: str, wrapper: int) -> int:
    """The tree's processes, without its wrapper, which has the whole script on its command line."""
    return len([pid for pid in list_pids(word) if pid != wrapper])
