"""Retention over the wire: what is answered of a run whose events are gone, and a tail that they go under."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.daemon import Daemon
from tests.support.history import assert_history
from tests.support.homes import CONFIG, end_cleanly, make_home
from tests.support.postgres import Postgres
from tests.support.runs import list_seqs, perform, read_text, start_endless, start_shell, stop
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire

BRIEFLY = "\n[events]\nretention_days = 0.00001\n"


@pytest.fixture(scope="module")
def forgetful(postgres: Postgres, short_dir: Path) -> Iterator[Daemon]:
    """A daemon that keeps events for about a second."""
    daemon = Daemon(
        make_home(short_dir), database=postgres.create_database(), config=CONFIG + BRIEFLY
    ).start()
    yield daemon
    end_cleanly(daemon)
    assert_history(str(daemon.database), settled=True)


@pytest.fixture
def wire(forgetful: Daemon) -> Iterator[Wire]:
    """A connection to it."""
    with forgetful.connect() as wire:
        yield wire


def wait_pruned(wire: Wire, run_id: str) -> Json:
    """The run, once none of its events is left."""

    def look() -> Json | None:
        run = wire.call("run/get", run_id=run_id)["run"]
        return run if run["first_seq"] > run["last_seq"] else None

    return wait_until(look, 20, f"run {run_id} is pruned")


def test_everything_but_the_events_stays(forgetful: Daemon, wire: Wire):
    """Of a pruned run, run and message are answered as they were, by every method that answers them."""
    chat, key = "pruned", "once"
    run = perform(wire, input="one two three", chat_id=chat, idempotency_key=key)
    before = wire.call("run/get", run_id=run["id"])
    pruned = wait_pruned(wire, run["id"])
    assert pruned == {**before["run"], "first_seq": run["last_seq"] + 1}
    whole = {"run": pruned, "message": before["message"]}
    assert before["message"]["content"] == "one two three"
    assert wire.call("run/get", run_id=run["id"]) == whole
    assert wire.call("run/latest", chat_id=chat) == whole
    assert wire.call("run/wait", run_id=run["id"]) == {**whole, "settled": True}
    assert wire.call("run/list", chat_id=chat)["runs"] == [pruned]
    assert wire.call("chat/messages", chat_id=chat)["messages"][1] == before["message"]
    assert wire.call("run/stop", run_id=run["id"]) == {"outcome": "already_settled", "run": pruned}
    again = wire.call("run/start", agent="demo", input="one two three", chat_id=chat, idempotency_key=key)
    assert again == {"run": pruned, "created": False}
    forgetful.wait_logged("events pruned")


def test_a_cursor_before_what_is_kept_has_expired(wire: Wire):
    """A tail that begins before what is kept is answered 410 with what is kept: of a wholly pruned run, nothing."""
    run = wait_pruned(wire, perform(wire)["id"])
    for cursor in range(run["last_seq"]):
        error = wire.refuse("run/tail", run_id=run["id"], after_seq=cursor)
        assert (error.code, error.type, error.data["retryable"]) == (410, "cursor_expired", False)
        assert (error.data["first_seq"], error.data["last_seq"]) == (run["last_seq"] + 1, run["last_seq"])
        assert "its events are no longer kept" in error.message


@pytest.mark.parametrize("follow", [True, False])
def test_a_tail_from_the_end_of_a_pruned_run_is_settled(wire: Wire, follow: bool):
    """Who has run.settled already, by the cursor or by the snapshot, is told that the run is settled, and no more."""
    run = wait_pruned(wire, perform(wire, input="all of it")["id"])
    last = run["last_seq"]
    events, end = wire.tail(run["id"], after_seq=last, follow=follow)
    assert (events, end["reason"], end["last_seq"]) == ([], "settled", last)
    tailed = wire.call("run/tail", run_id=run["id"], follow=follow)
    events, end = wire.read_tail(tailed["subscription"])
    assert (tailed["as_of_seq"], tailed["message"]["content"]) == (last, "all of it")
    assert (events, end["reason"], end["last_seq"]) == ([], "settled", last)
    assert wire.refuse("run/tail", run_id=run["id"], after_seq=last + 1).type == "invalid_params"


def test_an_active_run_keeps_its_log(wire: Wire):
    """However long ago an active run said something, all of it can be read."""
    run = start_endless(wire)
    wait_pruned(wire, perform(wire)["id"])
    assert read_text(wire.tail(run["id"], follow=False)[0]) == "first "
    stop(wire, run["id"])


@pytest.mark.parametrize("follow", [True, False])
def test_a_tail_whose_events_go_is_told_so(forgetful: Daemon, wire: Wire, tmp_path: Path, follow: bool):
    """A reader so slow that its events are pruned gets a whole beginning, then cursor_expired; asking again is 410."""
    go = tmp_path / "go"
    run = start_shell(wire, f"seq 500000; until [ -e {go} ]; do sleep 0.02; done")

    def read_content() -> str:
        return wire.call("run/get", run_id=run["id"])["message"]["content"]

    wait_until(lambda: read_content().endswith("\n500000\n"), 30, "it has said everything")
    with forgetful.connect() as slow:
        asked = slow.send("run/tail", {"run_id": run["id"], "after_seq": 0, "follow": follow})
        subscription = slow.wait_reply(asked)["subscription"]
        go.touch()
        pruned = wait_pruned(wire, run["id"])
        events, end = slow.read_tail(subscription)
        assert list_seqs(events) == list(range(1, len(events) + 1))
        assert 0 < end["last_seq"] == len(events) < pruned["last_seq"]
        assert end["reason"] == "cursor_expired"
        error = slow.refuse("run/tail", run_id=run["id"], after_seq=end["last_seq"])
        assert (error.code, error.data["first_seq"]) == (410, pruned["first_seq"])
        assert read_content().endswith("\n500000\n")


def test_a_tail_at_the_border_goes_on(wire: Wire, forgetful: Daemon):
    """With its next event the first that is kept, a cursor is as good as ever; one earlier has expired."""
    run = wait_pruned(wire, perform(wire, input="a b")["id"])
    with psycopg.connect(str(forgetful.database)) as connection:  # as if its last two events were left
        first = run["last_seq"] - 1
        connection.execute(
            "INSERT INTO outlived.events SELECT %s, n, 1, clock_timestamp(), 'data', '{}' FROM generate_series(%s::int, %s) n",
            [run["id"], first, first + 1],
        )
        connection.execute(
            "UPDATE outlived.events SET type = 'run.settled' WHERE run_id = %s AND seq > %s",
            [run["id"], first],
        )
        connection.execute("UPDATE outlived.runs SET first_seq = %s WHERE id = %s", [first, run["id"]])
    events, end = wire.tail(run["id"], after_seq=first - 1)
    assert (list_seqs(events), end["reason"]) == ([first, first + 1], "settled")
    error = wire.refuse("run/tail", run_id=run["id"], after_seq=first - 2)
    assert (error.code, error.data["first_seq"]) == (410, first)
    assert f"its events before {first} are no longer kept" in error.message
    with psycopg.connect(str(forgetful.database)) as connection:
        connection.execute("DELETE FROM outlived.events WHERE run_id = %s", [run["id"]])
        connection.execute("UPDATE outlived.runs SET first_seq = last_seq + 1 WHERE id = %s", [run["id"]])
