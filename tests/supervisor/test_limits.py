"""Limits of time: whatever kind of agent a run has, it ends in time, says which limit it was, and nobody else notices."""

import attrs
import pytest
import trio

from outlived.agents import Assignment
from outlived.agents.command import CommandAgent
from outlived.rules.limits import NO_LIMITS, Limits
from outlived.settings import AgentSettings, RunSettings, Settings
from outlived.store.owners import StopMark
from outlived.supervisor.desk import RunDesk
from outlived.supervisor.limits import read_limits, set_limits, within_limits
from outlived.supervisor.pulse import Pulse
from outlived.supervisor.registry import Active, Cause
from outlived.supervisor.stop import apply_stop
from tests.support.history import assert_history
from tests.support.house import FAST, open_house
from tests.support.locks import wait_for

MARK = StopMark("2020-01-01T00:00:00.000000Z", "enough", "uid:7")


def limited(**run):
    return attrs.evolve(FAST, run=attrs.evolve(FAST.run, **run))


async def wait_for_ever(desk):
    await desk.emit_text("ready")
    await trio.sleep_forever()


# ---------------------------------------------------------------- which


@pytest.mark.parametrize(
    ("agent", "wanted"),
    [
        ("bare", Limits(3600, 60)),
        ("own", Limits(10, 60, 512 << 20, 100)),
        ("free", NO_LIMITS),
        (None, Limits(3600, 60)),
        ("demo", Limits(3600, 60)),
    ],
)
def test_an_agents_own_limits_come_first(agent, wanted):
    """An agent has its own limits, else those of every run; 0 is none; an ad-hoc command has those of every run."""
    agents = {
        "bare": AgentSettings("command"),
        "own": AgentSettings("command", wall_seconds=10, max_memory="512M", max_pids=100),
        "free": AgentSettings("command", wall_seconds=0, idle_seconds=0),
    }
    settings = Settings(run=RunSettings(wall_seconds=3600, idle_seconds=60), agents=agents)
    assert read_limits(settings, agent) == wanted


@pytest.mark.parametrize("agent", ["demo", None, "a"])
def test_nothing_is_limited_by_default(agent):
    """Without a word in the configuration there is no limit of any kind."""
    settings = Settings(agents={"a": AgentSettings("command")})
    assert read_limits(settings, agent) == NO_LIMITS


# ---------------------------------------------------------------- wall


async def test_a_run_that_takes_too_long_has_failed(shared_database):
    """However busy it is, a run ends after its wall_seconds: failed, with what it had said, and which limit it was."""

    async def talk(desk):
        while True:
            await desk.emit_text("x")
            await trio.sleep(0.01)

    async with open_house(
        shared_database, agents={"talk": talk}, settings=limited(wall_seconds=0.2, idle_seconds=10)
    ) as house:
        run = await house.perform("talk")
        message = await house.read_message(run.id)
    assert run.status == "failed"
    assert run.error == {
        "code": "limit",
        "message": "the run took longer than 0.2 s",
        "limit": "wall_seconds",
    }
    assert (message.status, set(message.content)) == ("failed", {"x"})
    assert_history(shared_database, settled=True)


async def test_what_an_attempt_took_elsewhere_counts(shared_database):
    """A run that was taken up from another daemon has what is left of its time."""
    async with open_house(shared_database, settings=limited(wall_seconds=3600)) as house:
        active = Active("run")
        set_limits(house.supervisor, active, "demo", elapsed_seconds=3599.9)
        with trio.fail_after(10), active.scope, within_limits(house.supervisor, active):
            await trio.sleep_forever()
        assert active.cause is Cause.LIMIT


async def test_a_command_that_takes_too_long_goes_up_the_ladder(shared_database):
    """A program at its limit hears SIGTERM, may say something, and is killed after its grace."""
    polite = CommandAgent(
        ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"]
    )
    async with open_house(
        shared_database, agents={"polite": polite}, settings=limited(wall_seconds=0.5)
    ) as house:
        run = await house.perform("polite")
        message = await house.read_message(run.id)
    assert (run.status, run.error["limit"]) == ("failed", "wall_seconds")
    assert message.content == "ready\nbye\n"


# ---------------------------------------------------------------- idle


async def test_an_agent_that_does_nothing_has_failed(shared_database):
    """An agent that is silent for idle_seconds ends its run: failed, with which limit it was."""
    async with open_house(
        shared_database, agents={"idle": wait_for_ever}, settings=limited(idle_seconds=0.1)
    ) as house:
        run = await house.perform("idle")
    assert run.error == {
        "code": "limit",
        "message": "the agent did nothing for 0.1 s",
        "limit": "idle_seconds",
    }


class Stuck:
    """A journal without room."""

    def __init__(self):
        self.room = trio.Event()
        self.degraded = False

    async def append(self, run_id, entry, *, wait=False):
        await self.room.wait()

    async def relay(self, run_id, entries, position):
        await self.room.wait()


DOINGS = {
    "text": lambda desk: desk.emit_text("x"),
    "reasoning": lambda desk: desk.emit_reasoning("x"),
    "log": lambda desk: desk.log("stderr", "x"),
    "data": lambda desk: desk.data("name", 1),
    "a tool call": lambda desk: desk.tool_call("1", "name", {}),
    "a tool result": lambda desk: desk.tool_result("1", {}),
    "usage": lambda desk: desk.usage(input_tokens=1),
    "a step": lambda desk: desk.step("name", trio.lowlevel.checkpoint),
}


@pytest.mark.parametrize("do", DOINGS.values(), ids=DOINGS.keys())
async def test_whatever_an_agent_does_at_its_desk_is_no_idleness(autojump_clock, do):
    """Doing something, of whatever kind, ends the silence."""
    journal = Stuck()
    journal.room.set()
    active = Active("run", pulse=Pulse(journal))
    desk = RunDesk(Assignment("run", "default", "chat", 1, "", {}), journal, active, 5.0, workshop=None)
    await trio.sleep(100)
    assert active.pulse.silent_seconds == 100
    await do(desk)
    assert active.pulse.silent_seconds == 0


async def test_what_happens_inside_a_step_counts(shared_database):
    """A step that takes long is not doing something; only its beginning and its end are."""

    async def work(desk):
        await desk.step("long", trio.sleep_forever)

    async with open_house(
        shared_database, agents={"work": work}, settings=limited(idle_seconds=0.1)
    ) as house:
        run = await house.perform("work")
    assert run.error["limit"] == "idle_seconds"


async def test_an_agent_that_is_held_up_is_not_idle(autojump_clock):
    """As long as the journal has no room for what an agent does, and right after, it is not idle."""
    journal = Stuck()
    pulse = Pulse(journal)
    await trio.sleep(3)
    assert pulse.silent_seconds == 3
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.append, "run", None)
        nursery.start_soon(pulse.relay, "run", [], None)
        await trio.sleep(100)
        assert pulse.silent_seconds == 0
        journal.room.set()
    assert pulse.silent_seconds == 0
    await trio.sleep(5)
    assert pulse.silent_seconds == 5


async def test_nobody_is_idle_while_the_database_is_away(autojump_clock):
    """Silence while nothing can be written is nobody's fault."""
    journal = Stuck()
    pulse = Pulse(journal)
    journal.degraded = True
    await trio.sleep(100)
    assert pulse.silent_seconds == 0


# ---------------------------------------------------------------- who was first


async def test_a_stop_that_came_first_counts(shared_database):
    """A run that was stopped, and reaches its limit while it ends, was stopped."""
    go = trio.Event()

    async def linger(desk):
        await desk.emit_text("ready")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await go.wait()

    async with open_house(
        shared_database, agents={"linger": linger}, settings=limited(wall_seconds=0.5)
    ) as house:
        run = await house.start("linger")
        await house.wait_logged(run.id, "text.delta")
        apply_stop(house.supervisor, run.id, MARK)
        active = house.registry.find(run.id)
        await wait_for(lambda: active.limit is not None, "the limit is reached")
        go.set()
        run = await house.wait_settled(run.id)
    assert (run.status, run.error, run.stop_reason) == ("aborted", None, "enough")
    assert_history(shared_database, settled=True)


async def test_a_stop_that_came_later_does_not(shared_database):
    """A run that reached its limit, and is stopped while it ends, reached its limit; the stop is in its row."""
    go = trio.Event()

    async def linger(desk):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await go.wait()

    async with open_house(
        shared_database, agents={"linger": linger}, settings=limited(wall_seconds=0.1)
    ) as house:
        run = await house.start("linger")
        active = house.registry.find(run.id)
        await wait_for(lambda: active.limit is not None, "the limit is reached")
        apply_stop(house.supervisor, run.id, MARK)
        go.set()
        run = await house.wait_settled(run.id)
    assert (run.status, run.error["limit"], run.stop_reason) == ("failed", "wall_seconds", "enough")
    assert_history(shared_database, settled=True)


async def test_an_agent_that_ends_by_itself_reached_nothing(shared_database):
    """A run that is done before its limit succeeded, and nothing of its watch is left."""
    async with open_house(shared_database, settings=limited(wall_seconds=3600, idle_seconds=3600)) as house:
        run = await house.perform("demo", input="a b", metadata={"demo": {"delay_ms": 0}})
        await wait_for(lambda: not house.supervisor.nursery.child_tasks, "its tasks are gone")
    assert (run.status, run.error) == ("succeeded", None)


async def test_a_run_without_limits_has_no_watch(shared_database):
    """Nothing runs beside a run that has no limits, and its desk leads straight to the journal."""
    async with open_house(shared_database, agents={"wait": wait_for_ever}) as house:
        run = await house.start("wait")
        await house.wait_logged(run.id, "text.delta")
        assert len(house.supervisor.nursery.child_tasks) == 1
        assert house.registry.find(run.id).pulse is None


async def test_a_limit_is_no_reason_to_go_on_as_the_next_attempt(shared_database):
    """A run that may be resumed and reached its limit has failed for good."""
    async with open_house(
        shared_database, agents={"wait": wait_for_ever}, settings=limited(wall_seconds=0.1)
    ) as house:
        run = await house.perform("wait", on_owner_loss="resume")
    assert (run.status, run.attempt, run.error["code"]) == ("failed", 1, "limit")
