"""kill -9 of daemons under load: nothing that was acknowledged is lost, nothing happens twice, work goes on."""

import os
import subprocess

import pytest

from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.load import Habits, Load
from tests.support.scene import Scene

APART = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
"""A pid namespace of its own, which ends with this command."""


def can_live_apart() -> bool:
    """Whether a process may be given a pid namespace here; root may."""
    return (
        os.geteuid() == 0
        and subprocess.run([*APART, "true"], capture_output=True, check=False).returncode == 0
    )


def kill_and_restart(daemon: Daemon) -> None:
    """kill -9, and the next one in the same home at once."""
    daemon.kill()
    daemon.start(wait=False)


def test_killed_daemons_lose_nothing(scene: Scene, effort: Effort):
    """Three daemons, 50 chats, kill after kill, often two at once: every promise holds at every instant."""
    chance, kills = scene.chance, effort.choose(6, 1000)
    daemons = scene.add_daemons(3)
    with Load(daemons, chats=50, seed=scene.seed) as load:
        while kills > 0:
            load.wait_more(chance.randint(1, 20))
            for victim in chance.sample(daemons, min(kills, chance.choice([1, 1, 2]))):
                kill_and_restart(victim)
                scene.figures.add("daemon_kills")
                kills -= 1
        for daemon in daemons:
            daemon.wait_ready()
        load.wait_more(20)
    scene.conclude(load)


@pytest.mark.skipif(not can_live_apart(), reason="only root can start a daemon in another pid namespace")
def test_killed_daemons_apart_lose_nothing(scene: Scene, effort: Effort):
    """Daemons in different pid namespaces cannot prove each other's death: the lease decides, and all holds too."""
    chance = scene.chance
    daemons = [scene.add_daemon() for _ in range(3)]
    for daemon in daemons:
        daemon.before = APART
        daemon.start(wait=False)
    for daemon in daemons:
        daemon.wait_ready()
    with Load(daemons, chats=12, seed=scene.seed, habits=Habits(commands=0.4)) as load:
        for _ in range(effort.choose(2, 60)):
            load.wait_more(chance.randint(5, 20))
            kill_and_restart(chance.choice(daemons))
            scene.figures.add("daemon_kills")
        for daemon in daemons:
            daemon.wait_ready()
        load.wait_more(5)
    scene.conclude(load)
    reasons = " ".join(daemon.read_log() for daemon in daemons)
    assert "its lease ran out" in reasons
