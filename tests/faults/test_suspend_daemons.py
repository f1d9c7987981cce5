"""SIGSTOP for longer than the lease, then SIGCONT: the old owner writes nothing more, and its processes are gone."""

import signal

import psycopg

from tests.support.audit import count_stale_writes
from tests.support.effort import Effort
from tests.support.load import Habits
from tests.support.processes import find_run_processes
from tests.support.scene import LEASE, SOON, Scene, read_instance
from tests.support.waits import wait_until


def list_lost(database: str, owner: str) -> set[str]:
    """The runs that owner began and somebody else ended."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT r.id::text FROM outlived.runs r JOIN outlived.events e ON e.run_id = r.id AND e.seq = 1"
            " WHERE e.data::jsonb ->> 'owner' = %s AND r.owner <> %s",
            [owner, owner],
        )
        return {run_id for (run_id,) in rows}


def test_a_suspended_daemon_writes_nothing_more(scene: Scene, effort: Effort):
    """Pause after pause under load: every stale write is refused, the old process trees are gone, both serve again."""
    chance = scene.chance
    daemons = scene.add_daemons(2)
    with scene.open_load(8, habits=Habits(commands=0.5), timeout=LEASE + 1) as load:
        for _ in range(effort.choose(2, 100)):
            load.wait_more(chance.randint(1, 10))
            paused = chance.choice(daemons)
            owner = read_instance(paused)
            paused.signal(signal.SIGSTOP)
            try:
                wait_until(lambda owner=owner: scene.read_owner(owner).replaced, SOON, "it is replaced")
            finally:
                paused.signal(signal.SIGCONT)
            lost = list_lost(scene.database, owner)
            wait_until(lambda lost=lost: not find_run_processes(lost), 1.0, "its processes are gone")
            wait_until(lambda owner=owner, paused=paused: read_instance(paused) != owner)
            scene.figures.add("pauses")
        load.wait_more(5)
    assert count_stale_writes(scene.database) == 0
    scene.conclude()
