"""The behaviours that the whole project is for, each told once, on a real database with several daemons."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest

from tests.support.daemon import Daemon
from tests.support.history import assert_history
from tests.support.homes import CONFIG, end_cleanly, make_home
from tests.support.postgres import Postgres
from tests.support.runs import ENDLESS, perform, read_text, settle, start, start_endless, stop
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire


def execute(daemon: Daemon, sql: str, params: Any = None) -> None:
    assert daemon.database is not None
    with psycopg.connect(daemon.database) as connection:
        connection.execute(sql, params)


def copy_run(daemon: Daemon, run_id: str, **changes: Any) -> None:
    """Insert another row like this run's by SQL, past every daemon, with some columns changed."""
    columns = ["id", "position", *changes]
    values = ["gen_random_uuid()", "position + 1000", *(f"%({name})s" for name in changes)]
    names = "workspace, chat_id, input, trigger, peer_uid, message_id, detached, on_owner_loss, owner, created_at, updated_at"
    rest = ", ".join(name for name in names.split(", ") if name not in changes)
    execute(
        daemon,
        f"INSERT INTO outlived.runs ({', '.join(columns)}, {rest})"
        f" SELECT {', '.join(values)}, {rest} FROM outlived.runs WHERE id = %(run_id)s",
        {**changes, "run_id": run_id},
    )


# ---------------------------------------------------------------- one daemon


def test_a_fresh_run(wire: Wire):
    """A fresh run is pending or already further, its trigger is user, its step count 0; its log begins as pending."""
    run = start(wire, input="a b", metadata=ENDLESS)
    assert run["status"] in {"pending", "running"}
    assert (run["trigger"], run["step_count"], run["attempt"]) == ("user", 0, 1)
    [created], _ = wire.read_tail(
        wire.call("run/tail", run_id=run["id"], after_seq=0)["subscription"], until=1
    )
    assert (created["type"], created["data"]["status"], created["data"]["trigger"]) == (
        "run.created",
        "pending",
        "user",
    )


def test_a_foreign_workspace_sees_nothing(wire: Wire):
    """Under another workspace neither run nor chat is there."""
    run = perform(wire, workspace="mine", chat_id="mine")
    assert wire.refuse("run/get", run_id=run["id"], workspace="theirs").code == 404
    assert wire.refuse("chat/get", chat_id="mine", workspace="theirs").code == 404
    assert wire.call("run/latest", chat_id="mine", workspace="theirs")["run"] is None


@pytest.mark.parametrize("status", ["pending", "running", "waiting"])
def test_the_index_refuses_a_second_active_run(shared_daemon: Daemon, wire: Wire, status):
    """Whoever inserts a second active run into a chat, past every daemon, is refused by the unique index."""
    run = start_endless(wire)
    with pytest.raises(psycopg.errors.UniqueViolation, match="runs_one_active_per_chat"):
        copy_run(shared_daemon, run["id"], status=status)
    assert wire.refuse("run/start", agent="demo", chat_id=run["chat_id"]).data["active_run_id"] == run["id"]


def test_the_index_knows_workspaces(shared_daemon: Daemon, wire: Wire):
    """The slot belongs to workspace and chat together: elsewhere the same chat_id is free."""
    run = start_endless(wire, workspace="here", chat_id="slot")
    assert start_endless(wire, workspace="there", chat_id="slot")["id"] != run["id"]
    with pytest.raises(psycopg.errors.UniqueViolation):
        copy_run(shared_daemon, run["id"], status="running")


@pytest.mark.parametrize("how", [{}, {"command": ["false"]}, {"metadata": {"demo": {"fail": "x"}}}])
def test_the_slot_is_free_once_settled(wire: Wire, how):
    """At the moment a run is seen settled its chat takes another one, however it ended."""
    for _ in range(5):
        perform(wire, chat_id=f"free-{len(str(how))}", **how)


def test_a_settled_run_stays_settled(shared_daemon: Daemon, wire: Wire):
    """No statement, whoever sends it, changes a settled run's status, or marks it as stopped."""
    run = perform(wire)
    for change in ("status = 'running'", "status = 'aborted'", "stop_requested_at = now()", "last_seq = 99"):
        with pytest.raises(psycopg.errors.CheckViolation):
            execute(shared_daemon, f"UPDATE outlived.runs SET {change} WHERE id = %s", [run["id"]])
    assert wire.call("run/get", run_id=run["id"])["run"] == run


def test_a_run_without_subscribers_is_whole(shared_daemon: Daemon, wire: Wire):
    """With nobody connected a run persists its step and its content and succeeds; who comes back reads it all."""
    with shared_daemon.connect() as leaving:
        run = start(leaving, chat_id="alone", input="one two three", metadata={"demo": {"delay_ms": 20}})
    answer: Json = wait_until(
        lambda: (found := wire.call("run/latest", chat_id="alone"))["run"]["finished_at"] and found
    )
    assert (answer["run"]["id"], answer["run"]["status"], answer["run"]["step_count"]) == (
        run["id"],
        "succeeded",
        1,
    )
    assert (answer["message"]["status"], answer["message"]["content"]) == ("completed", "one two three")
    assert read_text(wire.tail(run["id"])[0]) == "one two three"


def test_partial_content_is_persisted_while_it_runs(shared_daemon: Daemon, wire: Wire):
    """Somebody who comes back in the middle reads what was said so far, and follows the rest without a gap."""
    with shared_daemon.connect() as leaving:
        run = start_endless(leaving, chat_id="middle", input="first second")
    found = wire.call("run/latest", chat_id="middle")
    assert (found["run"]["id"], found["message"]["content"]) == (run["id"], "first ")
    tailed = wire.call("run/tail", run_id=run["id"])
    wire.call("run/stop", run_id=run["id"])
    events, end = wire.read_tail(tailed["subscription"])
    assert [event["seq"] for event in events] == list(range(tailed["as_of_seq"] + 1, end["last_seq"] + 1))


def test_a_stop_marks_and_a_disconnect_does_not(shared_daemon: Daemon, wire: Wire):
    """An explicit stop sets stop_requested_at and the run is aborted; a disconnect leaves it null, and the run alone."""
    with shared_daemon.connect() as leaving:
        left = start_endless(leaving)
        stopped = start_endless(leaving)
        stopped = stop(leaving, stopped["id"])
    assert (stopped["status"], stopped["stop_requested_at"] is None) == ("aborted", False)
    left = wire.call("run/get", run_id=left["id"])["run"]
    assert (left["status"], left["stop_requested_at"]) == ("running", None)


def test_a_stop_of_a_settled_run_is_a_no_op(wire: Wire):
    """A stop that comes too late changes nothing."""
    run = perform(wire)
    assert wire.call("run/stop", run_id=run["id"]) == {"outcome": "already_settled", "run": run}
    assert wire.call("run/get", run_id=run["id"])["run"] == run


# ---------------------------------------------------------------- the sweep


@attrs.frozen
class Wreck:
    """Three daemons of one database, of which two were killed with runs in their hands.

    ``sweeping`` lives and has ``own``; the first dead one had ``stale``, ``held`` and ``marked``; the second one
    passes for a living owner of another host and had ``fresh``. ``settled`` ended before all that.
    """

    sweeping: Daemon
    runs: dict[str, Json]
    settled: list[Json]


@pytest.fixture(scope="module")
def wreck(postgres: Postgres, short_dir: Path) -> Iterator[Wreck]:
    """What a crash leaves, a moment after it."""
    database = postgres.create_database()
    daemons = [
        Daemon(make_home(short_dir), database=database, config=CONFIG).start(wait=False) for _ in range(3)
    ]
    for daemon in daemons:
        daemon.wait_ready()
    sweeping, dead, remote = daemons
    with sweeping.connect() as here, dead.connect() as doomed, remote.connect() as afar:
        settled = [perform(wire) for wire in (here, doomed, afar)]
        runs = {name: start_endless(doomed, chat_id=name) for name in ("stale", "held", "marked")}
        runs["own"], runs["fresh"] = start_endless(here), start_endless(afar, chat_id="fresh")
    disguise(sweeping, runs["fresh"]["owner"], "+ interval '1 hour'")
    remote.kill()
    disguise(sweeping, runs["fresh"]["owner"], "+ interval '1 hour'")
    dead.kill()
    yield Wreck(sweeping, runs, settled)
    end_cleanly(sweeping)
    assert_history(database, settled=True)


def disguise(daemon: Daemon, owner: str, lease: str) -> None:
    """Make an owner one of another host, of which only its lease says whether it lives."""
    execute(
        daemon,
        "UPDATE outlived.owners SET host = 'elsewhere', boot_id = 'another', lease_seconds = 0.1,"
        f" lease_until = clock_timestamp() {lease} WHERE id = %s",
        [owner],
    )


def test_a_dead_owner_does_not_hold_a_chat(wreck: Wreck):
    """A start in a chat whose run's owner is dead succeeds at once: the dead run is settled on the way."""
    with wreck.sweeping.connect() as wire:
        assert wire.call("run/start", agent="demo", chat_id="held")["created"] is True
        assert settle(wire, wreck.runs["held"]["id"])["error"]["code"] == "owner_lost"


def test_a_run_of_a_dead_owner_is_stopped(wreck: Wreck):
    """A stop of a run whose owner is dead settles it: as stopped, without an error, unless the sweep was faster."""
    with wreck.sweeping.connect() as wire:
        answer = wire.call("run/stop", run_id=wreck.runs["marked"]["id"], reason="meanwhile", wait_seconds=20)
        run = answer["run"]
        assert (answer["outcome"] == "already_settled") == (run["stop_requested_at"] is None)
        assert run["status"] == "aborted"
        assert (run["error"], run["stop_reason"]) == (None, "meanwhile") or run["error"][
            "code"
        ] == "owner_lost"


def test_the_sweep_aborts_what_is_stale(wreck: Wreck):
    """An active run of a dead owner is aborted as owner_lost, keeps what it had said, and its chat is free."""
    with wreck.sweeping.connect() as wire:
        run = settle(wire, wreck.runs["stale"]["id"])
        assert (run["status"], run["error"]["code"], run["stop_requested_at"]) == (
            "aborted",
            "owner_lost",
            None,
        )
        message = wire.call("run/get", run_id=run["id"])["message"]
        assert (message["status"], message["content"]) == ("aborted", "first ")
        events, end = wire.tail(run["id"])
        assert [event["type"] for event in events][-2:] == ["run.adopted", "run.settled"]
        assert end["reason"] == "settled"
        assert wire.call("run/start", agent="demo", chat_id="stale")["created"] is True


def test_the_sweep_leaves_what_is_fresh(wreck: Wreck):
    """A sweep that ended the stale run has left its own runs, and those of an owner elsewhere whose lease holds; once
    that has run out they are swept too.
    """
    with wreck.sweeping.connect() as wire:
        settle(wire, wreck.runs["stale"]["id"])
        fresh = wreck.runs["fresh"]
        assert wire.refuse("run/start", agent="demo", chat_id="fresh").data["active_run_id"] == fresh["id"]
        for run in (wreck.runs["own"], fresh):
            found = wire.call("run/get", run_id=run["id"])["run"]
            assert (found["status"], found["owner"], found["epoch"]) == ("running", run["owner"], 1)
        disguise(wreck.sweeping, fresh["owner"], "- interval '1 second'")
        assert settle(wire, fresh["id"])["error"]["code"] == "owner_lost"
        assert wire.call("run/get", run_id=wreck.runs["own"]["id"])["run"]["status"] == "running"


def test_the_sweep_leaves_what_is_settled(wreck: Wreck):
    """Runs that had ended, whoever owned them, are as they were."""
    with wreck.sweeping.connect() as wire:
        settle(wire, wreck.runs["stale"]["id"])
        for run in wreck.settled:
            assert wire.call("run/get", run_id=run["id"])["run"] == run
