"""``outlive drain``: what it waits for, and what it says."""

import json
import signal

from tests.support.daemon import FAST
from tests.support.runs import start_endless
from tests.support.waits import wait_until

PATIENT = FAST.replace("drain_seconds = 0.2", "drain_seconds = 60")


def test_a_drain_waits_for_the_last_run(make_daemon, sit_at):
    """The command returns when nothing is active any more, and says so; the daemon is still there."""
    daemon = make_daemon().start()
    line = sit_at(daemon)
    with daemon.connect() as wire:
        run = start_endless(wire)
        done = line.run("drain", "--grace", "0.1")
        assert (done.returncode, done.stdout, done.stderr) == (0, "drained\n", "")
        assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "aborted"
        assert line.run("info").returncode == 0
        again = line.run("drain", "--json")
        assert json.loads(again.stdout) == {"state": "draining", "runs_active": 0}


def test_a_drain_need_not_be_waited_for(make_daemon, sit_at):
    """With --no-wait it says how many runs are still active; a client that is interrupted takes no order back."""
    daemon = make_daemon(config=PATIENT).start()
    line = sit_at(daemon)
    with daemon.connect() as wire:
        run = start_endless(wire)
        done = line.run("drain", "--no-wait")
        assert (done.returncode, done.stdout) == (0, "draining, 1 run is active\n")
        waiting = line.start("drain")
        wait_until(lambda: wire.call("server/stats")["connections"] == 2)
        with waiting:
            waiting.send_signal(signal.SIGINT)
        assert waiting.returncode == 130
        assert wire.call("server/info")["state"] == "draining"
        assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "running"
        wire.call("server/drain", grace_seconds=0)
