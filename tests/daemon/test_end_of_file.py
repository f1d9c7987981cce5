"""What happens when a client has said all it will say, or is gone."""

import json
import socket

from tests.support.daemon import Daemon
from tests.support.runs import read_text, settle, start, start_endless, stop
from tests.support.waits import wait_until
from tests.support.wire import Wire


def test_requests_in_flight_are_answered(shared_daemon: Daemon, wire: Wire):
    """After the client's half-close what it asked is still answered; then the connection is closed."""
    run = start_endless(wire)
    with shared_daemon.connect() as leaving:
        waiting = [leaving.send("run/wait", {"run_id": run["id"]}) for _ in range(3)]
        leaving.end_sending()
        stop(wire, run["id"])
        said = leaving.read_to_end()
    assert sorted(line["id"] for line in said) == waiting
    assert all(line["result"]["settled"] for line in said)


def test_a_whole_conversation_in_one_write(shared_daemon: Daemon):
    """Everything sent before the half-close is answered, as with a program that pipes lines into the socket."""
    with shared_daemon.connect() as leaving:
        leaving.send("run/start", {"agent": "demo", "input": "one"})
        leaving.send("run/list", {"limit": 1})
        leaving.send("server/info")
        leaving.end_sending()
        assert sorted(line["id"] for line in leaving.read_to_end()) == [1, 2, 3]


def test_nothing_to_answer_is_closed_at_once(shared_daemon: Daemon):
    """A connection that asked nothing is closed when it ends."""
    with shared_daemon.connect() as leaving:
        leaving.end_sending()
        assert leaving.read_to_end() == []


def test_subscriptions_end(shared_daemon: Daemon, wire: Wire):
    """After the half-close each subscription ends, once, as unsubscribed; the run goes on."""
    run = start_endless(wire)
    with shared_daemon.connect() as leaving:
        tails = {leaving.call("run/tail", run_id=run["id"])["subscription"] for _ in range(3)}
        leaving.end_sending()
        said = leaving.read_to_end()
    assert [line["method"] for line in said] == ["run/tail_end"] * 3
    assert {line["params"]["subscription"] for line in said} == tails
    assert {line["params"]["reason"] for line in said} == {"unsubscribed"}
    assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "running"


def test_a_tail_that_is_asked_for_last(shared_daemon: Daemon, wire: Wire):
    """A run/tail right before the half-close is answered, and its subscription ends once."""
    run = start_endless(wire)
    with shared_daemon.connect() as leaving:
        request_id = leaving.send("run/tail", {"run_id": run["id"], "after_seq": 0})
        leaving.end_sending()
        said = leaving.read_to_end()
    assert said[0]["id"] == request_id
    assert said[-1]["method"] == "run/tail_end"
    events = [line["params"] for line in said[1:-1]]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert said[-1]["params"]["last_seq"] == len(events)


def test_a_line_without_its_newline_is_none(shared_daemon: Daemon, wire: Wire):
    """What stands after the last newline is no request: it is neither executed nor answered."""
    line = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "run/start",
        "params": {"agent": "demo", "chat_id": "unended"},
    }
    with shared_daemon.connect() as leaving:
        leaving.send_raw(json.dumps(line).encode())
        leaving.end_sending()
        assert leaving.read_to_end() == []
    assert wire.refuse("chat/get", chat_id="unended").type == "not_found"


def test_a_disconnect_means_nothing(shared_daemon: Daemon, wire: Wire):
    """A run whose client hangs up, however it does, goes on and succeeds with no subscriber."""
    runs = []
    for abrupt in (False, True):
        leaving = shared_daemon.connect()
        run = start(leaving, input="one two three four", metadata={"demo": {"delay_ms": 10}})
        leaving.send("run/tail", {"run_id": run["id"], "after_seq": 0})
        if abrupt:  # close with unread data: the daemon gets a reset
            leaving.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        leaving.close()
        runs.append(run["id"])
    for run_id in runs:
        run = settle(wire, run_id)
        assert (run["status"], run["stop_requested_at"], run["stop_reason"]) == ("succeeded", None, None)
        assert read_text(wire.tail(run_id)[0]) == "one two three four"


def test_a_start_whose_client_is_gone_is_executed(shared_daemon: Daemon, wire: Wire):
    """A start that was sent whole before the client hung up is executed once."""
    with shared_daemon.connect() as leaving:
        leaving.send("run/start", {"agent": "demo", "input": "left", "chat_id": "left"})
    run = wait_until(lambda: wire.call("run/latest", chat_id="left")["run"])
    assert settle(wire, run["id"])["status"] == "succeeded"
    assert len(wire.call("run/list", chat_id="left")["runs"]) == 1


def test_clients_come_and_go(shared_daemon: Daemon, wire: Wire):
    """Two hundred connections that end in all sorts of ways leave a daemon that serves as before."""
    run = start_endless(wire)
    for number in range(200):
        with shared_daemon.connect() as leaving:
            if number % 4 == 1:
                leaving.send("run/tail", {"run_id": run["id"]})
            elif number % 4 == 2:
                leaving.send_raw(b'{"half": ')
            elif number % 4 == 3:
                leaving.send("run/wait", {"run_id": run["id"]})
    assert stop(wire, run["id"])["status"] == "aborted"
