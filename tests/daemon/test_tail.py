"""``run/tail`` and ``run/untail``: a run's log, dense and in order, from any cursor, to exactly one end."""

import json
import time

import psycopg
import pytest

from tests.support.daemon import Daemon
from tests.support.runs import (
    NO_RUN,
    list_seqs,
    perform,
    read_text,
    settle,
    start,
    start_endless,
    start_shell,
    stop,
    wait_text,
)
from tests.support.wire import Json, Wire, WireError

SLOW_WORDS = {"demo": {"delay_ms": 4}}
WORDS = " ".join(f"word{number}" for number in range(60))


def read_stored(dsn: str | None, run_id: str) -> list[tuple[int, str, Json]]:
    """The log as the database has it."""
    assert dsn is not None
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT seq, type, data FROM outlived.events WHERE run_id = %s ORDER BY seq", [run_id]
        ).fetchall()
    return [(seq, kind, json.loads(data)) for seq, kind, data in rows]


def shorten(events: list[Json]) -> list[tuple[int, str, Json]]:
    return [(event["seq"], event["type"], event["data"]) for event in events]


# ---------------------------------------------------------------- a whole log


def test_a_live_tail_is_the_whole_log(shared_daemon: Daemon, wire: Wire):
    """From 0 a tail of a speaking run delivers every event of its log, dense and in order, then its end, once."""
    run = start(wire, input=WORDS, metadata=SLOW_WORDS)
    events, end = wire.tail(run["id"])
    assert list_seqs(events) == list(range(1, len(events) + 1))
    assert shorten(events) == read_stored(shared_daemon.database, run["id"])
    assert read_text(events) == WORDS
    assert events[-1]["type"] == "run.settled"
    assert (end["reason"], end["last_seq"], end["run_id"]) == ("settled", events[-1]["seq"], run["id"])
    wire.assert_silent()


def test_the_reply_comes_first(wire: Wire):
    """Before any event of a subscription comes the reply that names it."""
    run = perform(wire)
    request_id = wire.send("run/tail", {"run_id": run["id"], "after_seq": 0})
    reply = wire.read()
    assert reply["id"] == request_id
    result = reply["result"]
    assert isinstance(result["subscription"], str)
    assert (result["run"]["id"], result["message"], result["as_of_seq"]) == (run["id"], None, 0)
    event = wire.read()
    assert (event["method"], event["params"]["subscription"]) == ("run/event", result["subscription"])
    assert event["params"].keys() == {"subscription", "run_id", "seq", "at", "type", "data"}


def test_every_cursor_of_a_settled_run(wire: Wire):
    """after_seq is exclusive: from each place of a settled log come exactly the events behind it, and the end."""
    run = perform(wire, input="a b c", metadata={"demo": {"delay_ms": 1}})
    whole, _ = wire.tail(run["id"])
    last = run["last_seq"]
    assert list_seqs(whole) == list(range(1, last + 1))
    for follow in (True, False):
        for cursor in range(last + 1):
            events, end = wire.tail(run["id"], after_seq=cursor, follow=follow)
            assert shorten(events) == shorten(whole[cursor:])
            assert (end["reason"], end["last_seq"]) == ("settled", last)
    wire.assert_silent()


def test_a_tail_goes_on_where_another_one_stopped(shared_daemon: Daemon, wire: Wire):
    """Broken off anywhere and taken up with the last seq, on other connections, the pieces are the log."""
    run = start(wire, input=WORDS, metadata=SLOW_WORDS)
    pieces: list[Json] = []
    while not pieces or pieces[-1]["type"] != "run.settled":
        with shared_daemon.connect() as other:
            cursor = pieces[-1]["seq"] if pieces else 0
            tailed = other.call("run/tail", run_id=run["id"], after_seq=cursor)
            pieces += other.read_tail(tailed["subscription"], until=5)[0]
    assert list_seqs(pieces) == list(range(1, len(pieces) + 1))
    assert read_text(pieces) == WORDS


def test_all_subscribers_see_the_same(shared_daemon: Daemon, wire: Wire):
    """Tails on one and on several connections, from the beginning and from the middle, deliver the same events."""
    run = start(wire, input=WORDS, metadata=SLOW_WORDS)
    others = [shared_daemon.connect() for _ in range(3)]
    tails = [
        (other, other.call("run/tail", run_id=run["id"], after_seq=0)["subscription"]) for other in others * 2
    ]
    settle(wire, run["id"])
    whole = read_stored(shared_daemon.database, run["id"])
    for other, subscription in tails:
        events, _ = other.read_tail(subscription)
        assert shorten(events) == whole
    for other in others:
        other.close()


def test_a_log_of_megabytes_comes_whole(wire: Wire):
    """A log of many pages is delivered without a gap, and the same again from its middle."""
    run = perform(wire, command=["sh", "-c", "seq 200000"])
    expected = "".join(f"{number}\n" for number in range(1, 200_001))
    events, _ = wire.tail(run["id"])
    assert list_seqs(events) == list(range(1, run["last_seq"] + 1))
    assert read_text(events) == expected
    middle = len(events) // 2
    assert shorten(wire.tail(run["id"], after_seq=middle)[0]) == shorten(events[middle:])


# ---------------------------------------------------------------- snapshots


def test_a_snapshot_and_what_follows_are_the_answer(wire: Wire):
    """Without a cursor the reply holds the message as of as_of_seq, and message plus later deltas is the content."""
    run = start(wire, input=WORDS, metadata=SLOW_WORDS)
    wait_text(wire, run["id"], "word0 word1")
    tailed = wire.call("run/tail", run_id=run["id"])
    events, end = wire.read_tail(tailed["subscription"])
    assert tailed["as_of_seq"] == tailed["run"]["last_seq"]
    assert list_seqs(events) == list(range(tailed["as_of_seq"] + 1, end["last_seq"] + 1))
    assert tailed["message"]["content"] + read_text(events) == WORDS
    assert tailed["message"]["content"].startswith("word0 word1")


def test_the_snapshot_of_a_settled_run_is_all(wire: Wire):
    """The snapshot of a settled run holds its end: no event follows, and the reason is settled."""
    run = perform(wire, input="all of it")
    for follow in (True, False):
        tailed = wire.call("run/tail", run_id=run["id"], follow=follow)
        assert (tailed["as_of_seq"], tailed["run"]) == (run["last_seq"], run)
        assert tailed["message"] == wire.call("run/get", run_id=run["id"])["message"]
        events, end = wire.read_tail(tailed["subscription"])
        assert (events, end["reason"], end["last_seq"]) == ([], "settled", run["last_seq"])


# ---------------------------------------------------------------- follow: false


def test_what_is_there_and_no_more(wire: Wire):
    """With follow false a tail of an active run delivers what is there, then caught_up."""
    run = start_endless(wire)
    events, end = wire.tail(run["id"], follow=False)
    assert list_seqs(events) == list(range(1, end["last_seq"] + 1))
    assert read_text(events) == "first "
    assert end["reason"] == "caught_up"
    wire.assert_silent()


def test_nothing_there_and_no_more(wire: Wire):
    """Where nothing is left to deliver, with a cursor at the end or a snapshot, last_seq is the cursor."""
    run = start_endless(wire)
    here = wire.tail(run["id"], follow=False)[1]["last_seq"]
    events, end = wire.tail(run["id"], after_seq=here, follow=False)
    assert (events, end["reason"], end["last_seq"]) == ([], "caught_up", here)
    tailed = wire.call("run/tail", run_id=run["id"], follow=False)
    events, end = wire.read_tail(tailed["subscription"])
    assert (events, end["reason"], end["last_seq"]) == ([], "caught_up", tailed["as_of_seq"])


# ---------------------------------------------------------------- cursors that cannot be


def test_a_cursor_beyond_the_end_is_refused(wire: Wire):
    """A cursor greater than the last event is an invalid parameter, of an active and of a settled run."""
    active, settled = start_endless(wire), perform(wire)
    beyond = [(active["id"], 1000), (settled["id"], settled["last_seq"] + 1), (settled["id"], 2**63 - 1)]
    for run_id, cursor in beyond:
        error = wire.refuse("run/tail", run_id=run_id, after_seq=cursor)
        assert (error.code, error.type, error.data["path"]) == (-32602, "invalid_params", "$.after_seq")
    wire.assert_silent()


@pytest.mark.parametrize("cursor", [-1, "0", 1.5, True, 2**63, 2**70])
def test_a_faulty_cursor_is_refused(wire: Wire, cursor):
    """A cursor is an integer from 0."""
    error = wire.refuse("run/tail", run_id=NO_RUN, after_seq=cursor)
    assert (error.code, error.data["path"]) == (-32602, "$.after_seq")


def test_a_tail_of_nobody_is_not_found(wire: Wire):
    """A run that is not there cannot be tailed."""
    assert wire.refuse("run/tail", run_id=NO_RUN, after_seq=0).type == "not_found"


def test_a_cursor_into_a_pruned_log_has_expired(shared_daemon: Daemon, wire: Wire):
    """Where events are no longer kept, an earlier cursor is answered 410 with what is kept; the rest is served."""
    run = perform(wire, input="a b c d", metadata={"demo": {"delay_ms": 1}})
    first, last = 4, run["last_seq"]
    assert shared_daemon.database is not None
    with psycopg.connect(shared_daemon.database) as connection:
        connection.execute("DELETE FROM outlived.events WHERE run_id = %s AND seq < %s", [run["id"], first])
        connection.execute("UPDATE outlived.runs SET first_seq = %s WHERE id = %s", [first, run["id"]])
    for cursor in range(first - 1):
        error = wire.refuse("run/tail", run_id=run["id"], after_seq=cursor)
        assert (error.code, error.type) == (410, "cursor_expired")
        assert (error.data["first_seq"], error.data["last_seq"], error.data["retryable"]) == (
            first,
            last,
            False,
        )
    assert list_seqs(wire.tail(run["id"], after_seq=first - 1)[0]) == list(range(first, last + 1))
    assert wire.call("run/tail", run_id=run["id"])["message"]["content"] == "a b c d"


# ---------------------------------------------------------------- run/untail


def test_untail_ends_a_subscription(wire: Wire):
    """The reply to run/untail is empty and comes before the one tail_end; after that the subscription is silent."""
    run = start_endless(wire)
    tailed = wire.call("run/tail", run_id=run["id"])
    request_id = wire.send("run/untail", {"subscription": tailed["subscription"]})
    assert wire.read() == {"jsonrpc": "2.0", "id": request_id, "result": {}}
    end = wire.read()
    assert end["method"] == "run/tail_end"
    assert end["params"] == {
        "subscription": tailed["subscription"], "run_id": run["id"], "reason": "unsubscribed",
        "last_seq": tailed["as_of_seq"],
    }  # fmt: skip
    stop(wire, run["id"])
    wire.assert_silent()


def test_other_subscriptions_stay(wire: Wire):
    """Ending one of two tails of a run leaves the other one."""
    run = start_endless(wire)
    first, second = (wire.call("run/tail", run_id=run["id"])["subscription"] for _ in range(2))
    assert first != second
    wire.call("run/untail", subscription=first)
    stop(wire, run["id"])
    assert wire.read_tail(first)[1]["reason"] == "unsubscribed"
    events, end = wire.read_tail(second)
    assert (events[-1]["type"], end["reason"]) == ("run.settled", "settled")


def test_an_unknown_subscription_is_not_found(shared_daemon: Daemon, wire: Wire):
    """A subscription that is over, was never there, or is another connection's is not found."""
    run = start_endless(wire)
    mine = wire.call("run/tail", run_id=run["id"])["subscription"]
    with shared_daemon.connect() as other:
        theirs = other.call("run/tail", run_id=run["id"])["subscription"]
        assert wire.refuse("run/untail", subscription=theirs).type == "not_found"
        wire.call("run/untail", subscription=mine)
        assert wire.read_tail(mine)[1]["reason"] == "unsubscribed"
        for subscription in (mine, "", "no-such-subscription", "x" * 10_000):
            error = wire.refuse("run/untail", subscription=subscription)
            assert (error.code, error.type) == (404, "not_found")
        stop(wire, run["id"])
        assert other.read_tail(theirs)[1]["reason"] == "settled"


def test_untail_as_a_notification(wire: Wire):
    """A run/untail without id is executed: the tail ends, and nothing else is said."""
    run = start_endless(wire)
    subscription = wire.call("run/tail", run_id=run["id"])["subscription"]
    wire.notify("run/untail", {"subscription": subscription})
    events, end = wire.read_tail(subscription)
    assert (events, end["reason"]) == ([], "unsubscribed")
    wire.assert_silent()


def test_a_tail_as_a_notification_is_ignored(wire: Wire):
    """A run/tail without id has nobody to answer to: nothing is said, no event comes."""
    run = perform(wire)
    wire.notify("run/tail", {"run_id": run["id"], "after_seq": 0})
    wire.end_sending()
    assert wire.read_to_end() == []


# ---------------------------------------------------------------- many, and slow ones


def test_a_connection_has_1024_subscriptions(shared_daemon: Daemon, wire: Wire):
    """The 1025th subscription of a connection is refused as overloaded, also when all are asked for together; one
    that ends makes room, another connection has its own.
    """
    run = start_endless(wire)
    granted, refused = [], []
    for count in (250, 250, 250, 250, 60):
        for number in [wire.send("run/tail", {"run_id": run["id"]}) for _ in range(count)]:
            try:
                granted.append(wire.wait_reply(number)["subscription"])
            except WireError as error:
                refused.append((error.code, error.type, error.data["retryable"]))
    assert (len(granted), len(set(granted))) == (1024, 1024)
    assert set(refused) == {(-32001, "overloaded", True)}
    with shared_daemon.connect() as other:
        assert other.call("run/tail", run_id=run["id"])["as_of_seq"] > 0
    wire.call("run/untail", subscription=granted[0])
    wire.read_tail(granted[0])
    granted[0] = wire.call("run/tail", run_id=run["id"])["subscription"]
    stop(wire, run["id"])
    for subscription in granted:
        events, end = wire.read_tail(subscription)
        assert (events[-1]["type"], end["reason"]) == ("run.settled", "settled")


def test_a_client_that_does_not_read_delays_nobody(shared_daemon: Daemon, wire: Wire):
    """While one client takes nothing of its tail, others are served, and the run ends; then it gets every event."""
    run = start_shell(wire, "seq 120000")
    with shared_daemon.connect() as sluggish:
        tailed = sluggish.send("run/tail", {"run_id": run["id"], "after_seq": 0})
        assert settle(wire, run["id"])["status"] == "succeeded"
        began = time.monotonic()
        assert perform(wire, input="meanwhile")["status"] == "succeeded"
        assert time.monotonic() - began < 5
        events, end = sluggish.read_tail(sluggish.wait_reply(tailed)["subscription"])
    assert list_seqs(events) == list(range(1, end["last_seq"] + 1))
    assert len(read_text(events)) == sum(len(f"{number}\n") for number in range(1, 120_001))


def test_a_subscriber_that_leaves_changes_nothing(shared_daemon: Daemon, wire: Wire):
    """A connection that is closed in the middle of a tail does not disturb the run or another subscriber."""
    run = start(wire, input=WORDS, metadata=SLOW_WORDS)
    subscription = wire.call("run/tail", run_id=run["id"], after_seq=0)["subscription"]
    for _ in range(5):
        with shared_daemon.connect() as other:
            other.call("run/tail", run_id=run["id"], after_seq=0)
    events, end = wire.read_tail(subscription)
    assert (read_text(events), end["reason"]) == (WORDS, "settled")
    assert settle(wire, run["id"])["status"] == "succeeded"
