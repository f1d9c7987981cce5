"""One command, daemon after daemon killed over it: every line it says arrives once, in order; it runs once.

The command says which process it is, at its beginning and at its end, and numbers its lines between.
"""

import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.processes import find_run_processes
from tests.support.runs import list_seqs, read_text, settle, start, wait_text
from tests.support.scene import BRISK, Scene
from tests.support.waits import wait_until
from tests.support.wire import Json

LINES = 100_000
COUNT = """
import os, sys, time
lines, burst, pause, go = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
print("begin", os.getpid(), flush=True)
for number in range(1, lines + 1):
    print("line", number)
    if number % burst == 0:
        sys.stdout.flush()
        time.sleep(pause)
while not os.path.exists(go):
    sys.stdout.flush()
    time.sleep(0.01)
print("end", os.getpid(), flush=True)
"""
BETWEEN = 0.15
"""Seconds that a daemon may live, more or less, before it is killed."""


def read_all(daemon: Daemon, run_id: str) -> tuple[Json, str, list[Json]]:
    """The settled run, its message's content, its log."""
    with daemon.connect(timeout=60) as wire:
        run = settle(wire, run_id)
        content = wire.call("run/get", run_id=run_id)["message"]["content"]
        events, _ = wire.tail(run_id)
    return run, content, events


@pytest.mark.parametrize(("burst", "pause"), [(200, 0.012), (1_000_000, 0.0)], ids=["paced", "at full speed"])
def test_each_line_arrives_once(scene: Scene, effort: Effort, tmp_path: Path, burst: int, pause: float):
    """kill -9 of the daemon at random, again and again, while its command lives: nothing is lost and nothing is said
    twice, in the message, in the log, and before the eyes of a reader; one process ran once, from start to end."""
    chance, kills = scene.chance, effort.choose(5, 50)
    go = tmp_path / "go"
    daemon = scene.add_daemon(config=BRISK).start()
    with daemon.connect() as wire:
        argv = [sys.executable, "-S", "-c", COUNT, str(LINES), str(burst), str(pause), str(go)]
        run = start(wire, command=argv)
        wait_text(wire, run["id"], "begin")
    seen: list[Json] = []
    for _ in range(kills):
        time.sleep(BETWEEN * chance.random())
        seen += read_on(daemon, run["id"], seen)
        daemon.kill()
        scene.figures.add("daemon_kills")
        assert find_run_processes({run["id"]}), "the command ended before the last kill"
        daemon.start()
    go.touch()
    settled, content, events = read_all(daemon, run["id"])
    said = content.splitlines()
    assert settled["status"] == "succeeded"
    assert (settled["attempt"], settled["epoch"]) == (1, 1 + kills)
    assert said[1:-1] == [f"line {number}" for number in range(1, LINES + 1)]
    assert said[0].removeprefix("begin ") == said[-1].removeprefix("end ")
    assert read_text(events) == content
    assert list_seqs(events) == list(range(1, len(events) + 1))
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert [event["data"] for event in seen] == [event["data"] for event in events[: len(seen)]]
    assert not find_run_processes({run["id"]})
    scene.conclude(acknowledged={run["id"]})


def read_on(daemon: Daemon, run_id: str, seen: list[Json]) -> list[Json]:
    """What a reader that was cut off sees now, after what it has seen."""
    with daemon.connect() as wire:
        events, _ = wire.tail(run_id, after_seq=len(seen), follow=False)
    return events


def test_a_daemon_dies_at_once_after_it_was_born(scene: Scene, effort: Effort, tmp_path: Path):
    """Killed while it takes the command over, at whatever point, a daemon leaves it to the next one as it was."""
    chance, go = scene.chance, tmp_path / "go"
    daemon = scene.add_daemon(config=BRISK).start()
    with daemon.connect() as wire:
        argv = [sys.executable, "-S", "-c", COUNT, "2000", "10", "0.01", str(go)]
        run = start(wire, command=argv)
        wait_text(wire, run["id"], "begin")
    for _ in range(effort.choose(4, 60)):
        daemon.kill()
        daemon.start(wait=False)
        logged = len(daemon.read_log())
        wait_until(lambda logged=logged: len(daemon.read_log()) > logged, what="it has begun")
        time.sleep(0.2 * chance.random())
        scene.figures.add("daemon_kills")
    daemon.wait_ready()
    go.touch()
    settled, content, events = read_all(daemon, run["id"])
    assert (settled["status"], settled["attempt"]) == ("succeeded", 1)
    assert content.splitlines()[1:-1] == [f"line {number}" for number in range(1, 2001)]
    assert read_text(events) == content
    scene.conclude(acknowledged={run["id"]})


def test_a_command_of_a_suspended_daemon_is_gone_when_another_has_its_run(scene: Scene):
    """A daemon that wakes up after its run was given to another one kills what it still has, and adopts nothing."""
    paused, other = scene.add_daemons(2)
    with paused.connect() as wire:
        run = start(wire, command=["sh", "-c", "echo up; exec sleep 600"])
        wait_text(wire, run["id"], "up\n")
    paused.signal(signal.SIGSTOP)
    try:
        with other.connect() as wire:
            assert settle(wire, run["id"])["error"]["code"] == "owner_lost"
    finally:
        paused.signal(signal.SIGCONT)
    wait_until(lambda: not find_run_processes({run["id"]}), what="its processes are gone")
    scene.conclude(acknowledged={run["id"]})
