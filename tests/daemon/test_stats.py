"""``server/stats``: the figures move as what they count does, and who blocks the loop is named in the log."""

import json
import re

import pytest

from tests.support.daemon import FAST
from tests.support.runs import perform, settle, start, start_endless, start_shell, stop
from tests.support.waits import wait_until

CONFIG = (
    FAST
    + """
[agents.blocking]
kind = "python"
target = "blocking:block"
"""
)
GAUGES = re.compile(
    r"_total$|_(p50|p99)(_|$)|_(seconds|bytes|ratio|events|items)$|^(connections|subscribers|database|runs_)"
)


def read(wire):
    return wire.call("server/stats")


def test_figures_are_named_by_their_unit(wire):
    """It is a flat object; every figure's name says whether it is a total, a quantile or a gauge, and of what."""
    stats = read(wire)
    assert all(value is None or isinstance(value, int | float | str) for value in stats.values())
    assert [name for name in stats if not GAUGES.search(name)] == []


def test_a_daemon_at_rest_says_so(make_daemon):
    """Before anything was asked of it a daemon has one connection and nothing else."""
    with make_daemon().start().connect() as wire:
        wait_until(
            lambda: read(wire)["connections"] == 1, what="it has noticed that who waited for it has gone"
        )
        stats = read(wire)
        assert stats["database"] == "ok"
        assert (stats["subscribers"], stats["subscriber_lag_events"]) == (0, 0)
        still = {
            name: value for name, value in stats.items() if name.startswith(("runs_", "queue_", "commit"))
        }
        assert {value or 0 for value in still.values()} == {0}, still
        assert 10 << 20 < stats["rss_bytes"] < 1 << 30
        assert stats["cpu_seconds"] > 0
        assert 0 <= stats["uptime_seconds"] < 120
        assert stats["loop_longest_seconds"] > 0
        assert 0 < stats["loop_busy_ratio"] <= 1


def test_runs_are_counted_by_their_end(wire):
    """After some runs of each kind the totals have grown by exactly these, and by what they wrote."""
    before = read(wire)
    done = [perform(wire) for _ in range(4)]
    done += [settle(wire, start_shell(wire, "exit 3")["id"]) for _ in range(2)]
    done.append(stop(wire, start_endless(wire)["id"]))
    after = read(wire)
    grown = {name: after[name] - before[name] for name in after if name.endswith("_total")}
    assert grown["runs_started_total"] == 7
    assert [grown[f"runs_{end}_total"] for end in ("succeeded", "failed", "aborted")] == [4, 2, 1]
    assert grown["events_total"] == sum(run["last_seq"] for run in done)
    assert 7 <= grown["commits_total"] <= grown["commit_items_total"] <= grown["events_total"] + 7
    assert 0 < after["commit_p50_seconds"] <= after["commit_p99_seconds"] < 60
    assert 1 <= after["commit_items_p50"] <= after["commit_items_p99"]


def test_active_runs_and_subscribers_are_counted(shared_daemon, wire):
    """A run that is at work, and the tails of every connection, are there as long as they are."""
    wait_until(lambda: read(wire)["connections"] == 1, what="earlier clients have gone")
    before = read(wire)
    run = start_endless(wire)
    with shared_daemon.connect() as other:
        subscriptions = [
            each.call("run/tail", run_id=run["id"])["subscription"] for each in (wire, other, other)
        ]
        now = read(wire)
        assert now["runs_running"] == before["runs_running"] + 1
        assert now["connections"] == before["connections"] + 1
        assert now["subscribers"] == before["subscribers"] + 3
        wire.call("run/untail", subscription=subscriptions[0])
        wire.read_tail(subscriptions[0])
    wait_until(lambda: read(wire)["subscribers"] == before["subscribers"], what="nobody tails any more")
    stop(wire, run["id"])
    assert read(wire)["runs_running"] == before["runs_running"]


def test_a_reader_that_stops_is_seen_to_be_behind(shared_daemon, wire):
    """The lag is that of the subscriber who does not read; when it has gone nobody is behind."""
    script = "i=0; while [ $i -lt 400 ]; do head -c 30000 /dev/zero | tr '\\0' x; i=$((i+1)); done"
    with shared_daemon.connect() as lazy:
        run = start_shell(wire, script)
        lazy.send("run/tail", {"run_id": run["id"], "after_seq": 0})
        settle(wire, run["id"])
        behind = wait_until(lambda: read(wire)["subscriber_lag_events"], what="the lazy reader is behind")
        assert 0 < behind <= wire.call("run/get", run_id=run["id"])["run"]["last_seq"]
    wait_until(lambda: read(wire)["subscriber_lag_events"] == 0, what="nobody is behind")


def test_what_cannot_be_stored_is_counted(wire):
    """Each NUL that an agent says is replaced, and counted."""
    before = read(wire)["replaced_characters_total"]
    settle(wire, start_shell(wire, r"printf 'a\0b\0\0'")["id"])
    assert read(wire)["replaced_characters_total"] == before + 3


def test_stats_take_no_parameters(wire):
    """Any field is unknown."""
    assert wire.refuse("server/stats", verbose=True).data["path"] == "$.verbose"


def find_named(daemon, run_id):
    """What the log says of a run that blocks: the lines that are whole."""
    lines = [json.loads(line) for line in daemon.read_log().splitlines(keepends=True) if line.endswith("}\n")]
    return [line for line in lines if line.get("run_id") == run_id and "stack" in line]


@pytest.mark.parametrize("way", ["sleeping", "below", "computing", "held"])
def test_who_blocks_the_loop_is_named(make_daemon, way):
    """A python agent that stops everything is in the log with its run and its place, and is counted."""
    daemon = make_daemon(config=CONFIG).start()
    with daemon.connect() as wire:
        before = read(wire)["loop_blocks_total"]
        run = start(wire, agent="blocking", input=f"0.5 {way}")
        settle(wire, run["id"])
        stats = read(wire)
        assert stats["loop_blocks_total"] > before
        assert stats["loop_longest_seconds"] >= 0.5
    [named] = wait_until(lambda: find_named(daemon, run["id"]), what="the run is named")
    assert named["level"] == "warning"
    assert named["seconds"] >= 0.1
    assert "blocking.py" in named["stack"].splitlines()[-1]


def test_it_is_named_while_it_blocks(make_daemon):
    """The log names the run before the loop goes on, when nobody else of the daemon can say anything."""
    daemon = make_daemon(config=CONFIG).start()
    with daemon.connect() as wire:
        run = start(wire, agent="blocking", input="3 sleeping")
        wait_until(lambda: find_named(daemon, run["id"]), what="the run is named")
        assert "the loop goes on" not in daemon.read_log()
        assert read(wire)["loop_blocks_total"] >= 1
        daemon.wait_logged("the loop goes on")
