"""Many requests at once on one connection: concurrent, matched by id, and bounded."""

import contextlib
import json

from tests.support.daemon import Daemon
from tests.support.homes import CONFIG
from tests.support.runs import perform, settle, start_endless, stop
from tests.support.waits import wait_until
from tests.support.wire import Wire

IN_FLIGHT = 256


def fill(wire: Wire, run_id: str, count: int = IN_FLIGHT) -> list[int]:
    """So many waits for an endless run; their ids."""
    return [wire.send("run/wait", {"run_id": run_id}) for _ in range(count)]


def test_a_request_does_not_hold_up_the_next(wire: Wire):
    """Requests on one connection run side by side: a later one is answered while an earlier one waits."""
    run = start_endless(wire)
    waiting = wire.send("run/wait", {"run_id": run["id"]})
    assert wire.call("server/info")["name"] == "outlived"
    stop(wire, run["id"])
    assert wire.wait_reply(waiting)["settled"] is True


def test_the_257th_request_is_overload(wire: Wire):
    """With 256 requests in flight one more is answered -32001, retryable, and changes nothing for the others."""
    run = start_endless(wire)
    waiting = fill(wire, run["id"])
    error = wire.refuse("server/info")
    assert (error.code, error.type, error.data["retryable"]) == (-32001, "overloaded", True)
    wire.call("run/stop", run_id=run["id"])
    assert all(wire.wait_reply(number)["settled"] for number in waiting)
    assert wire.call("server/info")["name"] == "outlived"


def test_stop_untail_and_cancel_are_exempt(wire: Wire):
    """A full connection still serves run/untail, $/cancel_request and run/stop; a request that is cancelled makes
    room for another one.
    """
    run = start_endless(wire)
    subscription = wire.call("run/tail", run_id=run["id"])["subscription"]
    waiting = fill(wire, run["id"])
    assert wire.call("run/untail", subscription=subscription) == {}
    assert wire.read_tail(subscription)[1]["reason"] == "unsubscribed"
    wire.notify("$/cancel_request", {"id": waiting[0]})
    assert wire.wait_line(waiting[0])["error"]["data"]["type"] == "request_cancelled"
    assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "running"
    assert wire.call("$/cancel_request", id=waiting[1]) == {}
    assert wire.call("run/stop", run_id=run["id"], wait_seconds=20)["outcome"] == "stopped"
    assert all(wire.wait_reply(number)["settled"] for number in waiting[2:])


def test_the_limit_is_exact(wire: Wire):
    """Of 300 requests in one write that all wait, 44 are refused, and 256 are answered in the end."""
    run = start_endless(wire)
    lines = [
        json.dumps(
            {"jsonrpc": "2.0", "id": 10_000 + number, "method": "run/wait", "params": {"run_id": run["id"]}}
        )
        for number in range(300)
    ]
    wire.send_raw(("\n".join(lines) + "\n").encode())
    refused = [wire.read() for _ in range(300 - IN_FLIGHT)]
    assert {line["error"]["code"] for line in refused} == {-32001}
    wire.call("run/stop", run_id=run["id"])
    served = {10_000 + number for number in range(300)} - {line["id"] for line in refused}
    assert len(served) == IN_FLIGHT
    assert all(wire.wait_reply(number)["settled"] for number in served)


def test_a_refused_request_has_no_effect(wire: Wire):
    """A start that is refused for overload starts nothing."""
    run = start_endless(wire)
    waiting = fill(wire, run["id"])
    assert wire.refuse("run/start", agent="demo", chat_id="overloaded").type == "overloaded"
    wire.call("run/stop", run_id=run["id"])
    for number in waiting:
        wire.wait_reply(number)
    assert wire.refuse("chat/get", chat_id="overloaded").type == "not_found"


def test_a_full_connection_is_full_alone(shared_daemon: Daemon, wire: Wire):
    """Another connection does not notice that one is full."""
    run = start_endless(wire)
    waiting = fill(wire, run["id"])
    with shared_daemon.connect() as other:
        assert perform(other, input="elsewhere")["status"] == "succeeded"
        stop(other, run["id"])
    assert all(wire.wait_reply(number)["settled"] for number in waiting)


def test_answers_fit_their_requests(shared_daemon: Daemon, wire: Wire):
    """Of many different requests at once each gets its own answer."""
    runs = [perform(wire, input=f"number{number}") for number in range(20)]
    asked = {wire.send("run/get", {"run_id": run["id"]}): run for run in runs * 5}
    for number, run in asked.items():
        answer = wire.wait_reply(number)
        assert (answer["run"], answer["message"]["run_id"]) == (run, run["id"])


def test_a_client_that_does_not_read_its_answers(shared_daemon: Daemon, wire: Wire):
    """A connection that asks much and reads nothing for a while gets every answer later; others are not delayed."""
    run = perform(wire, command=["sh", "-c", "seq 20000"])
    with shared_daemon.connect() as sluggish:
        waiting = [sluggish.send("run/get", {"run_id": run["id"]}) for _ in range(40)]
        assert settle(wire, perform(wire)["id"])["status"] == "succeeded"
        assert {len(sluggish.wait_reply(number)["message"]["content"]) for number in waiting} == {108_894}


def test_connections_are_bounded_too(make_daemon):
    """A connection beyond the configured number is told so, retryable, and closed; one that ends makes room."""
    daemon = make_daemon(config=f"{CONFIG}\n[server]\nmax_connections = 2\n").start()
    wait_until(lambda: has_room(daemon))
    with daemon.connect() as first, daemon.connect() as second:
        assert first.call("server/info")["limits"]["connections"] == 2
        second.call("server/info")
        with daemon.connect() as third:
            [line] = third.read_to_end()
            assert (line["id"], line["error"]["code"], line["error"]["data"]["retryable"]) == (
                None,
                -32001,
                True,
            )
        assert first.call("server/info")["name"] == "outlived"
    wait_until(lambda: has_room(daemon))


def has_room(daemon: Daemon) -> bool:
    """Whether the daemon takes two connections, and nobody else is connected: these two have ended afterwards."""
    with daemon.connect() as first, daemon.connect() as second, contextlib.suppress(OSError):
        for wire in (first, second):  # one that is turned away may be closed while it asks
            wire.send("server/info")
            wire.end_sending()
        answers = first.read_to_end() + second.read_to_end()
        return ["result" in line for line in answers] == [True, True]
    return False


def test_connections_are_not_bounded_by_a_soft_limit(make_daemon):
    """A daemon that may open more files than its soft limit says does: connections do not take its runs' pipes."""
    daemon = make_daemon()
    daemon.before = ["sh", "-c", 'ulimit -S -n 100; exec "$@"', "sh"]
    daemon.start()
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(daemon.connect()) for _ in range(200)]
        assert {wire.call("server/info")["pid"] for wire in wires} != set()
        assert perform(wires[-1], command=["true"])["status"] == "succeeded"
