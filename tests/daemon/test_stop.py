"""``run/stop``: the one way to end a run from outside, and what it leaves alone."""

import pytest

from tests.support.daemon import Daemon
from tests.support.processes import is_alive
from tests.support.runs import (
    NO_RUN,
    TIME,
    perform,
    settle,
    start,
    start_endless,
    start_shell,
    stop,
    wait_text,
)
from tests.support.waits import wait_until
from tests.support.wire import Wire


def test_a_stopped_run_is_aborted(wire: Wire):
    """A stop that is waited for answers stopped, and the run is aborted, without an error, with mark and reason."""
    run = start_endless(wire)
    answer = wire.call("run/stop", run_id=run["id"], reason="enough", wait_seconds=20)
    stopped = answer["run"]
    assert (answer["outcome"], stopped["id"], stopped["status"]) == ("stopped", run["id"], "aborted")
    assert (stopped["error"], stopped["stop_reason"]) == (None, "enough")
    assert TIME.fullmatch(stopped["stop_requested_at"])
    assert TIME.fullmatch(stopped["finished_at"])
    assert stopped["created_at"] <= stopped["stop_requested_at"] <= stopped["finished_at"]


def test_what_was_said_is_kept(wire: Wire):
    """The assistant message of a stopped run is aborted and holds what was said, as content and as parts."""
    run = start_endless(wire, input="first second")
    stop(wire, run["id"])
    message = wire.call("run/get", run_id=run["id"])["message"]
    assert (message["status"], message["content"]) == ("aborted", "first ")
    assert message["parts"] == [{"type": "text", "text": "first "}]


def test_the_log_tells_of_the_stop(wire: Wire):
    """The log has run.stop_requested once, then run.settled last, which repeats the mark."""
    run = start_endless(wire)
    stopped = stop(wire, run["id"], reason="enough")
    events, end = wire.tail(run["id"])
    asked = [event for event in events if event["type"] == "run.stop_requested"]
    assert len(asked) == 1
    assert asked[0]["data"].keys() >= {"by", "reason", "requested_at"}
    assert (asked[0]["data"]["reason"], asked[0]["data"]["requested_at"]) == (
        "enough",
        stopped["stop_requested_at"],
    )
    assert events[-1]["data"] == {
        "status": "aborted", "error": None, "stop_requested_at": stopped["stop_requested_at"], "stop_reason": "enough",
    }  # fmt: skip
    assert (end["reason"], end["last_seq"]) == ("settled", events[-1]["seq"])


def test_a_stop_need_not_be_waited_for(wire: Wire):
    """Without wait_seconds the answer comes at once, says which it is, and the run ends all the same."""
    run = start_shell(wire, "trap '' TERM; echo ready; while :; do sleep 1; done")
    wait_text(wire, run["id"], "ready")
    answer = wire.call("run/stop", run_id=run["id"])
    assert answer["outcome"] == "stopping"
    assert answer["run"]["status"] == "running"
    assert answer["run"]["stop_requested_at"] is not None
    assert answer["run"]["stop_reason"] is None
    assert settle(wire, run["id"])["status"] == "aborted"


@pytest.mark.parametrize("how", [{}, {"command": ["false"]}, {"metadata": {"demo": {"fail": "x"}}}])
def test_a_stop_of_a_settled_run_changes_nothing(wire: Wire, how):
    """On a settled run a stop is a no-op: already_settled, and run and log are as they were."""
    run = perform(wire, **how)
    answer = wire.call("run/stop", run_id=run["id"], reason="too late", wait_seconds=5)
    assert answer == {"outcome": "already_settled", "run": run}
    assert wire.call("run/get", run_id=run["id"])["run"] == run


def test_a_second_stop_of_a_stopped_run_changes_nothing(wire: Wire):
    """A stopped run that is stopped again was already settled, and keeps its mark."""
    run = start_endless(wire)
    stopped = stop(wire, run["id"], reason="first")
    assert wire.call("run/stop", run_id=run["id"], reason="second") == {
        "outcome": "already_settled",
        "run": stopped,
    }


def test_the_first_stops_reason_stays(wire: Wire):
    """A stop of a run that is being stopped keeps the first one's time and reason."""
    run = start_shell(wire, "trap '' TERM; echo ready; while :; do sleep 1; done")
    wait_text(wire, run["id"], "ready")
    first = wire.call("run/stop", run_id=run["id"], reason="first")["run"]
    second = wire.call("run/stop", run_id=run["id"], reason="second", wait_seconds=20)
    assert (second["outcome"], second["run"]["stop_reason"]) == ("stopped", "first")
    assert second["run"]["stop_requested_at"] == first["stop_requested_at"]


def test_many_stops_at_once_are_one(shared_daemon: Daemon, wire: Wire):
    """Stops from many connections at once are all answered, and the log tells of one."""
    run = start_endless(wire)
    others = [shared_daemon.connect() for _ in range(8)]
    waiting = [other.send("run/stop", {"run_id": run["id"], "wait_seconds": 20}) for other in others]
    answers = [other.wait_reply(number) for other, number in zip(others, waiting, strict=True)]
    for other in others:
        other.close()
    assert {answer["outcome"] for answer in answers} <= {"stopped", "already_settled"}
    events, _ = wire.tail(run["id"])
    assert [event["type"] for event in events].count("run.stop_requested") == 1


def test_a_chats_active_run_is_stopped(wire: Wire):
    """A stop by chat_id means the chat's active run."""
    perform(wire, chat_id="by-chat")
    run = start_endless(wire, chat_id="by-chat")
    answer = wire.call("run/stop", chat_id="by-chat", wait_seconds=20)
    assert (answer["outcome"], answer["run"]["id"], answer["run"]["status"]) == (
        "stopped",
        run["id"],
        "aborted",
    )


def test_a_chat_at_rest_names_its_latest_run(wire: Wire):
    """A stop by chat_id of a chat without an active run finds its latest one settled."""
    perform(wire, chat_id="at-rest")
    latest = perform(wire, chat_id="at-rest")
    assert wire.call("run/stop", chat_id="at-rest") == {"outcome": "already_settled", "run": latest}


def test_nothing_to_stop_is_not_found(wire: Wire):
    """A run that is not there, a chat that is not there, a chat without runs: not found."""
    wire.call("chat/create", chat_id="never-ran")
    for target in ({"run_id": NO_RUN}, {"chat_id": "no-such-chat"}, {"chat_id": "never-ran"}):
        error = wire.refuse("run/stop", **target)
        assert (error.code, error.type) == (404, "not_found"), target


@pytest.mark.parametrize("params", [
    {}, {"run_id": NO_RUN, "chat_id": "a"}, {"run_id": NO_RUN, "wait_seconds": -1}, {"run_id": NO_RUN, "reason": 5},
    {"run_id": NO_RUN, "wait_seconds": 3601}, {"run_id": NO_RUN, "wait_seconds": "1"},
])  # fmt: skip
def test_a_faulty_stop_is_refused(wire: Wire, params):
    """Exactly one of run_id and chat_id, and at most an hour of waiting."""
    error = wire.refuse("run/stop", **params)
    assert (error.code, error.type) == (-32602, "invalid_params")
    assert error.data["path"].startswith("$.")


def test_a_stop_as_a_notification_stops(wire: Wire):
    """A stop without id is executed, and not answered."""
    run = start_endless(wire)
    wire.notify("run/stop", {"run_id": run["id"], "reason": "quietly"})
    stopped = settle(wire, run["id"])
    assert (stopped["status"], stopped["stop_reason"]) == ("aborted", "quietly")
    wire.assert_silent()


def test_a_command_may_say_a_last_word(wire: Wire):
    """A program hears SIGTERM, what it says then belongs to the answer, and it is aborted whatever its exit status."""
    run = start_shell(wire, "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
    wait_text(wire, run["id"], "ready\n")
    stopped = stop(wire, run["id"])
    assert (stopped["status"], stopped["error"]) == ("aborted", None)
    assert wire.call("run/get", run_id=run["id"])["message"]["content"] == "ready\nbye\n"


def test_a_command_that_will_not_hear_is_killed(wire: Wire):
    """A program that ignores SIGTERM is killed after the grace, and with it all it started, wherever that went."""
    run = start_shell(wire, "trap '' TERM; setsid sleep 600 & echo $$ $!; while :; do sleep 0.1; done")
    said = wait_until(lambda: wire.call("run/get", run_id=run["id"])["message"]["content"])
    pids = [int(pid) for pid in said.split()]
    assert all(is_alive(pid) for pid in pids)
    assert stop(wire, run["id"])["status"] == "aborted"
    assert not any(is_alive(pid) for pid in pids), "processes of the run are left after run.settled"


def test_a_run_that_ended_before_the_stop_ended_by_itself(wire: Wire):
    """Whoever wins, row, log and message agree: a run that a stop reaches at its end is settled once."""
    for _ in range(10):
        run = start(wire, input="word", metadata={"demo": {"delay_ms": 0}})
        answer = wire.call("run/stop", run_id=run["id"], wait_seconds=20)
        if answer["outcome"] == "already_settled":
            assert (answer["run"]["status"], answer["run"]["stop_requested_at"]) == ("succeeded", None)
        else:
            assert answer["run"]["status"] in {"succeeded", "aborted"}
            assert answer["run"]["stop_requested_at"] is not None
        events, _ = wire.tail(run["id"])
        assert events[-1]["data"]["status"] == answer["run"]["status"]


def test_the_slot_is_free_after_the_stop(wire: Wire):
    """A chat takes its next run as soon as the stopped one is settled."""
    first = start_endless(wire, chat_id="next")
    stop(wire, first["id"])
    assert wire.call("run/start", agent="demo", chat_id="next")["created"] is True


def test_neighbours_go_on(wire: Wire):
    """A stop ends its run and no other."""
    stopped, other = start_endless(wire), start_endless(wire)
    stop(wire, stopped["id"])
    assert wire.call("run/get", run_id=other["id"])["run"]["status"] == "running"
