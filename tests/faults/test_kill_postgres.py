"""kill -9 of Postgres under load, with two daemons that did not start it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.effort import Effort
from tests.support.postgres import Postgres
from tests.support.scene import Scene


@pytest.fixture
def mortal(short_dir: Path) -> Iterator[Postgres]:
    """A server of this test's own."""
    server = Postgres(short_dir / "mortal")
    yield server
    server.close()


def test_a_killed_postgres_loses_nothing(
    mortal: Postgres, make_scene: Callable[[str], Scene], effort: Effort
):
    """The daemons stay, and stay who they are or begin anew; what was acknowledged is there, work goes on."""
    scene = make_scene(mortal.create_database())
    chance = scene.chance
    daemons = scene.add_daemons(2)
    with scene.open_load(10) as load:
        for _ in range(effort.choose(3, 200)):
            load.wait_more(chance.randint(1, 15))
            mortal.kill()
            scene.figures.add("postgres_kills")
        load.wait_more(10)
    assert [daemon.process.poll() for daemon in daemons] == [None, None]
    scene.conclude()
    assert [daemon.stop() for daemon in daemons] == [0, 0]
