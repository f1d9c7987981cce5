"""kill -9 of daemons under load: nothing that was acknowledged is lost, nothing happens twice, work goes on."""

import os
import subprocess

import pytest

from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.load import Habits
from tests.support.scene import SOON, Scene, read_instance
from tests.support.waits import wait_until

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
    with scene.open_load(50) as load:
        while kills > 0:
            load.wait_more(chance.randint(1, 20))
            for victim in chance.sample(daemons, min(kills, chance.choice([1, 1, 2]))):
                kill_and_restart(victim)
                scene.figures.add("daemon_kills")
                kills -= 1
        for daemon in daemons:
            daemon.wait_ready()
        load.wait_more(20)
    scene.conclude()


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
    with scene.open_load(12, habits=Habits(commands=0.4)) as load:
        for _ in range(effort.choose(2, 60)):
            load.wait_more(chance.randint(5, 20))
            victim = chance.choice(daemons)
            owner = read_instance(victim)
            victim.kill()
            wait_until(lambda owner=owner: scene.read_owner(owner).replaced, SOON, "it is replaced")
            assert scene.read_owner(owner).dead == "its lease ran out"
            victim.start()
            scene.figures.add("daemon_kills")
        load.wait_more(5)
    scene.conclude()
