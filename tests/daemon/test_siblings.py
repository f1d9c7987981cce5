"""Two daemons on one database: whichever is asked, there is one truth."""

from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.runs import perform, read_text, settle, start, start_endless, stop
from tests.support.wire import Wire

Pair = tuple[Wire, Wire]


@pytest.fixture
def pair(siblings: tuple[Daemon, Daemon]) -> Iterator[Pair]:
    """A connection to each."""
    with siblings[0].connect() as here, siblings[1].connect() as there:
        yield here, there


def test_of_two_starts_in_one_chat_one_wins(pair: Pair):
    """Two daemons that start on the same new chats at the same time: each chat gets one run, and the refusal names it."""
    chats = [f"raced-{number}" for number in range(40)]
    params = {"agent": "demo", "input": "a b", "metadata": {"demo": {"delay_ms": 3_600_000}}}
    waiting = [
        (chat, [(wire, wire.send("run/start", {**params, "chat_id": chat})) for wire in pair])
        for chat in chats
    ]
    winners = set()
    for chat, requests in waiting:
        replies = [wire.wait_line(number) for wire, number in requests]
        [won] = [reply["result"]["run"] for reply in replies if "result" in reply]
        [lost] = [reply["error"] for reply in replies if "error" in reply]
        assert (lost["code"], lost["data"]["type"]) == (409, "run_active")
        assert (lost["data"]["active_run_id"], won["chat_id"]) == (won["id"], chat)
        winners.add(won["owner"])
        pair[0].call("run/stop", run_id=won["id"])
    assert winners <= {wire.call("server/info")["instance_id"] for wire in pair}


def test_a_slot_that_one_frees_the_other_may_take(pair: Pair):
    """A chat whose run the first daemon settled takes its next run at the second one, and so on."""
    for number in range(10):
        run = perform(pair[number % 2], chat_id="in-turn", metadata={"demo": {"delay_ms": 0}})
        assert run["position"] == 1 + 2 * number


def test_one_key_is_one_run(pair: Pair):
    """The same key at both daemons at once makes one run."""
    params = {"agent": "demo", "input": "a", "idempotency_key": "both", "chat_id": "keyed"}
    waiting = [(wire, wire.send("run/start", params)) for wire in pair]
    answers = [wire.wait_reply(number) for wire, number in waiting]
    assert sorted(answer["created"] for answer in answers) == [False, True]
    assert len({answer["run"]["id"] for answer in answers}) == 1


def test_a_run_elsewhere_is_seen(pair: Pair):
    """A run of one daemon is tailed, waited for and read at the other one, whole and in order."""
    here, there = pair
    words = " ".join(f"word{number}" for number in range(40))
    run = start(here, input=words, metadata={"demo": {"delay_ms": 10}})
    subscription = there.call("run/tail", run_id=run["id"], after_seq=0)["subscription"]
    assert settle(there, run["id"])["status"] == "succeeded"
    events, end = there.read_tail(subscription)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (read_text(events), end["reason"]) == (words, "settled")
    assert events == [{**event, "subscription": subscription} for event in here.tail(run["id"])[0]]


def test_a_run_elsewhere_is_stopped(pair: Pair):
    """A stop at one daemon ends the run of the other one, which writes the end."""
    here, there = pair
    run = start_endless(here, chat_id="remote")
    assert there.refuse("run/start", agent="demo", chat_id="remote").data["active_run_id"] == run["id"]
    stopped = stop(there, run["id"], reason="from afar")
    assert (stopped["status"], stopped["stop_reason"], stopped["owner"]) == (
        "aborted",
        "from afar",
        run["owner"],
    )
    types = [event["type"] for event in here.tail(run["id"])[0]]
    assert types.count("run.stop_requested") == 1


def test_a_stop_elsewhere_need_not_be_waited_for(pair: Pair):
    """Without wait_seconds a stop of another daemon's run is recorded at once, and acted upon soon."""
    here, there = pair
    run = start_endless(here)
    answer = there.call("run/stop", run_id=run["id"])
    assert answer["run"]["stop_requested_at"] is not None
    assert settle(there, run["id"])["status"] == "aborted"


def test_a_client_that_leaves_one_leaves_the_others_runs(siblings: tuple[Daemon, Daemon], pair: Pair):
    """An attached run belongs to the connection that made it, at whichever daemon; who joins elsewhere binds nothing."""
    here, there = pair
    with siblings[1].connect() as leaving:
        attached = start_endless(leaving, detached=False)
        joined = start_endless(here, chat_id="joined-elsewhere")
        answer = leaving.call(
            "run/start", agent="demo", chat_id="joined-elsewhere", on_active="join", detached=False
        )
        assert (answer["created"], answer["run"]["id"]) == (False, joined["id"])
    assert settle(here, attached["id"])["stop_reason"] == "client_disconnected"
    assert there.call("run/get", run_id=joined["id"])["run"]["status"] == "running"
