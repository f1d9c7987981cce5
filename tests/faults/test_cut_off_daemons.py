"""Between a daemon and its database nothing passes, for a third, two thirds and four thirds of its lease."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.effort import Effort
from tests.support.gate import Gate
from tests.support.processes import find_run_processes
from tests.support.runs import settle, start_endless, start_shell, wait_text
from tests.support.scene import LEASE, SOON, OwnerState, Scene
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire

TICKS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
END = {"a blackhole": Gate.block, "a cut": Gate.refuse}


@pytest.fixture
def gate(scene: Scene, short_dir: Path) -> Iterator[Gate]:
    """One daemon's way to the database."""
    with Gate(scene.database, short_dir / f"gate{len(list(short_dir.iterdir()))}") as gate:
        yield gate


@pytest.mark.parametrize("way", END)
def test_a_heartbeat_that_fails(scene: Scene, gate: Gate, way: str, effort: Effort):
    """For a third of the lease: nothing happens. Two thirds: it gives its runs up itself. Four: somebody else ends them,
    and its own processes were gone before. Each time it serves again, and nothing is written for the dead.
    """
    cut_off = scene.add_daemon(database=gate.dsn).start()
    scene.add_daemons(1)
    told: set[str] = set()
    for _ in range(effort.choose(1, 10)):
        for last in (endure_a_third, endure_two_thirds, endure_four_thirds):
            with cut_off.connect() as wire:
                runs = [start_endless(wire), start_shell(wire, TICKS)]
                wait_text(wire, runs[1]["id"], "1\n")
                told |= {run["id"] for run in runs}
                last(Outage(scene, gate, END[way], wire, runs))
            scene.figures.add("cuts")
    assert cut_off.process is not None
    assert cut_off.process.poll() is None
    scene.conclude(acknowledged=told)


class Outage:
    """A daemon with two runs, whose way to the database ends now."""

    def __init__(
        self, scene: Scene, gate: Gate, end: Callable[[Gate], None], wire: Wire, runs: list[Json]
    ) -> None:
        self.gate, self.wire, self.runs = gate, wire, runs
        self._scene = scene
        self.owner = wire.call("server/info")["instance_id"]
        self.ids = {run["id"] for run in runs}
        end(gate)

    def read_owner(self) -> OwnerState:
        return self._scene.read_owner(self.owner)

    def wait_lease(self, share: float) -> None:
        """Wait until so much of the lease is over, by the database's clock."""
        left = LEASE * (1 - share)
        wait_until(lambda: self.read_owner().left < left, LEASE * 2, "the lease runs")

    def wait_processes_gone(self) -> None:
        wait_until(lambda: not find_run_processes(self.ids), SOON, "the processes are gone")

    def mend(self) -> None:
        """The way is open; wait until the daemon is back, and has renewed its lease with a beat begun since."""
        self.gate.mend()
        wait_until(lambda: self.wire.call("server/info")["state"] == "serving")
        for _ in range(2):  # the first renewal may have been on its way all the time
            until = self._read_lease()
            wait_until(lambda until=until: self._read_lease() != until, SOON, "the lease is renewed")

    def _read_lease(self) -> float:
        """When the lease of whoever the daemon is now ends; comparable, no more."""
        me = self.wire.call("server/info")["instance_id"]
        return self._scene.read_owner(me).until

    def read_runs(self) -> list[Json]:
        return [self.wire.call("run/get", run_id=run["id"])["run"] for run in self.runs]


def endure_a_third(outage: Outage) -> None:
    """The runs go on, of the same owner, and are stopped by their client."""
    outage.wait_lease(1 / 3)
    outage.mend()
    assert [(run["status"], run["owner"]) for run in outage.read_runs()] == [("running", outage.owner)] * 2
    for run_id in outage.ids:
        stopped = outage.wire.call("run/stop", run_id=run_id, wait_seconds=10)
        assert stopped["outcome"] == "stopped"


def endure_two_thirds(outage: Outage) -> None:
    """The owner cancels its runs before anybody else may take them, and writes their end itself."""
    outage.wait_lease(2 / 3)
    outage.wait_processes_gone()
    owner = outage.read_owner()
    assert owner.left > 0
    assert owner.dead is None
    outage.mend()
    for run_id in outage.ids:
        run = settle(outage.wire, run_id)
        assert (run["status"], run["error"]["code"]) == ("aborted", "owner_lost")
        assert (run["owner"], run["epoch"]) == (outage.owner, 1)


def endure_four_thirds(outage: Outage) -> None:
    """The processes are gone while the lease still runs; then somebody else ends the runs, and nobody twice."""
    outage.wait_processes_gone()
    assert outage.read_owner().left > 0
    wait_until(lambda: outage.read_owner().dead, SOON, "the owner is declared dead")
    outage.wait_lease(4 / 3)
    outage.mend()
    for run_id in outage.ids:
        run = settle(outage.wire, run_id)
        assert (run["status"], run["error"]["code"]) == ("aborted", "owner_lost")
        assert run["owner"] != outage.owner
        assert run["epoch"] == 2
    wait_until(lambda: outage.wire.call("server/info")["instance_id"] != outage.owner, SOON)
