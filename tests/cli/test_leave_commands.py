"""A daemon that a command line started by itself leaves commands running when it stops, and it is said what goes on."""

import json
import re

from tests.support.processes import find_run_processes
from tests.support.waits import wait_until


def test_a_stopped_daemon_leaves_commands_to_the_next_one(alone, tmp_path):
    """``daemon stop`` names what goes on, ``info`` does so while nobody is there, and the next command takes it up."""
    go = tmp_path / "go"
    script = f"echo begin; while [ ! -e {go} ]; do sleep 0.02; done; echo end"
    run_id = alone.run("run", "--detach", "--", "sh", "-c", script).stdout.strip()
    wait_until(lambda: len(find_run_processes({run_id})) >= 2, what="it has begun")
    pid = json.loads(alone.run("daemon", "status", "--json").stdout)["pid"]
    stopped, one, *rest = alone.run("daemon", "stop").stdout.splitlines()
    assert (stopped, one) == (f"{pid} stopped", "left running for the next daemon: 1")
    [line] = rest
    assert re.match(rf"  {run_id[-8:]}  pid \d+  sh -c ", line)
    assert find_run_processes({run_id})
    told = alone.run("info")
    assert told.returncode == 69
    assert "left running for the next daemon: 1" in told.stderr
    assert run_id[-8:] in told.stderr
    go.touch()
    done = alone.run("run", "--", "echo", "next")
    assert (done.returncode, done.stdout) == (0, "next\n")
    followed = alone.run("tail", run_id)
    assert (followed.returncode, followed.stdout) == (0, "begin\nend\n")
    assert alone.run("daemon", "stop").stdout.splitlines()[1:] == []
    assert "left" not in alone.run("info").stderr


def test_a_drain_leaves_nothing(alone):
    """Whoever wants commands to end, too, says ``drain`` first."""
    run_id = alone.run("run", "--detach", "--", "sh", "-c", "echo up; exec sleep 600").stdout.strip()
    wait_until(lambda: find_run_processes({run_id}), what="it has begun")
    assert alone.run("drain", "--grace", "0").returncode == 0
    wait_until(lambda: not find_run_processes({run_id}), what="it has ended")
    assert len(alone.run("daemon", "stop").stdout.splitlines()) == 1
