"""Trees of processes that try to get away, under a real daemon: however their run ends, none of them is left."""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from outlived.cgroups import find_cgroups
from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.processes import find_run_processes
from tests.support.programs import list_pids
from tests.support.runs import settle, start
from tests.support.trees import SIZES, TREES, script
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire

CONFIG = """
adopt = false
cgroups = "{cgroups}"

[agents.grow]
kind = "command"
command = ["sh"]

[agents.limited]
kind = "command"
command = ["sh"]
idle_seconds = 1.5
"""
UNTIL = "while [ ! -e {signal} ]; do echo; sleep 0.02; done\n"
STAY = "while :; do sleep 1000 {word}; done\n"
words = itertools.count(4_000_000)


class Grove:
    """Every tree, a run each, in one daemon. ``word`` is on the command line of each of their processes."""

    def __init__(self, wire: Wire, directory: Path, agent: str, *, stay: bool) -> None:
        self.signal = directory / "signal"
        self.words = {name: f"{next(words)}.{os.getpid()}" for name in TREES}
        self.ids: dict[str, str] = {}
        for name, word in self.words.items():
            text = script(name, word) + "\n" + UNTIL.format(signal=self.signal)
            text += STAY.format(word=word) if stay else ""
            self.ids[name] = start(wire, agent=agent, input=text, chat_id=word)["id"]
        for name, word in self.words.items():
            wait_until(lambda name=name, word=word: len(list_pids(word)) >= SIZES.get(name, 1), what=name)

    def list_left(self) -> dict[str, list[int]]:
        """What is still there of each tree."""
        found = {name: list_pids(word) for name, word in self.words.items()}
        return {name: pids for name, pids in found.items() if pids}

    def end(self, wire: Wire) -> dict[str, Json]:
        """Wait for the end of every run; nothing of it may be left then, nor its cgroup."""
        runs = {name: settle(wire, run_id) for name, run_id in self.ids.items()}
        assert self.list_left() == {}
        assert find_run_processes(set(self.ids.values())) == {}
        if (cgroups := find_cgroups()) is not None:
            assert set(self.ids.values()).isdisjoint(cgroups.list_run_ids())
        return runs


@pytest.fixture(params=["auto", "off"], ids=["where it may have cgroups", "without cgroups"])
def daemon(request: pytest.FixtureRequest, make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that adopts nothing."""
    if request.param == "auto" and find_cgroups() is None:
        pytest.skip("there is no cgroup here that this process may make others in")
    return make_daemon(config=FAST + CONFIG.format(cgroups=request.param)).start()


def see_end(daemon: Daemon, wire: Wire, grove: Grove) -> dict[str, Json]:
    """Every run's end, and a database in order."""
    runs = grove.end(wire)
    assert daemon.database is not None
    assert_history(daemon.database, acknowledged=set(grove.ids.values()), settled=True)
    return runs


def test_a_run_that_ends_by_itself_leaves_nothing(daemon: Daemon):
    """Whatever a command left behind when it ended is gone when its run is settled."""
    with daemon.connect(60) as wire:
        grove = Grove(wire, daemon.directory, "grow", stay=False)
        grove.signal.touch()
        runs = see_end(daemon, wire, grove)
    assert {run["status"] for run in runs.values()} == {"succeeded"}


def test_a_run_that_is_stopped_leaves_nothing(daemon: Daemon):
    """A stop ends the whole tree, whatever it ignores and wherever it went."""
    with daemon.connect(60) as wire:
        grove = Grove(wire, daemon.directory, "grow", stay=True)
        for run_id in grove.ids.values():
            wire.call("run/stop", run_id=run_id)
        runs = see_end(daemon, wire, grove)
    assert {run["status"] for run in runs.values()} == {"aborted"}


def test_a_run_that_reaches_its_limit_leaves_nothing(daemon: Daemon):
    """So does a limit, and the run says which it was."""
    with daemon.connect(60) as wire:
        grove = Grove(wire, daemon.directory, "limited", stay=True)
        grove.signal.touch()  # from now on the commands are silent
        runs = see_end(daemon, wire, grove)
    assert {run["status"] for run in runs.values()} == {"failed"}
    assert {(run["error"]["code"], run["error"]["limit"]) for run in runs.values()} == {
        ("limit", "idle_seconds")
    }


def test_the_next_daemon_leaves_nothing_that_it_does_not_adopt(daemon: Daemon):
    """After kill -9 of the daemon the next one, which adopts nothing, kills every tree before it settles its run."""
    with daemon.connect(60) as wire:
        grove = Grove(wire, daemon.directory, "grow", stay=True)
    daemon.signal(signal.SIGKILL)
    assert daemon.process is not None
    daemon.process.wait()
    assert grove.list_left().keys() == set(TREES)
    daemon.start()
    with daemon.connect(60) as wire:
        runs = see_end(daemon, wire, grove)
    assert {(run["status"], run["error"]["code"]) for run in runs.values()} == {("aborted", "owner_lost")}
