"""``run/start``: what a run is when it has just been made, and what is refused before anything is stored."""

import json

import psycopg
import pytest

from tests.support.daemon import Daemon
from tests.support.runs import ENDLESS, TIME, UUID7, perform, read_text, settle, start, start_endless
from tests.support.wire import Wire

RUN_FIELDS = {
    "id", "workspace", "chat_id", "position", "agent", "command", "status", "trigger", "created_by", "message_id",
    "attempt", "epoch", "owner", "step_count", "first_seq", "last_seq", "error", "usage", "metadata", "detached",
    "on_owner_loss", "stop_requested_at", "stop_reason", "created_at", "started_at", "finished_at", "updated_at",
}  # fmt: skip
NO_USAGE = {"input_tokens": None, "output_tokens": None, "cached_tokens": None, "cost_micro_usd": None}
EVERY_SIGN = "AZaz09._:@/-"


def has_chat(wire: Wire, chat_id: str) -> bool:
    return chat_id in {chat["id"] for chat in wire.call("chat/list", limit=200)["chats"]}


def test_a_fresh_run_has_the_contracts_values(wire: Wire):
    """The reply of a plain start shows every field of a run, with the values of a run that has just been made."""
    answer = wire.call("run/start", agent="demo", input="one two", metadata=ENDLESS)
    run = answer["run"]
    assert answer["created"] is True
    assert run.keys() >= RUN_FIELDS
    assert UUID7.fullmatch(run["id"])
    assert UUID7.fullmatch(run["message_id"])
    assert run["status"] in {"pending", "running"}
    assert (run["workspace"], run["position"], run["agent"], run["command"]) == ("default", 1, "demo", None)
    assert (run["trigger"], run["attempt"], run["epoch"], run["step_count"]) == ("user", 1, 1, 0)
    assert run["owner"] == wire.call("server/info")["instance_id"]
    assert run["first_seq"] == 1
    assert run["last_seq"] >= 1
    assert run["usage"] == NO_USAGE
    assert (run["detached"], run["on_owner_loss"], run["metadata"]) == (True, "abort", ENDLESS)
    for field in ("error", "created_by", "stop_requested_at", "stop_reason", "finished_at"):
        assert run[field] is None, field
    assert TIME.fullmatch(run["created_at"])
    assert TIME.fullmatch(run["updated_at"])


def test_what_was_given_is_what_is_told(wire: Wire):
    """Workspace, chat, trigger, author, detachment and metadata come back as they were sent."""
    given = {
        "workspace": "team/a", "chat_id": "c:1@x", "trigger": "api", "created_by": "Zoë <z@example.org>",
        "detached": False, "metadata": {"nested": [1, 2.5, None, True, "ü"], "big": 2**70},
    }  # fmt: skip
    run = start(wire, **given)
    assert {name: run[name] for name in given} == given
    found = wire.call("run/get", run_id=run["id"])["run"]
    assert {name: found[name] for name in given} == given


def test_an_absent_chat_is_made_by_the_daemon(wire: Wire):
    """Without chat_id the daemon makes a chat with a UUIDv7 of its own, another one for each start."""
    first, second = start(wire), start(wire)
    assert UUID7.fullmatch(first["chat_id"])
    assert first["chat_id"] != second["chat_id"]
    assert wire.call("chat/get", chat_id=first["chat_id"])["chat"]["last_run_id"] == first["id"]


def test_runs_of_a_chat_are_numbered_in_order(wire: Wire):
    """Each run of a chat has a greater position, and its messages stand in the order user, assistant."""
    runs = [perform(wire, chat_id="in-order", input=f"say {number}") for number in range(3)]
    positions = [run["position"] for run in runs]
    assert positions == sorted(set(positions))
    messages = wire.call("chat/messages", chat_id="in-order")["messages"]
    assert [(message["role"], message["content"]) for message in messages] == [
        (role, f"say {number}") for number in range(3) for role in ("user", "assistant")
    ]


def test_an_acknowledged_start_is_in_the_database(shared_daemon: Daemon, wire: Wire):
    """At the moment of the reply another connection to the database sees run, messages, chat and first event."""
    run = start(wire, input="kept")
    with psycopg.connect(shared_daemon.database) as connection:
        for table in (
            "runs r WHERE r.id",
            "messages m WHERE m.run_id",
            "events e WHERE e.seq = 1 AND e.run_id",
        ):
            assert connection.execute(f"SELECT 1 FROM outlived.{table} = %s", [run["id"]]).fetchone(), table


def test_the_log_begins_with_its_creation(wire: Wire):
    """A run's log tells its whole life in the contract's event types, each with the contract's fields."""
    run = start(wire, input="one two")
    events, _ = wire.tail(run["id"])
    created = {"trigger": "user", "agent": "demo", "status": "pending", "owner": run["owner"], "epoch": 1}
    assert (events[0]["type"], events[0]["data"]) == ("run.created", created)
    assert (events[1]["type"], events[1]["data"]) == (
        "run.started",
        {"attempt": 1, "owner": run["owner"], "epoch": 1},
    )
    types = [event["type"] for event in events]
    deltas = types.count("text.delta")
    assert types[2:] == ["step.started", *["text.delta"] * deltas, "step.finished", "run.settled"]
    assert events[2]["data"].items() >= {"step": 1, "name": "demo"}.items()
    assert events[-2]["data"].items() >= {"step": 1, "name": "demo"}.items()
    settled = {"status": "succeeded", "error": None, "stop_requested_at": None, "stop_reason": None}
    assert events[-1]["data"] == settled
    for event in events:
        assert event["run_id"] == run["id"]
        assert TIME.fullmatch(event["at"])


def test_the_rows_times_are_its_events_times(wire: Wire):
    """A settled run was created, started and finished at the times of those events."""
    run = perform(wire)
    at = {event["type"]: event["at"] for event in wire.tail(run["id"])[0]}
    times = [run["created_at"], run["started_at"], run["finished_at"], run["updated_at"]]
    assert times == [at["run.created"], at["run.started"], at["run.settled"], at["run.settled"]]
    assert times == sorted(times)


def test_an_active_chat_refuses_a_second_start(wire: Wire):
    """While a chat's run is active another start is answered 409, and names that run; nothing is stored."""
    run = start_endless(wire, chat_id="busy")
    error = wire.refuse("run/start", agent="demo", chat_id="busy", input="me too")
    assert (error.code, error.type, error.data["active_run_id"]) == (409, "run_active", run["id"])
    assert error.data["retryable"] is False
    assert len(wire.call("chat/messages", chat_id="busy")["messages"]) == 2


def test_join_returns_the_active_run(wire: Wire):
    """With on_active join the active run is returned, not created, and no message is stored; a free chat gets a run."""
    first = wire.call(
        "run/start", agent="demo", chat_id="joined", on_active="join", metadata=ENDLESS, input="a b"
    )
    run = first["run"]
    assert first["created"] is True
    answer = wire.call("run/start", agent="demo", chat_id="joined", on_active="join", input="other")
    assert (answer["created"], answer["run"]["id"]) == (False, run["id"])
    assert len(wire.call("chat/messages", chat_id="joined")["messages"]) == 2


@pytest.mark.parametrize(
    ("params", "path"), [({}, "$.agent"), ({"agent": "demo", "command": ["true"]}, "$.command")]
)
def test_exactly_one_of_agent_and_command_is_needed(wire: Wire, params, path):
    """A start with neither or both of agent and command is refused, and says so of a field."""
    error = wire.refuse("run/start", **params)
    assert (error.code, error.type, error.data["path"]) == (-32602, "invalid_params", path)


def test_an_unknown_agent_is_refused(wire: Wire):
    """A name that no agent has is an invalid parameter."""
    error = wire.refuse("run/start", agent="nobody", chat_id="of-nobody")
    assert (error.code, error.type, error.data["path"]) == (-32602, "invalid_params", "$.agent")
    assert not has_chat(wire, "of-nobody")


@pytest.mark.parametrize("params", [
    {"agent": "no-program"}, {"agent": "no-module"}, {"command": ["no-such-program-on-any-path"]},
    {"command": ["/etc/passwd"]}, {"command": [""]},
])  # fmt: skip
def test_an_agent_that_cannot_be_started_is_unavailable(wire: Wire, params):
    """A missing program or module is said at once, as agent_unavailable, and nothing is stored."""
    error = wire.refuse("run/start", chat_id="unavailable", **params)
    assert (error.code, error.type, error.data["retryable"]) == (422, "agent_unavailable", False)
    assert not has_chat(wire, "unavailable")


def test_a_run_may_be_resumed(wire: Wire):
    """on_owner_loss is shown as it was asked for, of an agent and of a command."""
    for params in ({"agent": "demo"}, {"command": ["true"]}):
        run = wire.call("run/start", on_owner_loss="resume", **params)["run"]
        assert run["on_owner_loss"] == "resume"
        assert settle(wire, run["id"])["status"] == "succeeded"


def test_metadata_has_a_size(wire: Wire):
    """Metadata of 16 KiB is kept whole; a byte more is too large, and names the field."""
    room = 16384 - len(json.dumps({"a": ""}, separators=(",", ":")))
    assert start(wire, metadata={"a": "x" * room})["metadata"] == {"a": "x" * room}
    error = wire.refuse("run/start", agent="demo", metadata={"a": "x" * (room + 1)})
    assert (error.code, error.type, error.data["path"]) == (413, "too_large", "$.metadata")


def test_a_directory_that_is_none_is_refused(wire: Wire):
    """A cwd must be an absolute path of a directory."""
    for cwd in ("/no/such/directory", "tmp", "/etc/passwd"):
        error = wire.refuse("run/start", command=["true"], cwd=cwd)
        assert (error.code, error.data["path"]) == (-32602, "$.cwd"), cwd


@pytest.mark.parametrize("name", ["", "A=B"])
def test_an_environment_name_that_cannot_be_is_refused(wire: Wire, name):
    """A variable's name is not empty and holds no equals sign."""
    error = wire.refuse("run/start", command=["true"], env={name: "x"})
    assert error.code == -32602
    assert error.data["path"].startswith("$.env")


def test_the_environment_is_never_told(wire: Wire):
    """What env holds is in no answer and in no event."""
    run = start(wire, command=["true"], env={"TOKEN": "a-secret-value"}, chat_id="secretive")
    settle(wire, run["id"])
    answers = [
        run, wire.call("run/get", run_id=run["id"]), wire.call("run/list", chat_id="secretive"),
        wire.tail(run["id"]), wire.call("chat/messages", chat_id="secretive"),
    ]  # fmt: skip
    assert "a-secret-value" not in json.dumps(answers)


def test_parts_are_an_input(wire: Wire):
    """A list of parts is stored as the user's message; the agent gets its texts one after another."""
    parts = [
        {"type": "text", "text": "hello "},
        {"type": "file", "url": "x://y"},
        {"type": "text", "text": "world"},
    ]
    run = perform(wire, chat_id="parts", input=parts)
    user, assistant = wire.call("chat/messages", chat_id="parts")["messages"]
    assert user["parts"] == parts
    assert user["content"] == assistant["content"] == "hello world"
    assert assistant["parts"] == [{"type": "text", "text": "hello world"}]
    assert run["message_id"] == assistant["id"]


@pytest.mark.parametrize(("part", "path"), [
    ({}, "$.input[1].type"), ({"type": 1}, "$.input[1].type"), ({"type": "text"}, "$.input[1].text"),
    ({"type": "text", "text": 5}, "$.input[1].text"), ("text", "$.input[1]"),
])  # fmt: skip
def test_a_faulty_part_is_named(wire: Wire, part, path):
    """A part without its fields is refused, and its place is told."""
    error = wire.refuse("run/start", agent="demo", input=[{"type": "text", "text": "fine"}, part])
    assert (error.code, error.data["path"]) == (-32602, path)


def test_demo_repeats_its_input(wire: Wire):
    """The built-in agent says its input word by word, as often as it is told, in one step."""
    run = start(wire, input="a  b\nc ", metadata={"demo": {"delay_ms": 0, "repeat": 3}})
    events, _ = wire.tail(run["id"])
    found = wire.call("run/get", run_id=run["id"])
    assert read_text(events) == found["message"]["content"] == "a  b\nc " * 3
    assert (found["run"]["status"], found["run"]["step_count"]) == ("succeeded", 1)


def test_demo_fails_when_told(wire: Wire):
    """The built-in agent fails after its last word: the run is failed, with the exception, and keeps the text."""
    run = perform(wire, input="almost there", metadata={"demo": {"delay_ms": 0, "fail": "as told"}})
    assert run["status"] == "failed"
    assert (run["error"]["code"], run["error"]["message"]) == ("exception", "as told")
    assert isinstance(run["error"]["exception"], str)
    message = wire.call("run/get", run_id=run["id"])["message"]
    assert (message["status"], message["content"]) == ("failed", "almost there")


@pytest.mark.parametrize(("demo", "path"), [
    ({"delay_ms": -1}, "$.metadata.demo.delay_ms"), ({"repeat": "x"}, "$.metadata.demo.repeat"),
    ({"fail": 1}, "$.metadata.demo.fail"), ({"speed": 1}, "$.metadata.demo.speed"), ([], "$.metadata.demo"),
])  # fmt: skip
def test_demo_refuses_faulty_options(wire: Wire, demo, path):
    """A wrong option of the built-in agent is an invalid parameter, before the run is stored."""
    error = wire.refuse("run/start", agent="demo", metadata={"demo": demo})
    assert (error.code, error.data["path"]) == (-32602, path)


@pytest.mark.parametrize("chat_id", ["a", EVERY_SIGN, "x" * 128])
def test_a_chats_name_may_be(wire: Wire, chat_id):
    """Every character of the contract's set, one of them or 128."""
    assert start(wire, chat_id=chat_id)["chat_id"] == chat_id


@pytest.mark.parametrize("chat_id", ["", "x" * 129, "a b", "ä", "a\n", "a+b", 7, ["a"]])
def test_a_chats_name_may_not_be(wire: Wire, chat_id):
    """Anything else is refused under its path."""
    error = wire.refuse("run/start", agent="demo", chat_id=chat_id)
    assert (error.code, error.data["path"]) == (-32602, "$.chat_id")


def test_a_configured_command_is_an_agent(wire: Wire):
    """An agent of the configuration is started by its name alone; its input is its stdin."""
    run = perform(wire, agent="shout", input="hello")
    assert (run["agent"], run["command"], run["status"]) == ("shout", None, "succeeded")
    assert wire.call("run/get", run_id=run["id"])["message"]["content"] == "HELLO"


def test_a_start_without_id_is_not_answered(wire: Wire):
    """run/start as a notification is never answered, be it right or wrong."""
    wire.notify("run/start", {"agent": "demo", "input": "quiet", "chat_id": "notified"})
    wire.notify("run/start", {"agent": "demo", "input": "quiet", "workspace": 5})
    wire.end_sending()
    assert wire.read_to_end() == []


def test_a_start_without_id_is_executed(shared_daemon: Daemon, wire: Wire):
    """A run that was started by a notification is found by its chat."""
    with shared_daemon.connect() as other:
        other.notify("run/start", {"agent": "demo", "input": "quiet", "chat_id": "notified-too"})
        other.end_sending()
        other.read_to_end()
    run = wire.call("run/latest", chat_id="notified-too")["run"]
    assert settle(wire, run["id"])["status"] == "succeeded"


def test_many_starts_at_once_are_all_answered(wire: Wire):
    """A hundred starts in one write get a hundred different runs, every one of them durable and settled."""
    ids = range(1000, 1100)
    requests = [
        {
            "jsonrpc": "2.0",
            "id": number,
            "method": "run/start",
            "params": {"agent": "demo", "input": str(number)},
        }
        for number in ids
    ]
    wire.send_raw(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
    runs = [wire.wait_reply(number)["run"] for number in ids]
    assert len({run["id"] for run in runs}) == 100
    assert {settle(wire, run["id"])["status"] for run in runs} == {"succeeded"}
