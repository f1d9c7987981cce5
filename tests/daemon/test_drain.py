"""``server/drain``: no more starts, the runs ended as by a stop, and a daemon that stays."""

import signal
import time
from collections.abc import Callable

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.runs import perform, start, start_endless, start_shell, wait_text
from tests.support.waits import wait_until
from tests.support.wire import Wire

MakeDaemon = Callable[..., Daemon]

PATIENT = FAST.replace("drain_seconds = 0.2", "drain_seconds = 60")


def read_status(wire: Wire, run: dict) -> str:
    return wire.call("run/get", run_id=run["id"])["run"]["status"]


def test_a_drained_daemon_stays(make_daemon: MakeDaemon):
    """The order is answered at once; runs have their time, then they are ended; the daemon reads, tails and refuses starts."""
    daemon = make_daemon(config=PATIENT).start()
    with daemon.connect() as wire:
        endless = start_endless(wire)
        tailed = wire.call("run/tail", run_id=endless["id"], after_seq=0)
        short = start(wire, input="a b c d e f", metadata={"demo": {"delay_ms": 50}})
        assert wire.call("server/drain", grace_seconds=1) == {"state": "draining", "runs_active": 2}
        assert wire.call("server/info")["state"] == "draining"
        assert wire.refuse("run/start", agent="demo").type == "draining"
        events, end = wire.read_tail(tailed["subscription"])
        assert (events[-1]["data"]["status"], events[-1]["data"]["error"]["code"]) == ("aborted", "shutdown")
        assert end is not None
        assert end["reason"] == "settled"
        assert read_status(wire, short) == "succeeded"
        assert wire.call("run/list", status=["running"])["runs"] == []
        assert wire.call("server/drain") == {"state": "draining", "runs_active": 0}
    assert daemon.stop() == 0, daemon.read_log()
    assert_history(daemon.database, settled=True)


def test_a_later_order_may_give_less_time(make_daemon: MakeDaemon):
    """A second order takes the place of the first, whatever time that gave."""
    daemon = make_daemon(config=PATIENT).start()
    with daemon.connect() as wire:
        run = start_endless(wire)
        wire.call("server/drain", grace_seconds=3600)
        assert read_status(wire, run) == "running"
        wire.call("server/drain", grace_seconds=0)
        wait_until(lambda: read_status(wire, run) == "aborted")


def test_without_a_word_the_time_is_as_configured(make_daemon: MakeDaemon):
    """An order without a time gives ``drain_seconds``, and a signal during a long drain means what it always means."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = start_endless(wire)
        wire.call("server/drain", grace_seconds=3600)
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert daemon.process is not None
        assert daemon.process.wait(30) == 0
        assert time.monotonic() - began < 20
    with daemon.start().connect() as wire:
        assert read_status(wire, run) == "aborted"
        assert perform(wire)["status"] == "succeeded"


def test_resumable_runs_are_given_back(make_daemon: MakeDaemon):
    """A run that may be resumed is released by a drain and claimed by another daemon, not by the one that drains."""
    daemon = make_daemon(config=PATIENT).start()
    with daemon.connect() as wire:
        run = start_endless(wire, on_owner_loss="resume")
        wire.call("server/drain", grace_seconds=0)
        wait_until(lambda: wire.call("run/get", run_id=run["id"])["run"]["owner"] is None)
        other = make_daemon(database=daemon.database).start()
        with other.connect() as there:
            wait_until(lambda: there.call("run/get", run_id=run["id"])["run"]["attempt"] == 2)
            assert (
                there.call("run/get", run_id=run["id"])["run"]["owner"]
                == there.call("server/info")["instance_id"]
            )
            there.call("run/stop", run_id=run["id"], wait_seconds=20)


def test_a_drain_leaves_nothing_to_the_next(make_daemon: MakeDaemon):
    """Commands that a stop would leave running are ended by an order to drain: this daemon stays, there is no next one."""
    daemon = make_daemon(config=FAST.replace("[run]", '[run]\non_stop = "leave"')).start()
    with daemon.connect() as wire:
        run = start_shell(wire, "echo here; exec sleep 1000")
        wait_text(wire, run["id"], "here")
        wire.call("server/drain", grace_seconds=0)
        wait_until(lambda: read_status(wire, run) == "aborted")
        assert wire.call("run/get", run_id=run["id"])["run"]["error"]["code"] == "shutdown"
    assert daemon.stop() == 0, daemon.read_log()
    assert_history(daemon.database, settled=True)


def test_only_numbers_of_seconds(shared_daemon: Daemon, wire: Wire):
    """A time that is none is refused, and nothing is drained."""
    for seconds in (-1, "soon", 1e9):
        assert wire.refuse("server/drain", grace_seconds=seconds).data["path"] == "$.grace_seconds"
    assert wire.call("server/info")["state"] == "serving"
