"""Limits, and the environment of commands, under a real daemon: as they are configured, so they are."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.processes import find_run_processes
from tests.support.runs import perform, settle, start, start_shell, wait_text
from tests.support.wire import Wire

CONFIG = (
    FAST.replace("adopt_seconds = 0", "")
    + """
inherit_env = ["HANDED_*"]

[agents.slow]
kind = "command"
command = ["sh"]
wall_seconds = 5

[agents.bound]
kind = "command"
command = ["sh"]
inherit_env = ["KEY"]
env = { SET = "by the file" }
max_memory = "256M"
max_pids = 4000

[agents.silent]
kind = "command"
command = ["sh"]
idle_seconds = 1
"""
)
TICK = "while :; do echo tick; sleep 0.05; done"


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """A daemon with secrets in its environment."""
    for name in ("HANDED_ON", "KEY", "SECRET", "PGPASSWORD"):
        monkeypatch.setenv(name, f"the daemon's {name}")
    return make_daemon(config=CONFIG).start()


def read_output(wire: Wire, run_id: str) -> str:
    content = wire.call("run/get", run_id=run_id)["message"]["content"]
    assert isinstance(content, str)
    return content


def test_a_limit_outlives_the_daemon(daemon: Daemon):
    """A command that is adopted has what is left of its time: it is ended wall_seconds after its start, not after that."""
    with daemon.connect() as wire:
        run_id = start(wire, agent="slow", input=TICK)["id"]
        wait_text(wire, run_id, "tick\n")
        began = time.monotonic()
    time.sleep(2.5)  # of its time, gone at the first daemon
    daemon.signal(signal.SIGKILL)
    assert daemon.process is not None
    daemon.process.wait()
    daemon.start()
    with daemon.connect() as wire:
        run = settle(wire, run_id)
    took = time.monotonic() - began
    assert (run["status"], run["attempt"], run["epoch"] > 1) == ("failed", 1, True)
    assert (run["error"]["code"], run["error"]["limit"]) == ("limit", "wall_seconds")
    assert took < 5 + 2.5, "it was given its whole time again"
    assert find_run_processes({run_id}) == {}
    assert daemon.database is not None
    assert_history(daemon.database, acknowledged={run_id}, settled=True)


def test_a_silent_command_is_ended_and_a_busy_one_is_not(daemon: Daemon):
    """Silence for idle_seconds fails a command; output now and then keeps it alive as long as it likes."""
    with daemon.connect() as wire:
        silent = start(wire, agent="silent", input="echo up; exec sleep 1000", chat_id="a")["id"]
        busy = start(
            wire, agent="silent", input="for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.3; done", chat_id="b"
        )["id"]
        assert settle(wire, silent)["error"]["limit"] == "idle_seconds"
        assert settle(wire, busy)["status"] == "succeeded"
        assert read_output(wire, silent) == "up\n"


def test_a_command_has_its_bounds_from_its_first_process_on(daemon: Daemon):
    """What no controller holds here is an rlimit of the command, and of what it starts."""
    script = "sh -c 'grep -E \"data size|processes\" /proc/self/limits'"
    with daemon.connect() as wire:
        held = wire.call("server/info")["containment"]
        run = perform(wire, agent="bound", input=script)
        lines = {line.split("  ")[0]: line.split() for line in read_output(wire, run["id"]).splitlines()}
        free = perform(wire, command=["sh", "-c", script])
        before = read_output(wire, free["id"])
    if held["memory"] == "rlimit":
        assert lines["Max data size"][3:5] == [str(256 << 20)] * 2
        assert str(256 << 20) not in before
    if held["pids"] != "cgroup":
        soft, hard = lines["Max processes"][2:4]
        assert soft == hard != "unlimited"


def test_a_command_finds_what_was_named_for_it(daemon: Daemon):
    """Of the daemon's environment a command has what it needs to find its way, and what the configuration names."""
    with daemon.connect() as wire:
        run = perform(wire, agent="bound", input="env", env={"GIVEN": "by the caller"})
        found = dict(line.split("=", 1) for line in read_output(wire, run["id"]).splitlines())
        ad_hoc = start_shell(wire, "env")
        settle(wire, ad_hoc["id"])
        bare = dict(line.split("=", 1) for line in read_output(wire, ad_hoc["id"]).splitlines())
    assert found["PATH"] == os.environ["PATH"]
    assert (found["SET"], found["GIVEN"]) == ("by the file", "by the caller")
    assert (found["HANDED_ON"], found["KEY"]) == ("the daemon's HANDED_ON", "the daemon's KEY")
    assert {"SECRET", "PGPASSWORD", "PYTHONPATH"}.isdisjoint(found)
    assert bare["HANDED_ON"] == "the daemon's HANDED_ON"
    assert {"SECRET", "KEY", "PGPASSWORD"}.isdisjoint(bare)
