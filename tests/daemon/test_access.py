"""Who may use which workspace: decided by the uid and gid that the kernel saw."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.homes import end_cleanly
from tests.support.runs import NO_RUN, perform, start_endless, stop
from tests.support.waits import wait_until
from tests.support.wire import Wire

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

ANN, BOB, TEAM = 12001, 12002, 12010
CONFIG = f"""
{FAST}
[server]
socket_mode = "666"
[workspaces.anns]
users = [{ANN}]
[workspaces.team]
users = [{ANN}]
groups = [{TEAM}]
[workspaces.nobodys]
"""


@contextmanager
def act_as(uid: int, gid: int) -> Iterator[None]:
    """Be another user for a moment: what is connected meanwhile belongs to that one."""
    before = os.getegid()
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(before)


@pytest.fixture(scope="module")
def daemon(postgres) -> Iterator[Daemon]:
    """A daemon with workspaces, whose socket everybody may open."""
    with tempfile.TemporaryDirectory(prefix="olw-", dir="/tmp") as directory:
        Path(directory).chmod(0o711)
        daemon = Daemon(Path(directory), database=postgres.create_database(), config=CONFIG).start()
        yield daemon
        end_cleanly(daemon)
        assert_history(daemon.database, settled=True)


def connect(daemon: Daemon, uid: int, gid: int) -> Wire:
    with act_as(uid, gid):
        return daemon.connect()


@pytest.fixture
def ann(daemon: Daemon) -> Iterator[Wire]:
    with connect(daemon, ANN, ANN) as wire:
        yield wire


@pytest.fixture
def bob(daemon: Daemon) -> Iterator[Wire]:
    """Somebody of the team's group."""
    with connect(daemon, BOB, TEAM) as wire:
        yield wire


@pytest.fixture
def root(daemon: Daemon) -> Iterator[Wire]:
    with daemon.connect() as wire:
        yield wire


def test_everybody_is_told_what_they_may(daemon: Daemon, ann: Wire, bob: Wire, root: Wire):
    """``server/info`` names the workspaces of whoever asks; to the daemon's own user and root any are open."""
    assert ann.call("server/info")["workspaces"] == ["anns", "team"]
    assert bob.call("server/info")["workspaces"] == ["team"]
    assert root.call("server/info")["workspaces"] is None
    with connect(daemon, BOB, BOB) as stranger:
        assert stranger.call("server/info")["workspaces"] == []


def test_a_start_elsewhere_is_forbidden(daemon: Daemon, bob: Wire, root: Wire):
    """A start in a workspace that does not list the peer answers 403, stores nothing, and is in the log with uid and gid."""
    for workspace in ("anns", "nobodys", "default", "never-heard-of"):
        error = bob.refuse("run/start", agent="demo", workspace=workspace, chat_id="tried")
        assert (error.code, error.type) == (403, "forbidden")
        assert root.refuse("chat/get", workspace=workspace, chat_id="tried").type == "not_found"
    assert bob.refuse("run/start", agent="demo").type == "forbidden"  # which is the workspace default
    daemon.wait_logged(f'"uid":{BOB},"gid":{TEAM},"workspace":"anns"')


def test_a_run_elsewhere_is_not_there(ann: Wire, bob: Wire):
    """Whatever a peer asks of a run or chat in a workspace that is not theirs: there is none. Nothing happens to it."""
    settled, active = perform(ann, workspace="anns"), start_endless(ann, workspace="anns", chat_id="private")
    for run in (settled, active):
        for method in ("run/get", "run/stop", "run/wait", "run/tail"):
            for where in ({}, {"workspace": "anns"}):
                error = bob.refuse(method, run_id=run["id"], **where)
                assert (error.code, error.type) == (404, "not_found")
                missing = bob.refuse(method, run_id=NO_RUN, **where)
                assert error.message.replace(run["id"], "") == missing.message.replace(NO_RUN, "")
    for method in ("run/latest", "run/stop", "chat/get", "chat/messages", "chat/create"):
        error = bob.refuse(method, workspace="anns", chat_id="private")
        assert (error.code, error.type) == (404, "not_found")
    assert ann.call("run/get", run_id=active["id"])["run"]["stop_requested_at"] is None
    stop(ann, active["id"])


def test_lists_leave_it_out(ann: Wire, bob: Wire, root: Wire):
    """A list holds what its reader may see, page by page, and nothing else; of a workspace that is not theirs it is empty."""
    for number in range(3):
        perform(ann, workspace="anns", chat_id=f"list-{number}")
        perform(ann, workspace="team", chat_id=f"list-{number}")
    for method, rows in (("run/list", "runs"), ("chat/list", "chats")):
        found, cursor = [], None
        while True:
            page = bob.call(method, limit=1, cursor=cursor) if cursor else bob.call(method, limit=1)
            found += page[rows]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(found) >= 3
        assert {row["workspace"] for row in found} == {"team"}
        assert bob.call(method, workspace="anns")[rows] == []
        assert {row["workspace"] for row in ann.call(method, limit=200)[rows]} == {"anns", "team"}
        assert {"anns", "team"} <= {row["workspace"] for row in root.call(method, limit=200)[rows]}
    assert bob.call("run/list", workspace="anns", chat_id="list-0")["runs"] == []


def test_who_is_listed_has_it_all(ann: Wire, bob: Wire):
    """In a workspace of theirs two peers see and stop each other's runs."""
    run = start_endless(bob, workspace="team", chat_id="ours")
    assert ann.call("run/latest", workspace="team", chat_id="ours")["run"]["id"] == run["id"]
    assert ann.call("chat/create", workspace="team", chat_id="ours")["created"] is False
    assert stop(ann, run["id"])["status"] == "aborted"
    assert bob.tail(run["id"])[1]["reason"] == "settled"


def test_root_may_always(root: Wire):
    """The daemon's own user and root start in any workspace, configured or not."""
    for workspace in ("nobodys", "default", "anns"):
        assert perform(root, workspace=workspace)["status"] == "succeeded"


def test_a_drain_is_not_for_everybody(ann: Wire):
    """Only the daemon's own user and root may have it drain."""
    error = ann.refuse("server/drain")
    assert (error.code, error.type) == (403, "forbidden")
    assert ann.call("server/info")["state"] == "serving"


def test_a_reload_changes_who_may(daemon: Daemon, bob: Wire, root: Wire):
    """After a reload the next request is judged by the new lists; runs that are active are not touched."""
    run = start_endless(bob, workspace="team", chat_id="reload")
    daemon.config.write_text(CONFIG.replace(f"groups = [{TEAM}]", "groups = []"))
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: bob.call("server/info")["workspaces"] == [])
    assert bob.refuse("run/get", run_id=run["id"]).type == "not_found"
    assert root.call("run/get", run_id=run["id"])["run"]["status"] == "running"
    daemon.config.write_text(CONFIG)
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: bob.call("server/info")["workspaces"] == ["team"])
    stop(bob, run["id"])
