"""``run/wait``: one answer when a run is settled, or its state when the time is up."""

import pytest

from tests.support.daemon import Daemon
from tests.support.runs import NO_RUN, perform, start, start_endless, stop
from tests.support.wire import Wire


def test_a_settled_run_is_answered_at_once(wire: Wire):
    """The wait for a settled run returns run and message as run/get does, and settled true."""
    run = perform(wire, input="done")
    answer = wire.call("run/wait", run_id=run["id"])
    assert answer == {**wire.call("run/get", run_id=run["id"]), "settled": True}


def test_a_wait_ends_with_the_run(shared_daemon: Daemon, wire: Wire):
    """A wait without a limit answers when the run is settled, on every connection that waits."""
    run = start_endless(wire)
    others = [shared_daemon.connect() for _ in range(3)]
    waiting = [other.send("run/wait", {"run_id": run["id"]}) for other in others for _ in range(2)]
    stop(wire, run["id"])
    for other in others:
        for number in waiting[:2]:
            answer = other.wait_reply(number)
            assert (answer["settled"], answer["run"]["status"]) == (True, "aborted")
            assert answer["message"]["status"] == "aborted"
        other.close()


def test_a_wait_of_a_run_that_succeeds(wire: Wire):
    """The answer to a wait that began while the run was active shows it complete."""
    run = start(wire, input="a b c d e f", metadata={"demo": {"delay_ms": 5}})
    answer = wire.call("run/wait", run_id=run["id"], timeout_seconds=30)
    assert (answer["settled"], answer["run"]["status"]) == (True, "succeeded")
    assert answer["message"]["content"] == "a b c d e f"


ENDINGS = {
    "succeeded": {"input": "a b", "metadata": {"demo": {"delay_ms": 1}, "more": [1, {"x": None}]}},
    "failed": {"input": 'quo"te \\ \u00e9', "metadata": {"demo": {"fail": "on purpose"}}},
    "a command": {"command": ["sh", "-c", "sleep 0.2; echo out; echo err >&2; exit 3"]},
    "with a key": {"idempotency_key": "once", "created_by": "me", "trigger": "api"},
    "large": {"input": "word " * 20_000, "metadata": {"demo": {"delay_ms": 0}}},
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_wait_answers_what_the_database_holds(wire: Wire, ending):
    """Who waited from the beginning gets, to the byte, what a later look at the run gives."""
    run = start(wire, **ENDINGS[ending])
    answer = wire.call("run/wait", run_id=run["id"], timeout_seconds=30)
    assert answer == {**wire.call("run/get", run_id=run["id"]), "settled": True}


def test_a_wait_for_a_stopped_run_answers_what_the_database_holds(wire: Wire, shared_daemon: Daemon):
    """The same holds for a run that was stopped while somebody waited: marks, partial text and all."""
    run = start_endless(wire)
    waiting = wire.send("run/wait", {"run_id": run["id"]})
    other = shared_daemon.connect()
    other.call("run/stop", run_id=run["id"], reason="enough")
    answer = wire.wait_reply(waiting)
    assert answer == {**other.call("run/get", run_id=run["id"]), "settled": True}
    other.close()


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_a_timeout_shows_the_state_as_it_is(wire: Wire, seconds):
    """A wait whose time is up answers settled false, with run and message as they are; the run goes on."""
    run = start_endless(wire, input="first second")
    answer = wire.call("run/wait", run_id=run["id"], timeout_seconds=seconds)
    assert (answer["settled"], answer["run"]["status"]) == (False, "running")
    assert answer["message"]["content"] == "first "
    assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "running"


def test_a_settled_run_needs_no_time(wire: Wire):
    """With a timeout of nothing a settled run is still settled."""
    run = perform(wire)
    assert wire.call("run/wait", run_id=run["id"], timeout_seconds=0)["settled"] is True


def test_a_wait_for_nobody_is_not_found(wire: Wire):
    """A run that is not there cannot be waited for."""
    assert wire.refuse("run/wait", run_id=NO_RUN).type == "not_found"


@pytest.mark.parametrize("seconds", [-1, -0.001, "1", True, [1]])
def test_a_faulty_timeout_is_refused(wire: Wire, seconds):
    """A timeout is a number of seconds, not less than none."""
    error = wire.refuse("run/wait", run_id=NO_RUN, timeout_seconds=seconds)
    assert (error.code, error.data["path"]) == (-32602, "$.timeout_seconds")


def test_a_waiter_that_leaves_disturbs_nobody(shared_daemon: Daemon, wire: Wire):
    """A connection that waits and hangs up changes nothing for the run or for other waiters."""
    run = start_endless(wire)
    waiting = wire.send("run/wait", {"run_id": run["id"]})
    with shared_daemon.connect() as other:
        other.send("run/wait", {"run_id": run["id"]})
    with shared_daemon.connect() as third:
        assert third.call("run/get", run_id=run["id"])["run"]["status"] == "running"
        stop(third, run["id"])
    assert wire.wait_reply(waiting)["settled"] is True
