"""Runs that are resumed, in real daemons that are killed and stopped: at the same daemon, or at another one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.effort import Effort
from tests.support.history import assert_history
from tests.support.processes import find_run_processes
from tests.support.runs import list_seqs, read_text, settle, start, start_shell, wait_text
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire

MakeDaemon = Callable[..., Daemon]

AGENT = '\n[agents.walk]\nkind = "python"\ntarget = "stepwise:{}"\n'
WALK = FAST.replace("[run]", "[run]\nmax_attempts = 3") + AGENT.format("walk")
STROLL = WALK.replace("stepwise:walk", "stepwise:stroll")
STAYS = "({} by 1)"


def start_walk(wire: Wire, notes: Path, stay: tuple[int, int], **params: Any) -> Json:
    """Start the agent of steps, and let it come as far as it goes in its first attempt."""
    metadata = {"notes": str(notes), "stay": list(stay)}
    run = start(wire, agent="walk", on_owner_loss="resume", metadata=metadata, **params)
    assert (run["on_owner_loss"], run["attempt"]) == ("resume", 1)
    wait_text(wire, run["id"], "(1 by 1)" * (stay[0] > 1) + "(2 by 1)" * (stay[0] > 2) + "here")
    return run


def get_run(wire: Wire, run_id: str) -> Json:
    return wire.call("run/get", run_id=run_id)["run"]


def read_facts(events: list[Json]) -> list[str]:
    """The types of the facts of a life, each attempt with its number and each release with its reason."""
    words = {
        "run.started": lambda data: f"attempt {data['attempt']}",
        "run.released": lambda data: data["reason"],
        "run.settled": lambda data: data["status"],
    }
    return [words[event["type"]](event["data"]) for event in events if event["type"] in words]


def test_a_second_daemon_goes_on_with_a_killed_ones_run(make_daemon: MakeDaemon, tmp_path: Path):
    """After kill -9 in the middle of a step a sibling finishes the run: done steps stay done, a tail through it is whole."""
    first = make_daemon(config=WALK).start()
    second = make_daemon(first.dsn, WALK).start()
    notes = tmp_path / "notes"
    with first.connect() as here, second.connect() as there:
        run = start_walk(here, notes, (3, 1), chat_id="walked")
        tailed = there.call("run/tail", run_id=run["id"], after_seq=0)["subscription"]
        first.kill()
        events, end = there.read_tail(tailed)
        assert end is not None
        assert end["reason"] == "settled"
        assert list_seqs(events) == list(range(1, len(events) + 1))
        assert read_facts(events) == ["attempt 1", "owner_lost", "attempt 2", "succeeded"]
        assert notes.read_text().split() == ["1:1", "1:2", "1:3", "2:3", "2:4"]
        assert read_text(events) == "(1 by 1)(2 by 1)here(1 by 1)(2 by 1)(3 by 2)(4 by 2)"
        finished = [event["data"]["step"] for event in events if event["type"] == "step.finished"]
        assert finished == [1, 2, 3, 4]
        done, message = there.call("run/get", run_id=run["id"]).values()
        assert (done["attempt"], done["epoch"], done["step_count"]) == (2, 3, 4)
        assert done["owner"] == there.call("server/info")["instance_id"]
        assert (message["content"], message["status"]) == (read_text(events), "completed")
        assert there.call("run/latest", chat_id="walked")["run"]["id"] == run["id"]
    assert_history(first.dsn, acknowledged={run["id"]}, settled=True)


def test_attempts_that_are_lost_are_bounded(make_daemon: MakeDaemon, tmp_path: Path):
    """A run whose daemon dies in each of its three attempts has failed, and its chat is free."""
    daemon = make_daemon(config=WALK).start()
    notes = tmp_path / "notes"
    with daemon.connect() as wire:
        run = start_walk(wire, notes, (2, 99), chat_id="cursed")
    for attempt in (2, 3):
        daemon.kill()
        daemon.start()
        wait_until(
            lambda attempt=attempt: f"{attempt}:2" in notes.read_text(), what=f"attempt {attempt} is at it"
        )
        with daemon.connect() as wire:
            assert wire.refuse("run/start", agent="demo", chat_id="cursed").data["active_run_id"] == run["id"]
    daemon.kill()
    daemon.start()
    with daemon.connect() as wire:
        run = settle(wire, run["id"])
        assert (run["status"], run["error"]["code"], run["attempt"]) == ("failed", "too_many_attempts", 3)
        assert notes.read_text().split() == ["1:1", "1:2", "2:2", "3:2"]
        start(wire, chat_id="cursed")
    assert daemon.stop() == 0
    assert_history(daemon.dsn, acknowledged={run["id"]}, settled=True)


def test_a_changed_program_fails_the_run(make_daemon: MakeDaemon, tmp_path: Path):
    """An agent that asks for other steps than the ones that are done is not believed to be the same."""
    daemon = make_daemon(config=WALK).start()
    with daemon.connect() as wire:
        run = start_walk(wire, tmp_path / "notes", (3, 1))
    daemon.kill()
    daemon.config.write_text(STROLL)
    daemon.start()
    with daemon.connect() as wire:
        run = settle(wire, run["id"])
        assert (run["status"], run["error"]["code"], run["attempt"]) == ("failed", "nondeterminism", 2)
        assert "'look around'" in run["error"]["message"]
        assert (tmp_path / "notes").read_text().split() == ["1:1", "1:2", "1:3"]
    assert_history(daemon.dsn, settled=True)


@pytest.mark.parametrize("embedded", [False, True], ids=["a given database", "a personal daemon"])
def test_a_restart_goes_on_with_its_runs(
    make_daemon: MakeDaemon, tmp_path: Path, embedded: bool, effort: Effort
):
    """SIGTERM releases what may be resumed and aborts the rest; however often, the next start goes on where it was."""
    daemon = make_daemon(database=None, config=WALK) if embedded else make_daemon(config=WALK)
    daemon.start()
    notes, restarts = tmp_path / "notes", 1 if embedded else effort.choose(4, 40)
    with daemon.connect() as wire:
        run = start_walk(wire, notes, (2, restarts))
        plain = start(wire, input="a b", metadata={"demo": {"delay_ms": 3_600_000}})
        tailed = wire.call("run/tail", run_id=run["id"], after_seq=0)["subscription"]
        assert daemon.stop() == 0, daemon.read_log()
        events, end = wire.read_tail(tailed)
        assert (events[-1]["type"], events[-1]["data"]) == ("run.released", {"reason": "shutdown"})
        assert end is not None
        assert end["reason"] == "draining"
    for attempt in range(2, restarts + 1):
        daemon.start()
        wait_until(lambda attempt=attempt: f"{attempt}:2" in notes.read_text(), what=f"attempt {attempt}")
        assert daemon.stop() == 0, daemon.read_log()
    daemon.start()
    with daemon.connect() as wire:
        assert settle(wire, run["id"])["status"] == "succeeded"
        events, _ = wire.tail(run["id"])
        attempts = range(1, restarts + 2)
        assert read_facts(events)[::2] == [f"attempt {attempt}" for attempt in attempts]
        assert read_facts(events)[1::2] == ["shutdown"] * restarts + ["succeeded"]
        assert settle(wire, plain["id"])["error"]["code"] == "shutdown"
        assert notes.read_text().split()[1:-2] == [f"{attempt}:2" for attempt in attempts]
    assert_history(daemon.dsn, settled=True)


def test_a_released_run_is_stopped_by_whoever_is_asked(make_daemon: MakeDaemon, tmp_path: Path):
    """A run that waits for a daemon with its agent is stopped through one without it, and never begins again."""
    first = make_daemon(config=WALK).start()
    second = make_daemon(first.dsn).start()
    with first.connect() as here, second.connect() as there:
        run = start_walk(here, tmp_path / "notes", (2, 99), chat_id="kept")
        tailed = there.call("run/tail", run_id=run["id"])["subscription"]
        assert first.stop() == 0
        events, _ = there.read_tail(tailed, until=1)
        assert [event["type"] for event in events] == ["run.released"]
        waiting = get_run(there, run["id"])
        assert (waiting["status"], waiting["owner"], waiting["attempt"]) == ("pending", None, 1)
        refused = there.refuse("run/start", agent="demo", chat_id="kept")
        assert (refused.type, refused.data["active_run_id"]) == ("run_active", run["id"])
        answer = there.call("run/stop", chat_id="kept", reason="not needed")
        assert (answer["outcome"], answer["run"]["status"]) == ("stopped", "aborted")
        assert (answer["run"]["error"], answer["run"]["stop_reason"]) == (None, "not needed")
        _, end = there.read_tail(tailed)
        assert end is not None
        assert end["reason"] == "settled"
        first.start()
        start(there, chat_id="kept")
    assert (tmp_path / "notes").read_text().split() == ["1:1", "1:2"]


def test_a_commands_processes_are_gone_before_it_is_resumed(make_daemon: MakeDaemon, tmp_path: Path):
    """Of two attempts of a command, with all that they started, only one lives at any time on a host."""
    first = make_daemon(config=WALK).start()
    second = make_daemon(first.dsn, WALK).start()
    pids = tmp_path / "pids"
    script = (
        f"echo attempt $OUTLIVE_ATTEMPT; for pid in $(cat {pids} 2>/dev/null); do"
        f" case $(cut -d' ' -f3 /proc/$pid/stat 2>/dev/null) in ''|Z|X) ;; *) echo $pid lives;; esac; done; echo $$ >>{pids};"
        f" if [ $OUTLIVE_ATTEMPT = 1 ]; then setsid sleep 600 & echo $! >>{pids}; echo up; sleep 600; fi"
    )
    with first.connect() as here, second.connect() as there:
        run = start_shell(here, script, on_owner_loss="resume")
        wait_text(here, run["id"], "attempt 1\nup\n")
        first.kill()
        assert settle(there, run["id"])["status"] == "succeeded"
        content = there.call("run/get", run_id=run["id"])["message"]["content"]
        assert content == "attempt 1\nup\nattempt 2\n"
    assert not find_run_processes({run["id"]})
    assert_history(first.dsn, acknowledged={run["id"]}, settled=True)
