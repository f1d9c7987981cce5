"""A daemon is killed in the middle of its Nth call of the database, for every N of a scenario, before and after it
happens. Whatever it was doing, its sibling finds a history that is whole, and the caller's second try finds its run.

A scenario more is an entry of ``SCENARIOS``: what happens before the daemon comes, and what is asked of it then.
"""

import itertools
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import attrs
import pytest

from outlived.store.history import Allowance
from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.gate import Gate, Moment
from tests.support.history import check_history, list_unsettled
from tests.support.processes import find_run_processes
from tests.support.runs import ENDLESS, read_text, settle, start_endless, start_shell, wait_text
from tests.support.scene import ADOPT, BRISK, SOON, SWEEP, Scene
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire, WireError

AGENTS = """
[agents.outspoken]
kind = "python"
target = "outspoken:speak"
[agents.walk]
kind = "python"
target = "stepwise:walk"
"""
SLOW_BEAT = "[owner]\nlease_seconds = 60\nheartbeat_seconds = 30\n[sweep]\ninterval_seconds = 3600\n"
ENDS = "[run]\ngrace_seconds = 1\ndrain_seconds = 0\nadopt_seconds = 0\n"
QUIET = SLOW_BEAT + ENDS + AGENTS
"""The daemon that is killed does what it is asked and little else: its calls are nearly the same each time."""
LIVELY = BRISK.replace(f"adopt_seconds = {ADOPT}", "adopt_seconds = 0") + AGENTS
"""It leaves no command to a dead daemon's home, whose lease would be over late."""
TICKS = "echo up; exec sleep 600"
SAYS = "echo up; for i in 1 2 3 4 5; do sleep 0.05; echo $i; done"
SAID = "up\n1\n2\n3\n4\n5\n"


@attrs.define(eq=False)
class Stage:
    """One point of a scenario. ``workspace`` is its own; ``asked``: the keyed starts, for the second try."""

    victim: Daemon
    sibling: Daemon
    donor: Daemon
    workspace: str
    notes: Path
    asked: dict[str, Json] = attrs.Factory(dict)
    acknowledged: dict[str, str] = attrs.Factory(dict)
    orphans: set[str] = attrs.Factory(set)

    def start(self, wire: Wire, chat: str, **params: object) -> str:
        """Start a keyed run; its id."""
        key = f"{self.workspace} {chat}"
        where = {"workspace": self.workspace, "chat_id": chat, "idempotency_key": key}
        work = {} if "command" in params else {"agent": "demo", "input": "one two three"}
        self.asked[key] = {"metadata": {"demo": {"delay_ms": 0}}, **work, **params, **where}
        run = wire.call("run/start", **self.asked[key])["run"]
        self.acknowledged[key] = run["id"]
        return run["id"]

    def leave_orphans(self) -> None:
        """Two runs whose daemon is dead: one that talked, one with a process."""
        self.donor.start()
        with self.donor.connect() as wire:
            runs = [
                start_endless(wire, workspace=self.workspace, chat_id="orphan"),
                start_shell(wire, TICKS, workspace=self.workspace, chat_id="orphan-program"),
            ]
            wait_text(wire, runs[1]["id"], "up\n")
        self.orphans = {run["id"] for run in runs}
        self.donor.kill()

    def leave_own_program(self) -> None:
        """A run with a process that the victim itself has left: it will adopt it."""
        self.victim.start()
        with self.victim.connect() as wire:
            run = start_shell(wire, SAYS, workspace=self.workspace, chat_id="own")
            wait_text(wire, run["id"], "up\n")
        self.orphans = {run["id"]}
        self.victim.kill()

    def check_own_program(self) -> None:
        """It was adopted, and said each line once; or its home was dead for good, and it was ended."""
        [run_id] = self.orphans
        with self.sibling.connect() as wire:
            run, message = wire.call("run/get", run_id=run_id).values()
        content = message["content"]
        assert SAID.startswith(content), content
        assert run["attempt"] == 1
        assert run["status"] == "aborted" or (run["status"], content) == ("succeeded", SAID), run

    def start_walk(self, wire: Wire) -> str:
        """An agent of four steps whose first attempt stays in the third one; its next attempt goes on there."""
        metadata = {"notes": str(self.notes), "stay": [3, 1]}
        run_id = self.start(wire, "walk", agent="walk", on_owner_loss="resume", metadata=metadata)
        wait_text(wire, run_id, "(1 by 1)(2 by 1)here")
        return run_id

    def leave_walk(self) -> None:
        """A run that may be resumed, whose daemon is dead."""
        self.donor.start()
        with self.donor.connect() as wire:
            self.orphans = {self.start_walk(wire)}
        self.donor.kill()

    def check_walk(self) -> None:
        """Whoever came to it, it has succeeded; no finished step was performed again, no attempt did a step twice."""
        [run_id] = self.acknowledged.values() or [None]
        if run_id is None:
            return  # the daemon was killed before it answered
        with self.sibling.connect() as wire:
            run = wire.call("run/get", run_id=run_id)["run"]
            events, _ = wire.tail(run_id)
        assert (run["status"], run["step_count"]) == ("succeeded", 4), run
        finished = [event["data"]["step"] for event in events if event["type"] == "step.finished"]
        assert finished == [1, 2, 3, 4]
        done = [tuple(map(int, line.split(":"))) for line in self.notes.read_text().split()]
        assert len(done) == len(set(done)), done
        assert [number for _, number in done] == sorted(number for _, number in done), done


Act = Callable[[Stage, Wire], None]


def be_started(stage: Stage, wire: Wire) -> None:
    run_id = stage.start(wire, "started")
    events, _ = wire.tail(run_id)
    assert read_text(events) == "one two three"


def run_a_program(stage: Stage, wire: Wire) -> None:
    settle(wire, stage.start(wire, "program", command=["sh", "-c", "cat; echo b; echo c >&2; exit 3"]))


def be_stopped(stage: Stage, wire: Wire) -> None:
    run_id = stage.start(wire, "stopped", metadata=ENDLESS)
    wait_text(wire, run_id, "one ")
    wire.call("run/stop", run_id=run_id, reason="enough", wait_seconds=20)


def be_stopped_from_afar(stage: Stage, wire: Wire) -> None:
    run_id = stage.start(wire, "afar", metadata=ENDLESS)
    wait_text(wire, run_id, "one ")
    with stage.sibling.connect() as there:
        there.call("run/stop", run_id=run_id, reason="enough")
    settle(wire, run_id)


def be_contended_for(stage: Stage, wire: Wire) -> None:
    run_id = stage.start(wire, "contended", metadata=ENDLESS)
    chat = {"agent": "demo", "workspace": stage.workspace, "chat_id": "contended"}
    assert wire.refuse("run/start", **chat).data["active_run_id"] == run_id
    assert wire.call("run/start", **chat, on_active="join")["run"]["id"] == run_id
    wire.call("run/stop", run_id=run_id, wait_seconds=20)
    stage.start(wire, "contended-again")


def take_steps(stage: Stage, wire: Wire) -> None:
    settle(wire, stage.start(wire, "steps", agent="outspoken"))


def sweep(stage: Stage, wire: Wire) -> None:
    for run_id in stage.orphans:
        settle(wire, run_id)


def free_a_slot(stage: Stage, wire: Wire) -> None:
    stage.leave_orphans()
    stage.start(wire, "orphan")
    settle(wire, stage.start(wire, "orphan-program"))


def drain(stage: Stage, wire: Wire) -> None:
    wait_text(wire, stage.start(wire, "talking", metadata=ENDLESS), "one ")
    wait_text(wire, stage.start(wire, "program", command=["sh", "-c", TICKS]), "up\n")
    stage.victim.signal(signal.SIGTERM)
    assert stage.victim.process is not None
    stage.victim.process.wait(30)


def resume(stage: Stage, wire: Wire) -> None:
    for run_id in stage.orphans:
        settle(wire, run_id)


def release(stage: Stage, wire: Wire) -> None:
    stage.start_walk(wire)
    stage.victim.signal(signal.SIGTERM)
    assert stage.victim.process is not None
    stage.victim.process.wait(30)


@attrs.frozen
class Scenario:
    """``before`` it comes, then ``act``, and what must be true ``after`` all; ``alone``: its sibling sleeps meanwhile."""

    act: Act
    before: Callable[[Stage], None] | None = None
    after: Callable[[Stage], None] | None = None
    alone: bool = False
    config: str = QUIET


SCENARIOS = {
    "a start": Scenario(be_started),
    "a program": Scenario(run_a_program),
    "a stop": Scenario(be_stopped),
    "a stop from afar": Scenario(be_stopped_from_afar, config=LIVELY),
    "a contended chat": Scenario(be_contended_for),
    "steps": Scenario(take_steps),
    "a sweep": Scenario(sweep, before=Stage.leave_orphans, alone=True),
    "a slot of the dead": Scenario(free_a_slot, alone=True),
    "a drain": Scenario(drain),
    "an adoption": Scenario(sweep, before=Stage.leave_own_program, after=Stage.check_own_program, alone=True),
    "a resume": Scenario(resume, before=Stage.leave_walk, after=Stage.check_walk, alone=True),
    "a release": Scenario(release, after=Stage.check_walk, alone=True),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_at_any_call_breaks_nothing(
    scene: Scene, short_dir: Path, tmp_path: Path, effort: Effort, name: str
):
    """Before and after each call of the database: what was acknowledged is there, and nothing is there twice."""
    scenario, points = SCENARIOS[name], choose_points(scene, effort, name)
    with Gate(scene.database, short_dir / f"gate-{len(list(short_dir.iterdir()))}") as gate:
        victim = scene.add_daemon(database=gate.dsn, config=scenario.config)
        sibling = scene.add_daemon(config=LIVELY).start()
        donor = scene.add_daemon(config=QUIET)
        known: set[str] = set()
        ended: set[Moment] = set()
        for number, moment in points:
            if moment in ended:
                continue
            workspace = f"{moment.name}-{number}"
            stage = Stage(victim, sibling, donor, workspace, tmp_path / workspace)
            if not perform(scenario, stage, gate, number, moment):
                ended.add(moment)
            scene.figures.add("points", int(moment not in ended))
            await_settled(scene, stage)
            if scenario.after is not None:
                scenario.after(stage)
            known |= try_again(stage)
            await_settled(scene, stage)
            judge(scene, stage)
            if len(ended) == len(Moment):
                break
    scene.conclude(acknowledged=known)


def choose_points(scene: Scene, effort: Effort, name: str) -> Iterator[tuple[int, Moment]]:
    """Every point there is, until the scenario ends unharmed. In a usual session: of the first scenario every call at
    one of its moments, of the others a few.
    """
    if effort.seed is not None:
        yield from ((number, moment) for number in range(1, 500) for moment in Moment)
    elif name == next(iter(SCENARIOS)):
        yield from zip(range(1, 500), itertools.cycle(Moment), strict=False)
    else:
        chance = random.Random(f"{scene.seed} {name}")
        yield from ((chance.randint(6, 20), moment) for moment in Moment)


def perform(scenario: Scenario, stage: Stage, gate: Gate, number: int, moment: Moment) -> bool:
    """Play the scenario with a kill at that call; False: the scenario ended before it came to that."""
    victim = stage.victim
    with sleeping(stage.sibling) if scenario.alone else nullcontext():
        if scenario.before is not None:
            scenario.before(stage)
        gate.arm(number, moment, victim.kill)
        victim.start(wait=False)
        assert victim.process is not None
        with suppress(OSError, EOFError):
            wait_until(lambda: is_up(victim), 30, "it answers, or is killed")
            with victim.connect() as wire:
                scenario.act(stage, wire)
        killed = gate.disarm()
        if killed:
            victim.process.wait(30)
            ended_first = 0  # it hung up on its last call and was gone before anybody could kill it
            assert victim.process.returncode in {-signal.SIGKILL, ended_first}
        else:
            assert victim.stop() == 0
        return killed


def is_up(daemon: Daemon) -> bool:
    """Whether it answers. Raises EOFError when it has ended."""
    assert daemon.process is not None
    if daemon.process.poll() is not None:
        raise EOFError(f"it ended: {daemon.process.returncode}")
    try:
        with daemon.connect() as wire:
            return wire.call("server/info")["name"] == "outlived"
    except (OSError, EOFError):
        return False


@contextmanager
def sleeping(daemon: Daemon) -> Iterator[None]:
    """It does nothing meanwhile; its lease would outlast that."""
    daemon.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.signal(signal.SIGCONT)


def try_again(stage: Stage) -> set[str]:
    """Every start once more, through the sibling: one run for one key, that of the reply if there was one."""
    known = set(stage.acknowledged.values()) | stage.orphans
    with stage.sibling.connect() as wire:
        for key, params in stage.asked.items():
            run = insist(wire, params)
            assert stage.acknowledged.get(key, run["id"]) == run["id"]
            known.add(run["id"])
            if run["status"] in {"pending", "running"}:
                wire.call("run/stop", run_id=run["id"], wait_seconds=20)
    return known


def insist(wire: Wire, params: Json) -> Json:
    """Start it, however often that is refused for a moment: a sibling that slept for long registers anew."""

    def ask() -> Json | None:
        try:
            run: Json = wire.call("run/start", **params)["run"]
        except WireError as error:
            if not error.data["retryable"]:
                raise
            return None
        return run

    return wait_until(ask, SOON, "the start is answered")


def await_settled(scene: Scene, stage: Stage) -> None:
    """Whatever is under way ends in time, by itself: nobody asks for it."""
    wait_until(lambda: not list_unsettled(scene.database), SOON, f"{stage.workspace}: every run is settled")


def judge(scene: Scene, stage: Stage) -> None:
    """Nothing of it is left, and the history of this point is whole."""
    assert not find_run_processes(set(stage.acknowledged.values()) | stage.orphans), stage.workspace
    wrong = check_history(scene.database, workspace=stage.workspace, allowance=Allowance(SWEEP))
    assert not wrong, "\n".join(wrong)
