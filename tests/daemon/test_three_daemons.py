"""Three daemons of one database, patient ones: what one does the others know without waiting for any heartbeat."""

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.history import assert_history
from tests.support.homes import end_cleanly, make_home
from tests.support.locks import open_session
from tests.support.postgres import Postgres
from tests.support.runs import TIME, UUID7, perform, settle, start, start_endless, stop
from tests.support.waits import wait_until
from tests.support.wire import Wire, WireError

PATIENT = """
[owner]
lease_seconds = 600
heartbeat_seconds = 300
[sweep]
interval_seconds = 0.5
[run]
grace_seconds = 1
drain_seconds = 0
"""
"""What happens within a test's patience does not happen because of a heartbeat."""


@pytest.fixture(scope="module")
def daemons(postgres: Postgres, short_dir: Path) -> Iterator[list[Daemon]]:
    database = postgres.create_database()
    made = [
        Daemon(make_home(short_dir), database=database, config=PATIENT).start(wait=False) for _ in range(3)
    ]
    for daemon in made:
        daemon.wait_ready()
    yield made
    for daemon in made:
        end_cleanly(daemon)
    assert_history(database, settled=True)


@pytest.fixture
def wires(daemons: list[Daemon]) -> Iterator[list[Wire]]:
    with daemons[0].connect() as first, daemons[1].connect() as second, daemons[2].connect() as third:
        yield [first, second, third]


@pytest.fixture
def listening(daemons: list[Daemon]) -> None:
    """Every daemon hears hints; before, only its heartbeat would bring a stop."""
    with open_session(daemons[0].dsn) as session:
        wait_until(lambda: len(session.list_pids("listen")) == len(daemons), what="they listen")


# ---------------------------------------------------------------- any daemon, any run


@pytest.mark.usefixtures("listening")
def test_any_daemon_serves_any_run(wires: list[Wire]):
    """Whoever started a run, whoever is asked to stop, tail, wait for, find or list it: the answers are the same."""
    for number, (starter, stopper, reader) in enumerate(itertools.product(wires, repeat=3)):
        chat = f"any-{number}"
        run = start_endless(starter, chat_id=chat)
        subscription = reader.call("run/tail", run_id=run["id"], after_seq=0)["subscription"]
        assert stopper.refuse("run/start", agent="demo", chat_id=chat).data["active_run_id"] == run["id"]
        assert stop(stopper, run["id"], reason=chat)["stop_reason"] == chat
        assert settle(reader, run["id"])["status"] == "aborted"
        events, end = reader.read_tail(subscription)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert (events[-1]["type"], end["reason"]) == ("run.settled", "settled")
        latest = [wire.call("run/latest", chat_id=chat) for wire in wires]
        assert latest[0] == latest[1] == latest[2]
        assert [wire.call("run/list", chat_id=chat)["runs"] for wire in wires] == 3 * [[latest[0]["run"]]]


@pytest.mark.usefixtures("listening")
def test_everybody_sees_the_same_log(wires: list[Wire], daemons: list[Daemon]):
    """Tails of busy runs through every daemon at once, some from the middle on: one log, whole, in order."""
    runs = [
        start(wires[number % 3], input=f"{number} ", metadata={"demo": {"delay_ms": 3, "repeat": 150}})
        for number in range(9)
    ]

    def tail(number: int) -> tuple[int, list[object]]:
        run = runs[number % 9]
        with daemons[number % 3].connect(60) as wire:
            events, end = wire.tail(run["id"], after_seq=0 if number < 18 else 1)
            assert end["reason"] == "settled"
            return number, [(event["seq"], event["at"], event["type"], event["data"]) for event in events]

    with ThreadPoolExecutor(27) as pool:
        logs = dict(pool.map(tail, range(27)))
    for number in range(9):
        whole = logs[number]
        assert [event[0] for event in whole] == list(range(1, len(whole) + 1))
        assert logs[number + 9] == whole
        assert logs[number + 18] == whole[1:]


@pytest.mark.usefixtures("listening")
def test_anything_anywhere(wires: list[Wire], effort: Effort):
    """A random mixture of starts, joins and stops in few chats through three daemons leaves one truth."""
    chance = random.Random(effort.seed or 5)
    for _ in range(effort.choose(120, 5000)):
        wire, chat = chance.choice(wires), f"mixed-{chance.randrange(4)}"
        try:
            match chance.choice(["start", "join", "stop", "perform"]):
                case "start":
                    start_endless(wire, chat_id=chat)
                case "join":
                    wire.call("run/start", agent="demo", input="a b", chat_id=chat, on_active="join")
                case "stop":
                    assert wire.call("run/stop", chat_id=chat, wait_seconds=20)["outcome"] != "stopping"
                case _:
                    perform(wire, chat_id=chat)
        except WireError as error:
            assert error.type in {"run_active", "not_found"}, error  # a chat that is taken, or not there yet
    for wire in wires:
        for run in wire.call("run/list", status=["pending", "running"])["runs"]:
            stop(wire, run["id"])


# ---------------------------------------------------------------- who there is


def test_owners_are_listed(daemons: list[Daemon], wires: list[Wire], make_daemon: Callable[..., Daemon]):
    """Every daemon lists the living with host, pid, version, lease and runs, itself marked, then those that died lately."""
    database = daemons[0].dsn
    retired, killed = make_daemon(database, PATIENT).start(), make_daemon(database, PATIENT).start()
    run = start_endless(wires[0])
    ids = []
    for daemon in (retired, killed):
        with daemon.connect() as wire:
            ids.append(wire.call("server/info")["instance_id"])
    retired.stop()
    killed.kill()

    def list_dead() -> dict[str, str]:
        listed = wires[0].call("server/owners")["owners"]
        return {owner["id"]: owner["dead_reason"] for owner in listed if owner["state"] == "dead"}

    wait_until(lambda: list_dead().keys() >= set(ids), what="the killed one is declared dead")
    assert (list_dead()[ids[0]], list_dead()[ids[1]]) == ("retired", "its process is gone")
    for wire in wires:
        info = wire.call("server/info")
        owners = wire.call("server/owners")["owners"]
        assert [owner["state"] for owner in owners[:3]] == ["living"] * 3
        assert {owner["state"] for owner in owners[3:]} == {"dead"}
        [me] = [owner for owner in owners if owner["answering"]]
        assert {name: me[name] for name in ("id", "host", "pid", "version")} == {
            "id": info["instance_id"],
            "host": info["host"],
            "pid": info["pid"],
            "version": info["version"],
        }
        assert 0 <= me["lease_age_seconds"] < me["lease_seconds"] == 600
        assert TIME.fullmatch(me["registered_at"])
        assert UUID7.fullmatch(me["id"])
        assert {owner["id"]: owner["runs"] for owner in owners}[run["owner"]] == 1
        assert all(owner["dead_at"] and not owner["runs"] for owner in owners[3:])
    stop(wires[0], run["id"])


def test_an_expired_owner_is_seen(make_daemon: Callable[..., Daemon]):
    """An owner that is silent for longer than its lease, and that nobody may reap yet, shows as expired."""
    daemon = make_daemon(config=PATIENT.replace("0.5", "3600")).start()
    with open_session(daemon.dsn) as session, daemon.connect() as wire:
        session.ask("UPDATE outlived.owners SET lease_until = clock_timestamp() - interval '1 hour'")
        [owner] = wire.call("server/owners")["owners"]
        assert (owner["state"], round(owner["lease_age_seconds"] / 60)) == ("expired", 70)


def test_owners_are_shown_to_people(daemons: list[Daemon]):
    """``outlive info --owners`` has a line for each daemon, and marks the one that answers; --json has a value each."""
    command = [sys.executable, "-m", "outlive", "info", "--owners", "--socket", str(daemons[1].socket)]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    assert shown[0].split() == ["OWNER", "STATE", "LEASE", "HOST", "PID", "VERSION", "RUNS", "WHAT"]
    living = [line for line in shown if " living " in line]
    assert len(living) == 3
    assert daemons[1].process is not None
    [mine] = [line for line in living if line.endswith("this daemon")]
    assert f" {daemons[1].process.pid} " in mine
    values = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    owners = [json.loads(line) for line in values.splitlines()]
    assert [owner["answering"] for owner in owners if owner["state"] == "living"].count(True) == 1
