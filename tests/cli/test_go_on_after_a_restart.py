"""Every command that follows survives a daemon's kill -9 and restart, with its cursor, and says so on stderr."""

import json

import pytest

from tests.support.daemon import FAST
from tests.support.runs import perform, read_text, start, start_endless, start_shell
from tests.support.waits import wait_until

LONG = {"demo": {"delay_ms": 5, "repeat": 1_000_000}}


@pytest.fixture
def daemon(make_daemon):
    """A daemon of this test's own, which does not kill a stubborn command before the test has killed the daemon."""
    return make_daemon(config=FAST.replace("grace_seconds = 2", "grace_seconds = 60")).start()


@pytest.fixture
def outlive(daemon, sit_at):
    return sit_at(daemon)


def said(err):
    """Which of the two sentences about a restart were said, in order."""
    about = {"lost the connection": "lost", "connected again": "again"}
    return [word for line in err.splitlines() for part, word in about.items() if part in line]


def wait_event(wire, subscription, kind):
    """Read a tail up to the first event of this type."""
    while True:
        events, end = wire.read_tail(subscription, until=1)
        assert end is None, f"the run ended without {kind}"
        if events[0]["type"] == kind:
            return


def restart(daemon):
    daemon.kill()
    daemon.config.write_text(FAST)  # with a short grace: what was to be stopped is stopped now
    daemon.start()


def test_tail_repeats_and_misses_nothing(daemon, outlive):
    """A tail whose daemon is killed in mid-run tells the log from its first event to run.settled, each event once."""
    with daemon.connect() as wire:
        run = start(wire, input="one two three ", metadata=LONG)
    files = {name: outlive.home / name for name in ("events", "text")}
    with files["events"].open("w") as events, files["text"].open("w") as text:
        telling = outlive.start("tail", "--json", run["id"], stdout=events)
        following = outlive.start("tail", run["id"], stdout=text)
    wait_until(lambda: all(file.read_text().count("one") > 5 for file in files.values()), what="both follow")
    restart(daemon)
    with telling, following:
        errs = [process.communicate(timeout=40)[1] for process in (telling, following)]
    assert (telling.returncode, following.returncode) == (3, 3)
    with daemon.connect() as wire:
        log, _ = wire.tail(run["id"])
    told = [json.loads(line) for line in files["events"].read_text().splitlines()]
    assert told == [{name: event[name] for name in told[0]} for event in log]
    assert told[-1]["data"]["error"]["code"] == "owner_lost"
    assert files["text"].read_text() == read_text(log)
    assert [said(err) for err in errs] == [["lost", "again"]] * 2
    assert errs[1].splitlines()[-1].startswith(f"outlive: run {run['id'][-8:]} aborted: ")


def test_run_wait_and_stop_go_on_too(daemon, outlive):
    """A run's own client, a wait for several, and a stop that waits each see the end that the next daemon writes."""
    slow = ["--agent", "demo", "--metadata", json.dumps(LONG), "word "]
    with daemon.connect() as wire:
        endless = start_endless(wire)
        stubborn = start_shell(wire, "trap '' TERM; echo ready; while :; do sleep 0.1; done")
        tailed = wire.call("run/tail", run_id=stubborn["id"], after_seq=0)["subscription"]
        wait_event(wire, tailed, "text.delta")  # it has set its trap
        settled = perform(wire)
        following = outlive.start("run", *slow)
        waiting = outlive.start("wait", endless["id"], stubborn["id"], settled["id"])
        assert following.stdout.read(5) == "word "
        assert waiting.stdout.readline() == f"{settled['id']} succeeded\n"  # it has asked for all of them
        stopping = outlive.start("stop", stubborn["id"], "--wait", "30")
        wait_event(wire, tailed, "run.stop_requested")
        restart(daemon)
    ends = {}
    for name, process in {"run": following, "wait": waiting, "stop": stopping}.items():
        with process:
            ends[name] = (*process.communicate(timeout=40), process.returncode)
    assert {name: code for name, (_, _, code) in ends.items()} == {"run": 3, "wait": 3, "stop": 0}
    assert {name: said(err) for name, (_, err, _) in ends.items()} == {
        name: ["lost", "again"] for name in ends
    }
    assert ends["stop"][0] in {f"{stubborn['id']} stopped\n", f"{stubborn['id']} already_settled\n"}
    assert sorted(ends["wait"][0].splitlines()) == sorted(
        f"{one['id']} aborted" for one in (endless, stubborn)
    )


def test_daemon_that_stays_away_is_said_with_the_way_back(daemon, outlive):
    """Where nobody comes back, one line says so, how to start a daemon, and which line goes on after the last event."""
    outlive.environment["PYTHONWARNINGS"] = "default"
    patience = "import outlive.cli.reach as reach; reach.PATIENCE_SECONDS = 0.3"
    with daemon.connect() as wire:
        run = start_endless(wire)
    code = f"{patience}; import sys; from outlive.cli import main; sys.exit(main())"
    outlive.argv = [outlive.argv[0], "-c", code]
    with outlive.start("tail", run["id"]) as process:
        assert process.stdout.read(6) == "first "
        daemon.kill()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 69
    lost, gone = err.splitlines()
    assert "trying again for" in lost
    assert gone.startswith(f"outlive: cannot reach a daemon at {daemon.socket}")
    assert gone.endswith(
        f"start one with: outlive daemon start; go on with: outlive tail {run['id'][-8:]} --after 4"
    )
