"""Workspaces: the same name is another chat elsewhere, and who asks under another one sees nothing."""

import pytest

from tests.support.runs import perform, start_endless, stop
from tests.support.wire import Wire


@pytest.mark.parametrize("method", ["run/get", "run/stop", "run/wait", "run/tail"])
def test_a_run_is_not_there_in_another_workspace(wire: Wire, method):
    """A run looked up under a workspace that is not its own is not found, active or settled, and nothing happens."""
    settled = perform(wire, workspace="home")
    active = start_endless(wire, workspace="home")
    for run in (settled, active):
        for workspace in ("foreign", "default", "Home", "hom"):
            error = wire.refuse(method, run_id=run["id"], workspace=workspace)
            assert (error.code, error.type) == (404, "not_found")
    found = wire.call("run/get", run_id=active["id"])["run"]
    assert (found["status"], found["stop_requested_at"]) == ("running", None)
    stop(wire, active["id"])


def test_a_run_is_there_in_its_own_and_in_any(wire: Wire):
    """With its own workspace, or with none named, a run is found by its id."""
    run = perform(wire, workspace="home", input="found")
    for where in ({}, {"workspace": "home"}):
        assert wire.call("run/get", run_id=run["id"], **where)["run"] == run
        assert wire.call("run/wait", run_id=run["id"], **where)["settled"] is True
        assert wire.call("run/stop", run_id=run["id"], **where)["outcome"] == "already_settled"
        assert wire.tail(run["id"], **where)[1]["reason"] == "settled"


def test_a_foreign_workspace_sees_no_chat(wire: Wire):
    """Of a chat in another workspace nothing is to be seen: no run, no message, no chat."""
    run = start_endless(wire, workspace="private", chat_id="secret")
    for where in ({"workspace": "foreign"}, {}):
        assert wire.call("run/latest", chat_id="secret", **where) == {"run": None, "message": None}
        assert wire.call("run/list", chat_id="secret", **where)["runs"] == []
        for method in ("chat/get", "chat/messages", "run/stop"):
            error = wire.refuse(method, chat_id="secret", **where)
            assert (error.code, error.type) == (404, "not_found")
    assert wire.call("chat/list", workspace="foreign")["chats"] == []
    assert wire.call("run/list", workspace="foreign")["runs"] == []
    assert wire.call("run/get", run_id=run["id"])["run"]["stop_requested_at"] is None


def test_one_name_in_two_workspaces_is_two_chats(wire: Wire):
    """Each workspace has its own chat of that name, with its own slot, runs and messages."""
    one = start_endless(wire, workspace="one", chat_id="same", input="first second")
    two = start_endless(wire, workspace="two", chat_id="same", input="first second")
    assert wire.call("run/latest", workspace="one", chat_id="same")["run"]["id"] == one["id"]
    assert wire.call("run/latest", workspace="two", chat_id="same")["run"]["id"] == two["id"]
    stopped = wire.call("run/stop", workspace="one", chat_id="same", wait_seconds=20)["run"]
    assert stopped["id"] == one["id"]
    assert wire.call("run/get", run_id=two["id"])["run"]["status"] == "running"
    assert len(wire.call("chat/messages", workspace="two", chat_id="same")["messages"]) == 2


def test_a_chat_without_workspace_is_in_default(wire: Wire):
    """Where a method takes a chat, an absent workspace means default."""
    run = perform(wire, chat_id="plain", workspace="default")
    perform(wire, chat_id="plain", workspace="other")
    assert wire.call("run/latest", chat_id="plain")["run"]["id"] == run["id"]
    assert wire.call("chat/get", chat_id="plain")["chat"]["workspace"] == "default"
    assert [found["id"] for found in wire.call("run/list", chat_id="plain")["runs"]] == [run["id"]]
    assert {message["run_id"] for message in wire.call("chat/messages", chat_id="plain")["messages"]} == {
        run["id"]
    }


def test_lists_are_of_one_workspace_or_of_all(wire: Wire):
    """A list with a workspace holds that one's rows, a list without holds them all."""
    here, there = perform(wire, workspace="list-here"), perform(wire, workspace="list-there")
    assert [run["id"] for run in wire.call("run/list", workspace="list-here")["runs"]] == [here["id"]]
    assert [run["id"] for run in wire.call("run/list", limit=2)["runs"]] == [there["id"], here["id"]]
    assert [chat["id"] for chat in wire.call("chat/list", workspace="list-there")["chats"]] == [
        there["chat_id"]
    ]


@pytest.mark.parametrize("workspace", ["a", "AZaz09._:@/-", "x" * 64])
def test_a_workspaces_name_may_be(wire: Wire, workspace):
    """Every character of the contract's set, one of them or 64."""
    assert perform(wire, workspace=workspace)["workspace"] == workspace
