"""``idempotency_key``: the same request twice is one run."""

import pytest

from tests.support.daemon import Daemon
from tests.support.runs import ENDLESS, perform, settle, start_endless
from tests.support.wire import Wire

CHANGES = {
    "another input": {"input": "other"},
    "an input of parts": {"input": [{"type": "text", "text": "same"}]},
    "another chat": {"chat_id": "other"},
    "a chat": {"chat_id": "named"},
    "another agent": {"agent": "shout"},
}


def start(wire: Wire, key: str, **params):
    return wire.call("run/start", **{"agent": "demo", "input": "same", "idempotency_key": key, **params})


def test_the_same_key_is_the_same_run(wire: Wire):
    """A repeated start returns its run, not created, and stores no second message."""
    first = start(wire, "same", chat_id="same")
    second = start(wire, "same", chat_id="same")
    assert (first["created"], second["created"]) == (True, False)
    assert second["run"]["id"] == first["run"]["id"]
    assert len(wire.call("chat/messages", chat_id="same")["messages"]) == 2


def test_an_absent_chat_equals_an_absent_one(wire: Wire):
    """Repeated without a chat, the start finds the run and the chat that were made the first time."""
    first = start(wire, "no-chat")
    second = start(wire, "no-chat")
    assert (second["created"], second["run"]["id"]) == (False, first["run"]["id"])
    assert second["run"]["chat_id"] == first["run"]["chat_id"]


def test_a_key_is_kept_with_its_settled_run(wire: Wire):
    """After the run is settled its key still finds it, settled as it is."""
    run = settle(wire, start(wire, "kept")["run"]["id"])
    answer = start(wire, "kept")
    assert answer == {"run": run, "created": False}


def test_a_key_is_looked_at_before_the_slot(wire: Wire):
    """While the run is active its key answers with the run, not with run_active."""
    first = start(wire, "active", chat_id="active", input="first second", metadata=ENDLESS)
    second = start(wire, "active", chat_id="active", input="first second", metadata=ENDLESS)
    assert (second["created"], second["run"]["id"]) == (False, first["run"]["id"])
    assert (
        wire.refuse("run/start", agent="demo", chat_id="active", idempotency_key="fresh").type == "run_active"
    )


def test_a_key_is_looked_at_before_another_runs_slot(wire: Wire):
    """An old key of a chat whose newer run is active still returns the old run."""
    old = perform(wire, chat_id="moved-on", input="same", idempotency_key="old")
    start_endless(wire, chat_id="moved-on")
    assert start(wire, "old", chat_id="moved-on") == {"run": old, "created": False}


def test_a_refused_start_keeps_no_key(wire: Wire):
    """A start that was answered 409 has not used up its key."""
    run = start_endless(wire, chat_id="taken")
    assert (
        wire.refuse("run/start", agent="demo", chat_id="taken", idempotency_key="later").type == "run_active"
    )
    wire.call("run/stop", run_id=run["id"], wait_seconds=20)
    assert start(wire, "later", chat_id="taken")["created"] is True


def test_joining_keeps_no_key(wire: Wire):
    """A start that joined an active run has stored no key: later it makes a run of its own."""
    run = start_endless(wire, chat_id="joined")
    joined = start(wire, "joiner", chat_id="joined", on_active="join")
    assert (joined["created"], joined["run"]["id"]) == (False, run["id"])
    wire.call("run/stop", run_id=run["id"], wait_seconds=20)
    assert start(wire, "joiner", chat_id="joined", on_active="join")["created"] is True


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_key_stands_for_one_request(wire: Wire, change):
    """The same key with another agent, input or chat is a mismatch, and starts nothing."""
    key = f"mismatch-{sorted(change.items())}"[:128]
    start(wire, key)
    before = wire.call("run/list", limit=2)["runs"]
    error = wire.refuse("run/start", **{"agent": "demo", "input": "same", "idempotency_key": key, **change})
    assert (error.code, error.type, error.data["retryable"]) == (409, "idempotency_mismatch", False)
    assert [run["id"] for run in wire.call("run/list", limit=2)["runs"]] == [run["id"] for run in before]


def test_a_key_stands_for_one_command(wire: Wire):
    """The same key with another argv, or with an agent instead, is a mismatch; with the same argv it is the run."""
    first = wire.call("run/start", command=["echo", "a"], idempotency_key="command")
    again = wire.call("run/start", command=["echo", "a"], idempotency_key="command")
    assert (again["created"], again["run"]["id"]) == (False, first["run"]["id"])
    for other in ({"command": ["echo", "b"]}, {"command": ["echo"]}, {"agent": "demo"}):
        assert wire.refuse("run/start", idempotency_key="command", **other).type == "idempotency_mismatch"


def test_what_else_differs_does_not_matter(wire: Wire):
    """Metadata, trigger, author and on_active are no part of what a key stands for."""
    first = start(wire, "loose")
    again = start(wire, "loose", metadata={"a": 1}, trigger="api", created_by="x", on_active="join")
    assert (again["created"], again["run"]["id"]) == (False, first["run"]["id"])
    assert again["run"]["metadata"] == {}


def test_a_key_belongs_to_its_workspace(wire: Wire):
    """The same key in another workspace is another key."""
    runs = {start(wire, "shared", workspace=name)["run"]["id"] for name in ("one", "two", "default")}
    assert len(runs) == 3


@pytest.mark.parametrize("key", ["x", "k" * 128, "any sign: ü 😀 \u2028 \\ \" '"])
def test_a_key_may_be_any_text(wire: Wire, key):
    """A key is 1 to 128 characters of any kind."""
    first = start(wire, key)
    assert (first["created"], start(wire, key)["created"]) == (True, False)


def test_many_connections_with_one_key_make_one_run(shared_daemon: Daemon):
    """The same start from many connections at once, several times on each, makes one run that all are told of."""
    params = {"agent": "demo", "input": "same", "chat_id": "crowd", "idempotency_key": "crowd"}
    others = [shared_daemon.connect() for _ in range(10)]
    waiting = [(other, other.send("run/start", params)) for _ in range(3) for other in others]
    answers = [other.wait_reply(number) for other, number in waiting]
    assert [answer["created"] for answer in answers].count(True) == 1
    assert len({answer["run"]["id"] for answer in answers}) == 1
    assert len(others[0].call("chat/messages", chat_id="crowd")["messages"]) == 2
    for other in others:
        other.close()


def test_of_two_requests_with_one_key_one_wins(shared_daemon: Daemon):
    """Different starts with one key at once: one makes its run, the others are mismatches."""
    others = [shared_daemon.connect() for _ in range(6)]
    waiting = [
        other.send("run/start", {"agent": "demo", "input": str(number), "idempotency_key": "contested"})
        for number, other in enumerate(others)
    ]
    created, refused = [], []
    for other, number in zip(others, waiting, strict=True):
        reply = other.wait_line(number)
        (refused if "error" in reply else created).append(reply)
        other.close()
    assert len(created) == 1
    assert {reply["error"]["data"]["type"] for reply in refused} == {"idempotency_mismatch"}
