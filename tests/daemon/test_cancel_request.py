"""``$/cancel_request``: gives up a request of this connection, never a run."""

import json
import time

import pytest

from tests.support.daemon import Daemon
from tests.support.runs import ENDLESS, perform, settle, start_endless, start_shell, stop, wait_text
from tests.support.wire import Wire, WireError


def read_error(wire: Wire, request_id: int) -> WireError:
    with pytest.raises(WireError) as caught:
        wire.wait_reply(request_id)
    return caught.value


def test_a_wait_is_given_up(wire: Wire):
    """A cancelled run/wait is answered -32800, once; the run goes on."""
    run = start_endless(wire)
    waiting = wire.send("run/wait", {"run_id": run["id"]})
    wire.notify("$/cancel_request", {"id": waiting})
    error = read_error(wire, waiting)
    assert (error.code, error.type, error.data["retryable"]) == (-32800, "request_cancelled", False)
    assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "running"
    stop(wire, run["id"])
    wire.assert_silent()


def test_a_wait_by_its_name_is_given_up(wire: Wire):
    """An id that is a text is cancelled by that text, and not by a number that looks like it."""
    run = start_endless(wire)
    line = {"jsonrpc": "2.0", "id": "77", "method": "run/wait", "params": {"run_id": run["id"]}}
    wire.send_raw(json.dumps(line).encode() + b"\n")
    wire.notify("$/cancel_request", {"id": 77})
    assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "running"
    assert "77" not in wire.replies
    wire.notify("$/cancel_request", {"id": "77"})
    assert read_error(wire, "77").type == "request_cancelled"


def test_only_that_request_is_given_up(wire: Wire):
    """Of two waits for a run one is cancelled, the other one is answered."""
    run = start_endless(wire)
    first, second = (wire.send("run/wait", {"run_id": run["id"]}) for _ in range(2))
    wire.notify("$/cancel_request", {"id": first})
    assert read_error(wire, first).type == "request_cancelled"
    stop(wire, run["id"])
    assert wire.wait_reply(second)["settled"] is True


def test_a_request_of_another_connection_is_not_reached(shared_daemon: Daemon, wire: Wire):
    """Ids belong to a connection: cancelling one elsewhere does nothing here."""
    run = start_endless(wire)
    waiting = wire.send("run/wait", {"run_id": run["id"]})
    with shared_daemon.connect() as other:
        other.notify("$/cancel_request", {"id": waiting})
        other.call("server/info")
        stop(other, run["id"])
    assert wire.wait_reply(waiting)["settled"] is True


def test_an_id_that_is_not_in_flight_is_ignored(wire: Wire):
    """Cancelling what was answered, or was never asked, does nothing and says nothing."""
    done = wire.send("server/info")
    wire.wait_reply(done)
    for request_id in (done, 123456, "never", -1, 2**70):
        wire.notify("$/cancel_request", {"id": request_id})
    wire.end_sending()
    assert wire.read_to_end() == []


def test_an_id_is_free_again(wire: Wire):
    """The id of a cancelled request may be used again once it is answered."""
    run = start_endless(wire)
    wait = json.dumps(
        {"jsonrpc": "2.0", "id": "again", "method": "run/wait", "params": {"run_id": run["id"]}}
    )
    for _ in range(3):
        wire.send_raw(wait.encode() + b"\n")
        wire.notify("$/cancel_request", {"id": "again"})
        assert read_error(wire, "again").type == "request_cancelled"


def test_a_start_is_never_given_up(wire: Wire):
    """A run/start whose cancel comes with it, or right after it, is answered normally, and its run is there."""
    for number in range(30):
        start = {
            "jsonrpc": "2.0", "id": f"s{number}", "method": "run/start",
            "params": {"agent": "demo", "chat_id": f"never-{number}", "metadata": ENDLESS, "input": "a b"},
        }  # fmt: skip
        cancel = {"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"id": f"s{number}"}}
        wire.send_raw("".join(json.dumps(line) + "\n" for line in (start, cancel)).encode())
        run = wire.wait_reply(f"s{number}")["run"]
        assert wire.call("run/get", run_id=run["id"])["run"]["status"] in {"pending", "running"}
        wire.call("run/stop", run_id=run["id"])


def test_a_stop_that_is_given_up_still_stops(wire: Wire):
    """Cancelling a run/stop that waits gives up the waiting: the run ends all the same."""
    run = start_shell(wire, "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    wait_text(wire, run["id"], "ready")
    stopping = wire.send("run/stop", {"run_id": run["id"], "wait_seconds": 600})
    deadline = time.monotonic() + 10
    while wire.call("run/get", run_id=run["id"])["run"]["stop_requested_at"] is None:
        assert time.monotonic() < deadline
    wire.notify("$/cancel_request", {"id": stopping})
    assert read_error(wire, stopping).type == "request_cancelled"
    assert settle(wire, run["id"])["status"] == "aborted"


def test_a_tail_is_not_a_request(wire: Wire):
    """A subscription outlives its run/tail request: cancelling that id does nothing to it."""
    run = start_endless(wire)
    request_id = wire.send("run/tail", {"run_id": run["id"]})
    subscription = wire.wait_reply(request_id)["subscription"]
    wire.notify("$/cancel_request", {"id": request_id})
    stop(wire, run["id"])
    events, end = wire.read_tail(subscription)
    assert (events[-1]["type"], end["reason"]) == ("run.settled", "settled")


def test_a_cancelled_tail_leaves_nothing_behind(wire: Wire):
    """A run/tail that is cancelled at once is answered either way, and where it is -32800 no event of it comes."""
    run = perform(wire)
    for _ in range(20):
        request_id = wire.send("run/tail", {"run_id": run["id"], "after_seq": 0})
        wire.notify("$/cancel_request", {"id": request_id})
        answer = wire.wait_line(request_id)
        if "error" in answer:
            assert answer["error"]["data"]["type"] == "request_cancelled"
        else:
            assert wire.read_tail(answer["result"]["subscription"])[1]["reason"] == "settled"
    wire.assert_silent()


def test_cancelling_as_a_request_is_answered(wire: Wire):
    """$/cancel_request with an id of its own is answered, empty, besides the request that it gave up."""
    run = start_endless(wire)
    waiting = wire.send("run/wait", {"run_id": run["id"]})
    assert wire.call("$/cancel_request", id=waiting) == {}
    assert read_error(wire, waiting).type == "request_cancelled"
