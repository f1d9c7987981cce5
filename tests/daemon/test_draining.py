"""A daemon that is about to stop: what it still answers, what it refuses, and how it says farewell."""

import signal
from collections.abc import Callable

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.runs import perform, start, start_endless
from tests.support.waits import wait_until
from tests.support.wire import Wire

PATIENT = FAST.replace("drain_seconds = 0.2", "drain_seconds = 30")


def begin_draining(daemon: Daemon, wire: Wire) -> None:
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    wait_until(lambda: wire.call("server/info")["state"] == "draining")


def assert_draining(wire: Wire, method: str, **params) -> None:
    error = wire.refuse(method, **params)
    assert (error.code, error.type, error.data["retryable"]) == (503, "draining", True)


def test_a_draining_daemon(make_daemon: Callable[..., Daemon]):
    """While it drains a daemon refuses starts and waits as retryable, and goes on reading, stopping and tailing; a run
    that ends by itself succeeds; then every connection is closed.
    """
    daemon = make_daemon(config=PATIENT).start()
    with daemon.connect() as wire:
        settled, stopped = perform(wire), start_endless(wire)
        ending = start(wire, input="a b c d e f g h i j", metadata={"demo": {"delay_ms": 50}})
        tails = [
            wire.call("run/tail", run_id=run["id"], after_seq=0)["subscription"] for run in (ending, stopped)
        ]
        begin_draining(daemon, wire)
        assert_draining(wire, "run/start", agent="demo", chat_id="refused")
        assert_draining(wire, "run/wait", run_id=stopped["id"])
        assert wire.call("run/wait", run_id=settled["id"])["settled"] is True
        assert wire.call("run/get", run_id=settled["id"])["run"] == settled
        assert wire.tail(settled["id"])[1]["reason"] == "settled"
        assert wire.call("run/stop", run_id=stopped["id"], wait_seconds=20)["outcome"] == "stopped"
        for subscription, status in zip(tails, ("succeeded", "aborted"), strict=True):
            events, end = wire.read_tail(subscription)
            assert (events[-1]["data"]["status"], end["reason"]) == (status, "settled")
        assert wire.read_to_end() == []
    assert daemon.stop() == 0, daemon.read_log()
    assert_history(daemon.database, settled=True)


def test_the_end_settles_what_is_left(make_daemon: Callable[..., Daemon]):
    """Runs that do not end in time are aborted by the shutdown; who tails or waits is told before the connection ends."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = start_endless(wire)
        subscription = wire.call("run/tail", run_id=run["id"])["subscription"]
        waiting = wire.send("run/wait", {"run_id": run["id"]})
        assert daemon.stop() == 0, daemon.read_log()
        events, end = wire.read_tail(subscription)
        assert (events[-1]["type"], end["reason"]) == ("run.settled", "settled")
        assert (events[-1]["data"]["status"], events[-1]["data"]["error"]["code"]) == ("aborted", "shutdown")
        answer = wire.wait_line(waiting)
        if "error" in answer:  # the wait came after the signal
            assert answer["error"]["data"]["type"] == "draining"
        else:
            assert answer["result"]["settled"] is True
    assert_history(daemon.database, settled=True)


def test_a_tail_of_a_run_elsewhere_ends_as_draining(make_daemon: Callable[..., Daemon]):
    """A daemon that stops ends its tails of other daemons' runs as draining, and its waits for them as retryable."""
    stopping = make_daemon().start()
    staying = make_daemon(database=stopping.database).start()
    with staying.connect() as there, stopping.connect() as wire:
        run = start_endless(there)
        tailed = wire.call("run/tail", run_id=run["id"])
        waiting = wire.send("run/wait", {"run_id": run["id"]})
        assert stopping.stop() == 0, stopping.read_log()
        events, end = wire.read_tail(tailed["subscription"])
        assert (events, end["reason"], end["last_seq"]) == ([], "draining", tailed["as_of_seq"])
        error = wire.wait_line(waiting)["error"]
        assert (error["code"], error["data"]["type"], error["data"]["retryable"]) == (503, "draining", True)
        assert there.call("run/get", run_id=run["id"])["run"]["status"] == "running"


def test_a_gone_daemon_has_no_socket(make_daemon: Callable[..., Daemon]):
    """After a clean stop nobody connects any more, and the next daemon serves the same runs."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = perform(wire)
    assert daemon.stop() == 0
    with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
        daemon.connect()
    with daemon.start().connect() as wire:
        assert wire.call("run/get", run_id=run["id"])["run"] == run
