"""Two daemons on one database: what one of them makes of the other's runs, while that one lives and when it is dead."""

import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.history import assert_history
from tests.support.locks import open_session
from tests.support.processes import find_run_processes, is_suspended
from tests.support.runs import read_text, settle, start, start_endless, start_shell, wait_text
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire, WireError

MakeDaemon = Callable[..., Daemon]

LEASE, HEARTBEAT, SWEEP = 2.0, 0.3, 0.3
BRISK = f"""
[owner]
lease_seconds = {LEASE}
heartbeat_seconds = {HEARTBEAT}
[sweep]
interval_seconds = {SWEEP}
[run]
drain_seconds = 0
adopt_seconds = 0
"""
SLOW_TO_SWEEP = "[sweep]\ninterval_seconds = 3600\n[run]\nadopt_seconds = 0\ndrain_seconds = 0"
QUICK_TO_SWEEP = SLOW_TO_SWEEP.replace("3600", str(SWEEP))
SOON = 2 * SWEEP * 1.2 + 4.0
"""Two sweeps with their jitter, the two seconds for which a lock is waited for, and what a busy machine may take."""
TICKS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
DEAF = "trap '' TERM; echo up; while :; do sleep 0.1; done"


@pytest.fixture
def make_pair(make_daemon: MakeDaemon, database: str) -> Callable[[str, str], tuple[Daemon, Daemon]]:
    """Two daemons with these settings, on one database, started."""

    def make(first: str, second: str) -> tuple[Daemon, Daemon]:
        return make_daemon(database, first).start(), make_daemon(database, second).start()

    return make


MakePair = Callable[[str, str], tuple[Daemon, Daemon]]


def read_instance(daemon: Daemon) -> str:
    with daemon.connect() as wire:
        return wire.call("server/info")["instance_id"]


def strip(events: list[Json]) -> list[Json]:
    return [{name: value for name, value in event.items() if name != "subscription"} for event in events]


def assert_lost(wire: Wire, run_ids: set[str], new_owner: str) -> None:
    """The runs were adopted by that owner and settled for their dead one."""
    for run_id in run_ids:
        run = wire.call("run/get", run_id=run_id)["run"]
        assert (run["status"], run["error"]["code"]) == ("aborted", "owner_lost")
        assert (run["owner"], run["epoch"]) == (new_owner, 2)


# ---------------------------------------------------------------- a dead owner


def suspend_in_a_batch(daemon: Daemon) -> None:
    """SIGSTOP at a moment at which the daemon's journal holds its fence, half a batch sent."""
    look = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'outlived journal' AND state <> 'idle'"
        " AND datname = current_database() AND wait_event = 'ClientRead'"
    )

    def suspend() -> bool:
        daemon.signal(signal.SIGSTOP)
        wait_until(lambda: is_suspended(daemon.process.pid))
        if session.ask(look):
            return True
        daemon.signal(signal.SIGCONT)
        return False

    with open_session(daemon.dsn) as session:
        wait_until(suspend, 20, "a batch is under way")


def test_a_suspended_daemon_loses_its_runs_and_writes_nothing_more(make_pair: MakePair):
    """SIGSTOP for longer than the lease: the other settles; after SIGCONT the first writes nothing, and serves anew."""
    first, second = make_pair(BRISK, BRISK)
    before, other = read_instance(first), read_instance(second)
    with first.connect() as here, second.connect() as there:
        talker = start(here, input="word ", metadata={"demo": {"delay_ms": 5, "repeat": 1_000_000}})
        ids = {talker["id"], start_shell(here, TICKS)["id"]}
        for run_id in ids:
            wait_text(here, run_id, "")
        tailed = here.call("run/tail", run_id=talker["id"], after_seq=0)
        suspend_in_a_batch(first)
        began = time.monotonic()
        try:
            for run_id in ids:
                settle(there, run_id)
            took = time.monotonic() - began
            assert_lost(there, ids, other)
            assert not find_run_processes(ids)
            log, _ = there.tail(talker["id"])
        finally:
            first.signal(signal.SIGCONT)
        assert LEASE - 2 * HEARTBEAT < took < LEASE + SOON
        wait_until(lambda: read_instance(first) != before, what="the first daemon is registered anew")
        events, end = here.read_tail(tailed["subscription"])
        assert end is not None
        assert end["reason"] == "settled"
        assert strip(events) == strip(log)
        again = start(here, input="once more", chat_id=talker["chat_id"])
        assert settle(here, again["id"])["status"] == "succeeded"
        assert strip(there.tail(talker["id"])[0]) == strip(log)
    assert_history(first.dsn, acknowledged=ids | {again["id"]}, settled=True)
    assert "Traceback" not in first.read_log() + second.read_log()


def test_a_daemon_that_was_declared_dead_kills_at_once_and_begins_anew(make_daemon: MakeDaemon):
    """Declared dead by somebody elsewhere, it gives no grace, settles its own old runs as a stranger, and serves."""
    daemon = make_daemon(config=BRISK + "grace_seconds = 60").start()
    before = read_instance(daemon)
    with daemon.connect() as wire, open_session(daemon.dsn) as session:
        ids = {start_shell(wire, DEAF)["id"], start_endless(wire)["id"]}
        for run_id in ids:
            wait_text(wire, run_id, "")
        wait_until(lambda: find_run_processes(ids))
        session.ask("UPDATE outlived.owners SET dead_at = clock_timestamp(), dead_reason = 'test'")
        for run_id in ids:
            settle(wire, run_id)
        assert not find_run_processes(ids)
        assert wire.call("server/info")["instance_id"] != before
        assert_lost(wire, ids, wire.call("server/info")["instance_id"])
        again = start(wire, input="once more")
        assert settle(wire, again["id"])["status"] == "succeeded"
    assert_history(daemon.dsn, acknowledged=ids | {again["id"]}, settled=True)


def test_a_killed_daemon_is_reaped_by_proof(make_pair: MakePair):
    """Kill -9 on the same host: the other's next sweep settles the runs, with the lease of a minute still running."""
    first, second = make_pair(QUICK_TO_SWEEP, QUICK_TO_SWEEP)
    with first.connect() as here, second.connect() as there:
        ids = {start_shell(here, TICKS)["id"], start_endless(here)["id"]}
        for run_id in ids:
            wait_text(here, run_id, "")
        first.kill()
        began = time.monotonic()
        for run_id in ids:
            settle(there, run_id)
        assert time.monotonic() - began < SOON
        assert not find_run_processes(ids)
        assert_lost(there, ids, read_instance(second))
    assert_history(second.dsn, acknowledged=ids, settled=True)


def test_a_start_in_the_chat_of_a_killed_daemon_succeeds(make_pair: MakePair):
    """A dead owner never makes a chat answer 409: a start frees it, and of several at once one wins over the others."""
    first, second = make_pair(SLOW_TO_SWEEP, SLOW_TO_SWEEP)
    chats = [f"c{number}" for number in range(6)]
    with first.connect() as here:
        dead = {start_shell(here, TICKS, chat_id=chat)["id"] for chat in chats}
    first.kill()
    together = threading.Barrier(3 * len(chats))

    def contend(chat: str) -> tuple[str, bool]:
        """The run that has the chat according to one caller, and whether that caller started it."""
        with second.connect() as there:
            together.wait()
            try:
                run = start(there, chat_id=chat, metadata={"demo": {"delay_ms": 3_600_000}}, input="mine ")
            except WireError as error:
                return error.data["active_run_id"], False
            return run["id"], True

    with ThreadPoolExecutor(3 * len(chats)) as pool:
        for chat, answers in [(chat, [pool.submit(contend, chat) for _ in range(3)]) for chat in chats]:
            found = [answer.result() for answer in answers]
            [winner] = [run_id for run_id, started in found if started]
            assert {run_id for run_id, _ in found} == {winner}, f"chat {chat}: {found}, of the dead: {dead}"
    assert not find_run_processes(dead)
    assert second.stop() == 0
    assert_history(second.dsn, acknowledged=dead, settled=True)


def test_a_daemon_in_another_pid_namespace_is_not_proved_dead(make_daemon: MakeDaemon, database: str):
    """There the same pid is another process: only the lease tells, although the host is the same."""
    first = make_daemon(database, BRISK)
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    can = (
        os.geteuid() == 0
        and subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0
    )
    first.before = apart if can else []
    first.start()
    second = make_daemon(database, QUICK_TO_SWEEP).start()
    with first.connect() as here, second.connect() as there, open_session(database) as session:
        pid = read_peer_pid(here)
        try:
            if not can:  # an ordinary user's stand-in: the row says so
                owner = read_instance(first)
                session.ask("UPDATE outlived.owners SET pid_namespace = 'pid:[1]' WHERE id = %s", owner)
            run = start_endless(here)
        finally:
            os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        settle(there, run["id"])
        assert LEASE - 2 * HEARTBEAT < time.monotonic() - began < LEASE + SOON
        assert_lost(there, {run["id"]}, read_instance(second))
    assert_history(second.dsn, acknowledged={run["id"]}, settled=True)


def read_peer_pid(wire: Wire) -> int:
    """The pid of the daemon at the other end, in this namespace."""
    answer = wire.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", answer)[0]


# ---------------------------------------------------------------- a living one


def test_a_stop_reaches_a_run_of_another_daemon(make_pair: MakePair):
    """A stop is recorded by whoever hears it, and done by the owner at its next heartbeat."""
    first, second = make_pair(BRISK, BRISK)
    with first.connect() as here, second.connect() as there:
        owner = read_instance(first)
        words, program = start_endless(here), start_shell(here, TICKS)
        asked = there.call("run/stop", run_id=words["id"], reason="from afar")
        assert (asked["outcome"], asked["run"]["owner"]) == ("stopping", owner)
        began = time.monotonic()
        done = there.call("run/stop", run_id=program["id"], reason="from afar", wait_seconds=20)
        assert done["outcome"] == "stopped"
        assert time.monotonic() - began < HEARTBEAT + 2.0
        settle(there, words["id"])
        for run_id in (words["id"], program["id"]):
            run = there.call("run/get", run_id=run_id)["run"]
            assert (run["status"], run["error"], run["owner"]) == ("aborted", None, owner)
            assert run["stop_reason"] == "from afar"
            events, _ = there.tail(run_id)
            [asked_at] = [event for event in events if event["type"] == "run.stop_requested"]
            assert asked_at["data"]["by"] == f"uid:{os.getuid()}"
        assert there.call("run/stop", run_id=words["id"])["outcome"] == "already_settled"
    assert_history(first.dsn, settled=True)


def test_a_stop_that_its_daemon_never_heard_of_is_a_stop(make_pair: MakePair):
    """A daemon that ends before its heartbeat brings the mark settles the run as stopped, without an error."""
    first, second = make_pair(SLOW_TO_SWEEP, SLOW_TO_SWEEP)
    with first.connect() as here, second.connect() as there:
        run = start_endless(here)
        asked = there.call("run/stop", run_id=run["id"], reason="from afar")
        assert asked["outcome"] == "stopping"
        assert first.stop() == 0, first.read_log()
        run = settle(there, run["id"])
        assert (run["status"], run["error"], run["stop_reason"]) == ("aborted", None, "from afar")
    assert_history(first.dsn, settled=True)


def test_a_run_of_another_daemon_is_followed_to_its_end(make_pair: MakePair):
    """A tail and a wait through a daemon that does not own the run are as complete as the owner's."""
    first, second = make_pair(BRISK, BRISK)
    with first.connect() as here, second.connect() as there:
        run = start(here, input="one two ", metadata={"demo": {"delay_ms": 5, "repeat": 100}})
        waiting = there.send("run/wait", {"run_id": run["id"]})
        snapshot = there.call("run/tail", run_id=run["id"])
        rest, ended = there.read_tail(snapshot["subscription"])
        events, end = there.tail(run["id"])
        answer = there.wait_reply(waiting)
        assert (answer["settled"], answer["run"]["status"]) == (True, "succeeded")
        assert answer["message"]["content"] == read_text(events) == "one two " * 100
        assert snapshot["message"]["content"] + read_text(rest) == "one two " * 100
        assert ended is not None
        assert (ended["reason"], end["reason"]) == ("settled", "settled")
        assert strip(events) == strip(here.tail(run["id"])[0])
    assert_history(first.dsn, acknowledged={run["id"]}, settled=True)


def test_two_daemons_never_get_into_each_others_way(make_pair: MakePair, effort: Effort):
    """Starts and stops of both in the same chats, from many threads: run_active is all that anybody hears."""
    daemons = make_pair(BRISK, BRISK)
    acknowledged: set[str] = set()

    def contend(daemon: Daemon, caller: int) -> None:
        with daemon.connect(timeout=60) as wire:
            for number in range(effort.choose(40, 1000)):
                chat = f"c{(caller + number) % 3}"
                endless = (caller * number) % 4 == 0
                try:
                    run = start(
                        wire,
                        chat_id=chat,
                        input="a b c ",
                        metadata={"demo": {"delay_ms": 3_600_000 if endless else 0}},
                    )
                    acknowledged.add(run["id"])
                except WireError as error:
                    if error.type != "run_active":
                        raise
                if endless or number % 5 == 0:
                    wire.call("run/stop", chat_id=chat, wait_seconds=0 if number % 2 else 5)

    with ThreadPoolExecutor(10) as pool:
        callers = [pool.submit(contend, daemons[number % 2], number) for number in range(10)]
        for caller in callers:
            caller.result()
    with daemons[0].connect() as wire:
        for number in range(3):
            wire.call("run/stop", chat_id=f"c{number}", wait_seconds=10)
    assert len(acknowledged) > 50
    assert_history(daemons[0].dsn, acknowledged=acknowledged, settled=True)
    said = daemons[0].read_log() + daemons[1].read_log()
    assert "deadlock" not in said
    assert "Traceback" not in said
