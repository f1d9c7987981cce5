"""``server/info``: who answers, what it allows, which agents it has, and who it thinks is asking."""

import os
import pwd
import socket

from outlived.cgroups import find_cgroups
from outlived.containment import Containment
from tests.support.daemon import Daemon
from tests.support.runs import TIME, UUID7, start
from tests.support.wire import Wire


def test_info_tells_who_answers(shared_daemon: Daemon, wire: Wire):
    """Name, protocol, process, host and state are those of the daemon that was started."""
    info = wire.call("server/info")
    assert shared_daemon.process is not None
    assert (info["name"], info["protocol"], info["state"]) == ("outlived", 1, "serving")
    assert (info["pid"], info["host"]) == (shared_daemon.process.pid, socket.gethostname())
    assert UUID7.fullmatch(info["instance_id"])
    assert TIME.fullmatch(info["started_at"])
    assert isinstance(info["version"], str)
    assert isinstance(info["limits"], dict)
    assert info["workspaces"] is None


def test_info_names_the_agents(wire: Wire):
    """Every agent that may be named is listed with kind and description, the built-in one too."""
    agents = {agent["name"]: agent for agent in wire.call("server/info")["agents"]}
    assert agents.keys() == {"demo", "shout", "placed", "no-program", "no-module"}
    assert all(agent.keys() >= {"name", "kind", "description"} for agent in agents.values())
    assert (agents["shout"]["kind"], agents["shout"]["description"]) == ("command", "Says it louder")
    assert agents["no-module"]["kind"] == "python"


def test_info_says_what_holds_runs(wire: Wire):
    """What finds a run's processes, and what holds its limits here, is said as it is."""
    said = wire.call("server/info")["containment"]
    found = find_cgroups()
    here = Containment(found)
    assert said == {
        "cgroups": found is not None,
        "controllers": here.controllers,
        "kill": here.kill,
        "memory": here.memory,
        "pids": here.pids,
    }


def test_info_knows_its_peer(wire: Wire):
    """The peer is the user of the process at the other end, as the kernel says."""
    user = pwd.getpwuid(os.getuid()).pw_name
    assert wire.call("server/info")["peer"] == {"uid": os.getuid(), "gid": os.getgid(), "user": user}


def test_the_instance_owns_its_runs(wire: Wire):
    """instance_id is what runs of this daemon name as their owner."""
    assert start(wire)["owner"] == wire.call("server/info")["instance_id"]


def test_the_server_speaks_only_when_spoken_to(wire: Wire):
    """There is no greeting: the first line of a connection answers its first request."""
    request_id = wire.send("server/info")
    assert wire.read()["id"] == request_id
    wire.assert_silent()


def test_info_takes_no_parameters(wire: Wire):
    """Absent and empty params are the same; any field is unknown."""
    wire.send_raw(b'{"jsonrpc":"2.0","id":"absent","method":"server/info"}\n')
    assert wire.wait_reply("absent")["name"] == "outlived"
    assert wire.refuse("server/info", verbose=True).data["path"] == "$.verbose"
