"""``detached: false``: a run that ends with the connection that created it."""

from tests.support.daemon import Daemon
from tests.support.processes import is_alive
from tests.support.runs import ENDLESS, settle, start, start_endless, start_shell, stop
from tests.support.waits import wait_until
from tests.support.wire import Wire

ATTACHED = {"agent": "demo", "input": "first second", "metadata": ENDLESS, "detached": False}


def assert_left(wire: Wire, run_id: str) -> None:
    """The run was stopped because its client went."""
    run = settle(wire, run_id)
    assert (run["status"], run["error"], run["stop_reason"]) == ("aborted", None, "client_disconnected")
    assert run["stop_requested_at"] is not None


def test_an_attached_run_ends_with_its_client(shared_daemon: Daemon, wire: Wire):
    """When its connection closes, the run is stopped as client_disconnected, and keeps what it said."""
    with shared_daemon.connect() as leaving:
        run = start_endless(leaving, detached=False)
        assert run["detached"] is False
    assert_left(wire, run["id"])
    assert wire.call("run/get", run_id=run["id"])["message"]["content"] == "first "


def test_a_half_close_is_an_end(shared_daemon: Daemon, wire: Wire):
    """The end of file from the client is enough, though it still reads."""
    with shared_daemon.connect() as leaving:
        run = start_endless(leaving, detached=False)
        waiting = leaving.send("run/wait", {"run_id": run["id"]})
        leaving.end_sending()
        [answer] = leaving.read_to_end()
    assert (answer["id"], answer["result"]["run"]["stop_reason"]) == (waiting, "client_disconnected")
    assert_left(wire, run["id"])


def test_every_run_of_the_connection_ends(shared_daemon: Daemon, wire: Wire):
    """All runs that the connection attached end, and the detached one goes on."""
    with shared_daemon.connect() as leaving:
        attached = [start_endless(leaving, detached=False)["id"] for _ in range(5)]
        kept = start_endless(leaving)["id"]
    for run_id in attached:
        assert_left(wire, run_id)
    assert wire.call("run/get", run_id=kept)["run"]["status"] == "running"


def test_a_client_that_closes_before_the_reply(shared_daemon: Daemon, wire: Wire):
    """A client that sends its start and closes at once, before the reply, has its run stopped too."""
    for number in range(10):
        chat_id = f"before-{number}"
        with shared_daemon.connect() as leaving:
            leaving.send("run/start", {**ATTACHED, "chat_id": chat_id})
        run = wait_until(lambda chat_id=chat_id: wire.call("run/latest", chat_id=chat_id)["run"])
        assert_left(wire, run["id"])


def test_a_start_and_a_half_close_in_one(shared_daemon: Daemon, wire: Wire):
    """A start whose end of file comes along is answered, and its run is stopped."""
    with shared_daemon.connect() as leaving:
        leaving.send("run/start", ATTACHED)
        leaving.end_sending()
        [answer] = leaving.read_to_end()
    assert answer["result"]["created"] is True
    assert_left(wire, answer["result"]["run"]["id"])


def test_an_attached_start_as_a_notification(shared_daemon: Daemon, wire: Wire):
    """A run that was attached without asking for an answer ends with the connection too."""
    with shared_daemon.connect() as leaving:
        leaving.notify("run/start", {**ATTACHED, "chat_id": "notified"})
        run = wait_until(lambda: leaving.call("run/latest", chat_id="notified")["run"])
    assert_left(wire, run["id"])


def test_who_joins_does_not_attach(shared_daemon: Daemon, wire: Wire):
    """Attaching binds only where created is true: who joined a run leaves it alone."""
    run = start_endless(wire, chat_id="joined")
    with shared_daemon.connect() as leaving:
        answer = leaving.call("run/start", **ATTACHED, chat_id="joined", on_active="join")
        assert (answer["created"], answer["run"]["id"]) == (False, run["id"])
    with shared_daemon.connect() as other:
        other.call("server/info")
        assert other.call("run/get", run_id=run["id"])["run"]["stop_requested_at"] is None


def test_who_repeats_a_key_does_not_attach(shared_daemon: Daemon, wire: Wire):
    """A start that finds its key's run does not bind it to this connection."""
    params = {**ATTACHED, "detached": True, "chat_id": "keyed", "idempotency_key": "attached"}
    run = wire.call("run/start", **params)["run"]
    with shared_daemon.connect() as leaving:
        answer = leaving.call("run/start", **{**params, "detached": False})
        assert (answer["created"], answer["run"]["id"]) == (False, run["id"])
    with shared_daemon.connect() as other:
        other.call("server/info")
        assert other.call("run/get", run_id=run["id"])["run"]["stop_requested_at"] is None


def test_a_settled_run_is_left_alone(shared_daemon: Daemon, wire: Wire):
    """A run that ended before its client went stays as it ended."""
    with shared_daemon.connect() as leaving:
        run = settle(leaving, start(leaving, detached=False)["id"])
    assert wire.call("run/get", run_id=run["id"])["run"] == run
    assert (run["status"], run["stop_reason"]) == ("succeeded", None)


def test_the_first_reason_stays(shared_daemon: Daemon, wire: Wire):
    """A run that was stopped for another reason keeps that when its client goes."""
    with shared_daemon.connect() as leaving:
        run = start_endless(leaving, detached=False)
        stop(wire, run["id"], reason="enough")
    assert wire.call("run/get", run_id=run["id"])["run"]["stop_reason"] == "enough"


def test_an_attached_command_is_killed(shared_daemon: Daemon, wire: Wire):
    """The processes of an attached command are gone when its run is settled."""
    with shared_daemon.connect() as leaving:
        run = start_shell(leaving, "sleep 600 & echo $$ $!; wait", detached=False)
        said = wait_until(lambda: leaving.call("run/get", run_id=run["id"])["message"]["content"])
    assert_left(wire, run["id"])
    assert not any(is_alive(int(pid)) for pid in said.split())
