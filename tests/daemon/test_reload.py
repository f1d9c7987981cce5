"""A daemon that reads its settings again: what takes hold, what does not, and what a wrong file does."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.runs import perform, start_endless, stop
from tests.support.waits import wait_until
from tests.support.wire import Wire

MakeDaemon = Callable[..., Daemon]

CAT = '[agents.cat]\nkind = "command"\ncommand = ["cat"]\n'


def reload(daemon: Daemon, text: str) -> None:
    daemon.config.write_text(text)
    daemon.signal(signal.SIGHUP)


def read_limit(wire: Wire) -> int:
    return wire.call("server/info")["limits"]["connections"]


def test_agents_and_limits_take_hold(make_daemon: MakeDaemon):
    """New agents can be started, old ones cannot, limits change; a run that is active, even of an agent that went, goes on."""
    daemon = make_daemon(config=FAST + CAT).start()
    with daemon.connect() as wire:
        run = start_endless(wire)
        cat = wire.call("run/start", agent="cat", input="x")["run"]
        reload(
            daemon,
            f'{FAST}\n[server]\nmax_connections = 50\n[agents.tac]\nkind = "command"\ncommand = ["tac"]\n',
        )
        wait_until(lambda: read_limit(wire) == 50)
        assert [agent["name"] for agent in wire.call("server/info")["agents"]] == ["demo", "tac"]
        assert wire.refuse("run/start", agent="cat").data["path"] == "$.agent"
        assert perform(wire, agent="tac", input="a\nb\n")["status"] == "succeeded"
        assert wire.call("run/wait", run_id=cat["id"])["run"]["status"] == "succeeded"
        assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "running"
        stop(wire, run["id"])


@pytest.mark.parametrize(
    "text", ["[server]\nmax_connections = 0", "[agents", "[workspaces.a]\nusers = ['no-such-user-here']"]
)
def test_a_wrong_file_changes_nothing(make_daemon: MakeDaemon, text: str):
    """Whatever is wrong with the file, what was in force stays, the log says why, and a right one takes hold after it."""
    daemon = make_daemon(config=FAST + CAT).start()
    with daemon.connect() as wire:
        reload(daemon, text)
        daemon.wait_logged("configuration refused: what was in force stays")
        assert perform(wire, agent="cat", input="x")["status"] == "succeeded"
        reload(daemon, f"{FAST}\n[server]\nmax_connections = 50\n")
        wait_until(lambda: read_limit(wire) == 50)


def test_a_file_that_is_gone_changes_nothing(make_daemon: MakeDaemon):
    """A file that is not there any more is a wrong one: nobody loses their agents by a slip of the hand."""
    daemon = make_daemon(config=FAST + CAT).start()
    daemon.config.unlink()
    daemon.signal(signal.SIGHUP)
    daemon.wait_logged("configuration refused: what was in force stays")
    with daemon.connect() as wire:
        assert perform(wire, agent="cat", input="x")["status"] == "succeeded"


def test_a_file_that_comes_later_is_found(make_daemon: MakeDaemon, tmp_path: Path):
    """A daemon that found no settings when it was started finds those that are at the usual place when it is told to look."""
    daemon = make_daemon()
    daemon.environment["XDG_CONFIG_HOME"] = str(tmp_path)
    daemon.full_command = [word for word in daemon.command if word not in {"--config", str(daemon.config)}]
    daemon.start()
    with daemon.connect() as wire:
        assert read_limit(wire) == 4096
        (tmp_path / "outlived").mkdir()
        (tmp_path / "outlived/outlived.toml").write_text(CAT)
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: "cat" in [agent["name"] for agent in wire.call("server/info")["agents"]])


def test_what_needs_a_restart_is_named(make_daemon: MakeDaemon):
    """The lease, the database and the socket are those of the start; the log names what was changed in vain."""
    daemon = make_daemon().start()
    reload(
        daemon,
        FAST.replace("lease_seconds = 6", "lease_seconds = 8")
        + '[server]\nsocket_mode = "660"\nmax_connections = 50\n',
    )
    daemon.wait_logged('"needs_restart":["server.socket_mode","owner.lease_seconds"]')
    with daemon.connect() as wire:
        assert read_limit(wire) == 50
    assert daemon.socket.stat().st_mode & 0o777 == 0o600


def test_many_signals_are_one_reload(make_daemon: MakeDaemon):
    """Signals that come faster than they can be followed cost nothing but the last one's reading, and no run."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = start_endless(wire)
        daemon.config.write_text(f"{FAST}\n[server]\nmax_connections = 50\n")
        for _ in range(200):
            daemon.signal(signal.SIGHUP)
        wait_until(lambda: read_limit(wire) == 50)
        assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "running"
        stop(wire, run["id"])
    assert daemon.stop() == 0
