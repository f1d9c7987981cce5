"""Commands outlive their daemon: the next one of the same home goes on with them, or ends them."""

import os
import signal
import time
from collections.abc import Callable

import psycopg
import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.postgres import Postgres
from tests.support.processes import find_run_processes, is_alive
from tests.support.programs import list_pids, python
from tests.support.runs import list_seqs, read_logged, read_text, settle, start, start_shell, wait_text
from tests.support.waits import wait_until
from tests.support.wire import Json

MakeDaemon = Callable[..., Daemon]

LEAVE = f'{FAST}on_stop = "leave"\n'
TICK = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo tick $i; sleep 0.05; done; exit 7"
TICKS = "".join(f"tick {number}\n" for number in range(1, 41))


def list_types(events: list[Json]) -> list[str]:
    return [event["type"] for event in events if event["type"].startswith("run.")]


def list_spools(daemon: Daemon) -> list[str]:
    return sorted(path.name for path in (daemon.state / "spool").glob("*"))


def restart(daemon: Daemon, config: str | None = None) -> Daemon:
    """kill -9, and the next one in the same home."""
    daemon.kill()
    if config is not None:
        daemon.config.write_text(config)
    return daemon.start()


def test_a_command_goes_on_without_its_daemon(make_daemon: MakeDaemon):
    """Killed in the middle, the daemon is missed by nobody: same attempt, next epoch, every line once, the true status."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = start_shell(wire, TICK)
        wait_text(wire, run["id"], "tick 1\ntick 2\n")
    before = find_run_processes({run["id"]})
    restart(daemon)
    with daemon.connect() as wire:
        events, end = wire.tail(run["id"])
        settled, message = wire.call("run/get", run_id=run["id"]).values()
    assert set(before) & set(find_run_processes({run["id"]})) == set()
    assert list_types(events) == ["run.created", "run.started", "run.adopted", "run.settled"]
    assert (settled["status"], settled["error"]["exit_status"]) == ("failed", 7)
    assert (settled["attempt"], settled["epoch"], settled["step_count"]) == (1, 2, 1)
    assert read_text(events) == message["content"] == TICKS
    assert [event["type"] for event in events].count("step.started") == 1
    assert end["reason"] == "settled"
    assert not list_spools(daemon)
    assert_history(daemon.dsn, acknowledged={run["id"]}, settled=True)


def test_a_tail_goes_on_where_it_was(make_daemon: MakeDaemon):
    """A reader that comes back with its cursor sees what follows, without a gap or a repeat."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = start_shell(wire, TICK)
        tailed = wire.call("run/tail", run_id=run["id"], after_seq=0)
        seen, _ = wire.read_tail(tailed["subscription"], until=6)
        daemon.kill()
    daemon.start()
    with daemon.connect() as wire:
        rest, _ = wire.tail(run["id"], after_seq=seen[-1]["seq"])
    assert list_seqs(seen + rest) == list(range(1, len(seen + rest) + 1))
    assert read_text(seen + rest) == TICKS


@pytest.mark.parametrize(
    ("script", "status", "error"),
    [
        ("echo before; sleep 0.3; echo after; exit 3", "failed", {"code": "exit_status", "exit_status": 3}),
        ("echo before; sleep 0.3; echo after", "succeeded", None),
        ("echo before; sleep 0.3; echo after; kill -9 $$", "failed", {"code": "signal", "signal": "SIGKILL"}),
    ],
)
def test_a_command_that_ended_meanwhile_has_its_true_end(
    make_daemon: MakeDaemon, word: str, script: str, status: str, error: Json | None
):
    """What a command said and how it ended while no daemon was up is known to the next one; its leavings are gone."""
    daemon = make_daemon().start()
    leavings = f"(env -i setsid sleep 1000.{word} &)\n"
    with daemon.connect() as wire:
        run = start_shell(wire, leavings + script)
        wait_text(wire, run["id"], "before\n")
    daemon.kill()
    status_file = daemon.state / "spool" / f"{run['id']}-1" / "status"
    wait_until(lambda: status_file.read_text().strip(), what="the command has ended")
    daemon.start()
    with daemon.connect() as wire:
        settled = settle(wire, run["id"])
        message = wire.call("run/get", run_id=run["id"])["message"]
    assert settled["status"] == status
    assert error is None or {name: settled["error"][name] for name in error} == error
    assert message["content"] == "before\nafter\n"
    assert not list_pids(word)
    assert not list_spools(daemon)
    assert_history(daemon.dsn, settled=True)


def test_a_command_whose_wrapper_is_gone_too_is_lost(make_daemon: MakeDaemon):
    """Nobody knows how it ended: the run says so, or goes on as the next attempt, if that was asked for."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        runs = {
            loss: start_shell(wire, "echo up; exec sleep 600", on_owner_loss=loss)["id"]
            for loss in ("abort", "resume")
        }
        for run_id in runs.values():
            wait_text(wire, run_id, "up\n")
    daemon.kill()
    for pid in find_run_processes(set(runs.values())):
        os.kill(pid, signal.SIGKILL)
    daemon.start()
    with daemon.connect() as wire:
        lost = settle(wire, runs["abort"])
        assert (lost["status"], lost["error"]["code"]) == ("failed", "process_lost")
        wait_text(wire, runs["resume"], "up\nup\n")
        resumed = wire.call("run/get", run_id=runs["resume"])["run"]
        assert (resumed["status"], resumed["attempt"]) == ("running", 2)
        wire.call("run/stop", run_id=resumed["id"], wait_seconds=20)
    assert_history(daemon.dsn, settled=True)


def test_a_stop_that_nobody_was_there_to_hear_is_heard(make_daemon: MakeDaemon):
    """A stop through another daemon reaches the command when its own daemon is back; until then it goes on."""
    home = make_daemon().start()
    other = make_daemon(
        database=home.database, config=FAST.replace("adopt_seconds = 0", "adopt_seconds = 600")
    )
    with home.connect() as wire:
        run = start_shell(wire, "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.02; done")
        wait_text(wire, run["id"], "up\n")
    home.kill()
    other.start()
    with other.connect() as wire:
        error = wire.refuse("run/start", agent="demo", chat_id=run["chat_id"])
        assert error.data["active_run_id"] == run["id"]
        stopping = wire.call("run/stop", run_id=run["id"], reason="enough", wait_seconds=20)
        assert stopping["outcome"] == "stopped"  # on the same machine it can be ended at once
        assert (stopping["run"]["status"], stopping["run"]["error"]) == ("aborted", None)
    assert not find_run_processes({run["id"]})
    home.start()
    assert not list_spools(home)
    assert_history(home.dsn, settled=True)


def test_another_home_waits_then_ends_it(make_daemon: MakeDaemon):
    """For so long after the lease a command is left to its home; then another daemon on the same machine kills it."""
    home = make_daemon(config=FAST.replace("lease_seconds = 6", "lease_seconds = 2")).start()
    other = make_daemon(
        database=home.database, config=FAST.replace("adopt_seconds = 0", "adopt_seconds = 1.5")
    ).start()
    with home.connect() as wire:
        run = start_shell(wire, "echo up; exec sleep 600")
        wait_text(wire, run["id"], "up\n")
    home.kill()
    killed = time.monotonic()
    other.wait_logged("owner declared dead")
    assert find_run_processes({run["id"]})
    with other.connect() as wire:
        settled = settle(wire, run["id"])
    assert time.monotonic() - killed > 1.5
    assert (settled["status"], settled["error"]["code"]) == ("aborted", "owner_lost")
    assert not find_run_processes({run["id"]})
    home.start()
    assert not list_spools(home)
    assert_history(home.dsn, settled=True)


def test_a_daemon_that_stops_may_leave_commands_running(make_daemon: MakeDaemon):
    """``on_stop = "leave"``: SIGTERM ends the daemon at once and cleanly, the command goes on, other runs are settled."""
    daemon = make_daemon(config=LEAVE).start()
    with daemon.connect() as wire:
        run = start_shell(wire, TICK)
        talk = start(wire, input="a b", metadata={"demo": {"delay_ms": 600_000}})
        wait_text(wire, run["id"], "tick 1\n")
    assert daemon.stop() == 0
    assert find_run_processes({run["id"]})
    with psycopg.connect(daemon.dsn) as connection:
        rows = dict(connection.execute("SELECT id::text, status FROM outlived.runs").fetchall())
    assert rows == {run["id"]: "running", talk["id"]: "aborted"}
    daemon.start()
    with daemon.connect() as wire:
        settled = settle(wire, run["id"])
        events, _ = wire.tail(run["id"])
    assert settled["error"]["exit_status"] == 7
    assert list_types(events) == ["run.created", "run.started", "run.adopted", "run.settled"]
    assert read_text(events) == TICKS
    assert daemon.stop() == 0
    assert_history(daemon.dsn, settled=True)


def test_a_daemon_that_drains_ends_them(make_daemon: MakeDaemon):
    """Without being asked to leave anything, a daemon that stops ends its commands and settles them."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = start_shell(wire, "echo up; exec sleep 600")
        wait_text(wire, run["id"], "up\n")
    assert daemon.stop() == 0
    assert not find_run_processes({run["id"]})
    assert not list_spools(daemon)
    assert_history(daemon.dsn, settled=True)


def test_a_command_of_a_client_that_is_gone_is_not_adopted(make_daemon: MakeDaemon):
    """A run that is bound to its client has lost it with its daemon: it is ended."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = start_shell(wire, "echo up; exec sleep 600", detached=False)
        wait_text(wire, run["id"], "up\n")
        restart(daemon)
    with daemon.connect() as wire:
        assert settle(wire, run["id"])["status"] == "aborted"
    assert not find_run_processes({run["id"]})


def test_streams_are_never_torn(make_daemon: MakeDaemon):
    """Characters of two, three and four bytes, written byte by byte over a kill, arrive whole, on either stream."""
    text = "äöü€😀" * 40
    script = (
        "import os, time\n"
        f"for byte in {text.encode()!r}:\n"
        "    os.write(1, bytes([byte])); os.write(2, bytes([byte])); time.sleep(0.002)\n"
    )
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = start(wire, command=python(script))
        wait_text(wire, run["id"], "äö")
    restart(daemon)
    with daemon.connect() as wire:
        events, _ = wire.tail(run["id"])
    assert read_text(events) == text
    assert read_logged(events) == text


def test_a_format_goes_on_in_the_middle(make_daemon: MakeDaemon):
    """Lines that are events are so over a kill, each once; half a line waits for its other half."""
    script = (
        "import json, time\n"
        "def say(**event): print(json.dumps(event), flush=True)\n"
        "say(type='step.started', name='count')\n"
        "for number in range(60):\n"
        "    line = json.dumps({'type': 'text.delta', 'text': f'{number} '})\n"
        "    print(line[:9], end='', flush=True); time.sleep(0.01); print(line[9:], flush=True)\n"
        "    say(type='usage', output_tokens=1)\n"
        "say(type='step.finished', name='count')\n"
        "say(type='run.settled', status='failed')\n"
    )
    daemon = make_daemon()
    path = daemon.directory / "agent.py"
    path.write_text(script)
    argv = ", ".join(f'"{word}"' for word in [*python("")[:1], str(path)])
    daemon.config.write_text(
        f'{FAST}\n[agents.count]\nkind = "command"\nformat = "jsonl"\ncommand = [{argv}]\n'
    )
    daemon.start()
    with daemon.connect() as wire:
        run = start(wire, agent="count")
        wait_text(wire, run["id"], "0 1 2 ")
    restart(daemon)
    with daemon.connect() as wire:
        wait_text(wire, run["id"], "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 ")
    restart(daemon)
    with daemon.connect() as wire:
        events, _ = wire.tail(run["id"])
        settled = settle(wire, run["id"])
    assert read_text(events) == "".join(f"{number} " for number in range(60))
    assert (settled["status"], settled["usage"]["output_tokens"], settled["step_count"]) == (
        "succeeded",
        60,
        1,
    )
    assert "run.settled" in read_logged(events)
    assert_history(daemon.dsn, settled=True)


def test_a_record_that_names_a_stranger_harms_nobody(make_daemon: MakeDaemon):
    """A pid that is somebody else's by now is not signalled, not waited for, and nobody's group is."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = start_shell(wire, "echo up; exec sleep 600")
        wait_text(wire, run["id"], "up\n")
    daemon.kill()
    for pid in find_run_processes({run["id"]}):
        os.kill(pid, signal.SIGKILL)
    stranger = os.spawnvp(os.P_NOWAIT, "setsid", ["setsid", "sleep", "600"])
    try:
        with psycopg.connect(daemon.dsn) as connection:
            connection.execute("UPDATE outlived.runs SET process_pid = %s, process_pgid = %s", [stranger] * 2)
        daemon.start()
        with daemon.connect() as wire:
            assert settle(wire, run["id"])["error"]["code"] == "process_lost"
        assert is_alive(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


def test_a_command_of_another_database_is_left_alone(make_daemon: MakeDaemon, postgres: Postgres):
    """A daemon of the same home that is given another database knows nothing of its commands, and touches none."""
    daemon = make_daemon().start()
    own = daemon.database
    with daemon.connect() as wire:
        run = start_shell(wire, TICK)
        wait_text(wire, run["id"], "tick 1\n")
    daemon.kill()
    daemon.database = postgres.create_database()
    daemon.start()
    assert find_run_processes({run["id"]})
    assert daemon.stop() == 0
    daemon.database = own
    daemon.start()
    with daemon.connect() as wire:
        assert settle(wire, run["id"])["error"]["exit_status"] == 7
        assert read_text(wire.tail(run["id"])[0]) == TICKS
    assert_history(daemon.dsn, settled=True)


def test_a_row_that_is_still_locked_is_waited_for(make_daemon: MakeDaemon):
    """A dead daemon's last batch may hold its run's row until Postgres has noticed: the run is adopted a sweep later."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = start_shell(wire, TICK)
        wait_text(wire, run["id"], "tick 1\n")
    daemon.kill()
    with psycopg.connect(daemon.dsn) as connection:
        connection.execute("SELECT 1 FROM outlived.runs WHERE id = %s FOR UPDATE", [run["id"]])
        daemon.start()
        assert find_run_processes({run["id"]})
        assert "run adopted" not in daemon.read_log()
    with daemon.connect() as wire:
        assert settle(wire, run["id"])["error"]["exit_status"] == 7
        assert read_text(wire.tail(run["id"])[0]) == TICKS
    assert_history(daemon.dsn, settled=True)
