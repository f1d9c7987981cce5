"""After a crash, and after a stop: what is left of runs, of processes and of Postgres."""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.effort import Effort
from tests.support.history import assert_history
from tests.support.postgres import Detour, Postgres
from tests.support.processes import find_run_processes, is_alive
from tests.support.runs import read_text, settle, start, start_endless, start_shell, wait_text
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire, WireError

MakeDaemon = Callable[..., Daemon]

LINGERERS = {
    "echo up; exec sleep 600": 2,
    "setsid sleep 600 & echo up; exec sleep 600": 3,  # one left the session
    "(setsid sh -c 'sleep 600 & exec sleep 600' &); echo up; exec sleep 600": 4,  # forked twice, then left
    "(sleep 600 &); echo up; sleep 600; echo never": 4,  # forked twice
}
"""Programs that stay, and how many processes each comes to, with its wrapper."""
DEAF = "trap '' TERM; echo up; while :; do sleep 0.1; done"


def start_lingerers(wire: Wire, count: int) -> set[str]:
    """Start so many commands that stay, and see all their processes; the runs' ids."""
    scripts = list(itertools.islice(itertools.cycle(LINGERERS), count))
    ids = [start_shell(wire, script, chat_id=f"c{number}")["id"] for number, script in enumerate(scripts)]
    for run_id in ids:
        wait_text(wire, run_id, "up\n")
    processes = sum(LINGERERS[script] for script in scripts)
    wait_until(lambda: len(find_run_processes(set(ids))) == processes, what="all processes are there")
    return set(ids)


def without_subscription(events: list[Json]) -> list[Json]:
    return [{name: value for name, value in event.items() if name != "subscription"} for event in events]


@attrs.frozen
class CutOff:
    """A daemon that is to stop while its database is out of reach."""

    daemon: Daemon
    ids: set[str]
    way: Detour
    began: float


@pytest.fixture(scope="module", autouse=True)
def cut_off(postgres: Postgres, short_dir: Path) -> Iterator[CutOff]:
    """Its end takes a while, so it begins before the other tests and is looked at after them."""
    way = Detour(postgres.create_database(), short_dir / "way")
    daemon = Daemon(short_dir / "cutoff", database=way.dsn).start()
    with daemon.connect() as wire:
        ids = {start_endless(wire)["id"], *start_lingerers(wire, 2)}
    way.cut()
    daemon.signal(signal.SIGTERM)
    yield CutOff(daemon, ids, way, time.monotonic())
    daemon.kill()


def test_nothing_is_left_of_twenty_commands_whose_daemon_was_killed(make_daemon: MakeDaemon):
    """After kill -9 with 20 commands a daemon that adopts nothing settles every run and kills every process."""
    daemon = make_daemon(database=None, config="[run]\nadopt = false\n").start()
    with daemon.connect() as wire:
        ids = start_lingerers(wire, 20)
    postmaster, processes = daemon.postmaster.pid, find_run_processes(ids)
    daemon.kill()
    assert find_run_processes(ids) == processes
    assert is_alive(postmaster)
    daemon.start()
    assert not find_run_processes(ids)
    assert daemon.postmaster.pid == postmaster
    with daemon.connect() as wire:
        for run_id in ids:
            run, message = wire.call("run/get", run_id=run_id).values()
            assert (run["status"], run["error"]["code"]) == ("aborted", "owner_lost")
            assert message["content"] == "up\n"
            events, end = wire.tail(run_id)
            assert (events[-1]["type"], end["reason"]) == ("run.settled", "settled")
    assert_history(daemon.dsn, acknowledged=ids, settled=True)


def test_a_log_begins_with_exactly_what_was_delivered(make_daemon: MakeDaemon, effort: Effort):
    """Whatever a subscriber was told before kill -9 is the beginning of the log afterwards, event for event."""
    daemon = make_daemon(config=f"{FAST}adopt = false\n").start()
    for number in range(effort.choose(3, 60)):
        with daemon.connect() as wire:
            run = start_shell(wire, "i=0; while :; do i=$((i+1)); echo line $i; done")
            tailed = wire.call("run/tail", run_id=run["id"], after_seq=0)
            delivered, _ = wire.read_tail(tailed["subscription"], until=4 + 7 * number)
            daemon.kill()
            delivered += [
                message["params"] for message in read_what_is_left(wire) if message["method"] == "run/event"
            ]
        daemon.start()
        assert not find_run_processes({run["id"]})
        with daemon.connect() as wire:
            log, _ = wire.tail(run["id"])
        assert without_subscription(log)[: len(delivered)] == without_subscription(delivered)
        said = read_text(log)
        assert said.startswith(read_text(delivered))
        lines = said.split("\n")
        assert lines[:-1] == [f"line {number}" for number in range(1, len(lines))]
    assert_history(daemon.dsn, settled=True)


def read_what_is_left(wire: Wire) -> list[Json]:
    try:
        return wire.read_to_end()
    except ConnectionResetError:
        return []


class Load:
    """Callers that start short runs as fast as they are answered, each in chats of its own."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.acknowledged: set[str] = set()
        self.ended = threading.Event()

    def run(self, caller: int) -> None:
        """One caller. A refusal it may meet is one that says: try again."""
        with self.daemon.connect(timeout=60) as wire:
            for number in itertools.count():
                if self.ended.is_set():
                    return
                try:
                    run = start(
                        wire, chat_id=f"{caller}.{number}", input="one ", metadata={"demo": {"delay_ms": 0}}
                    )
                except WireError as error:
                    if error.type != "database_unavailable":
                        raise
                else:
                    self.acknowledged.add(run["id"])

    def wait_more(self, count: int) -> None:
        """Wait until so many more starts are acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= wanted, 60, f"{count} more starts are acknowledged")


def test_a_killed_postgres_takes_nothing_along(make_daemon: MakeDaemon):
    """Kill -9 of the embedded Postgres under load: the daemon stays, keeps what it acknowledged, and works on."""
    daemon = make_daemon(database=None, config="").start()
    process = daemon.process
    assert process is not None
    load = Load(daemon)
    with daemon.connect() as wire, ThreadPoolExecutor() as pool:
        script = "i=0; while [ $i -lt 150 ]; do i=$((i+1)); echo $i; sleep 0.02; done"
        steady = start_shell(wire, script)
        callers = [pool.submit(load.run, number) for number in range(4)]
        for _ in range(2):
            load.wait_more(30)
            killed = daemon.postmaster.pid
            os.kill(killed, signal.SIGKILL)
            load.wait_more(30)
            assert daemon.postmaster.pid != killed
        load.ended.set()
        for caller in callers:
            caller.result()
        for run_id in load.acknowledged:
            assert settle(wire, run_id)["status"] == "succeeded"
        assert settle(wire, steady["id"])["status"] == "succeeded"
        _, message = wire.call("run/get", run_id=steady["id"]).values()
        assert message["content"] == "".join(f"{number}\n" for number in range(1, 151))
    assert process.poll() is None
    assert_history(daemon.dsn, acknowledged=load.acknowledged, settled=True)


def test_a_stop_ends_runs_processes_and_postgres(make_daemon: MakeDaemon):
    """SIGTERM with active runs: each settles aborted (shutdown), no process is left, Postgres is stopped, exit 0."""
    daemon = make_daemon(
        database=None, config=FAST.replace("grace_seconds = 2", "grace_seconds = 0.5")
    ).start()
    with daemon.connect() as wire:
        ids = start_lingerers(wire, 4)
        deaf = start_shell(wire, DEAF)
        wait_text(wire, deaf["id"], "up\n")
        ids |= {deaf["id"], start_endless(wire)["id"]}
        tailed = wire.call("run/tail", run_id=deaf["id"])
        postmaster = daemon.postmaster.pid
        assert daemon.stop() == 0, daemon.read_log()
        [settled], end = wire.read_tail(tailed["subscription"])
        assert (settled["type"], settled["data"]["error"]["code"]) == ("run.settled", "shutdown")
        assert end is not None
        assert end["reason"] == "settled"
    assert not find_run_processes(ids)
    assert not is_alive(postmaster)
    assert not daemon.socket.exists()
    daemon.start()
    with daemon.connect() as wire:
        for run_id in ids:
            run = wire.call("run/get", run_id=run_id)["run"]
            assert (run["status"], run["error"]["code"]) == ("aborted", "shutdown")
            assert run["stop_requested_at"] is None
    assert_history(daemon.dsn, acknowledged=ids, settled=True)


def test_a_second_request_to_stop_waits_for_nothing(make_daemon: MakeDaemon):
    """SIGTERM twice ends what would have had a minute's drain and a minute's grace: aborted (forced), exit 0."""
    config = FAST.replace("grace_seconds = 2", "grace_seconds = 60")
    daemon = make_daemon(config=config.replace("drain_seconds = 0.2", "drain_seconds = 60")).start()
    with daemon.connect() as wire:
        ids = {start_shell(wire, DEAF)["id"], start_endless(wire)["id"]}
        for run_id in ids:
            wait_text(wire, run_id, "")
        daemon.signal(signal.SIGTERM)
        daemon.wait_logged('"draining"')
        assert wire.refuse("run/start", agent="demo").type == "draining"
    assert daemon.stop(seconds=20) == 0, daemon.read_log()
    assert not find_run_processes(ids)
    daemon.start()
    with daemon.connect() as wire:
        for run_id in ids:
            run = wire.call("run/get", run_id=run_id)["run"]
            assert (run["status"], run["error"]["code"]) == ("aborted", "forced")
    assert_history(daemon.dsn, acknowledged=ids, settled=True)


def test_a_drain_lets_a_short_run_finish(make_daemon: MakeDaemon):
    """Within ``drain_seconds`` a run ends by itself, its follower hears all of it, and nobody waits any longer."""
    daemon = make_daemon(config=FAST.replace("drain_seconds = 0.2", "drain_seconds = 60")).start()
    with daemon.connect() as wire:
        run = start(wire, input="word ", metadata={"demo": {"delay_ms": 20, "repeat": 30}})
        tailed = wire.call("run/tail", run_id=run["id"], after_seq=0)
        assert daemon.stop(seconds=20) == 0, daemon.read_log()
        events, end = wire.read_tail(tailed["subscription"])
    assert read_text(events) == "word " * 30
    assert events[-1]["data"]["status"] == "succeeded"
    assert end is not None
    assert end["reason"] == "settled"
    assert_history(daemon.dsn, acknowledged={run["id"]}, settled=True)


def test_settlements_that_cannot_be_written_are_named(cut_off: CutOff):
    """SIGTERM while the database is away: exit 1 soon, every run left is named, no process is; the next daemon settles."""
    daemon, ids = cut_off.daemon, cut_off.ids
    assert daemon.process is not None
    assert daemon.process.wait(cut_off.began + 25 - time.monotonic()) == 1, daemon.read_log()
    assert not find_run_processes(ids)
    said = [json.loads(line) for line in daemon.read_log().splitlines() if "left unsettled" in line]
    assert {line["run_id"] for line in said} == ids
    assert "Traceback" not in daemon.read_log()
    cut_off.way.mend()
    daemon.start()
    with daemon.connect() as wire:
        for run_id in ids:
            run = wire.call("run/get", run_id=run_id)["run"]
            assert (run["status"], run["error"]["code"]) == ("aborted", "owner_lost")
    assert daemon.stop() == 0, daemon.read_log()
    assert_history(daemon.dsn, acknowledged=ids, settled=True)
