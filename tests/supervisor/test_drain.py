"""The end of the daemon, as far as runs go: wait a little, end the rest, name what is left."""

import attrs
import pytest
import structlog
import trio

from outlive import errors
from outlived.agents.command import CommandAgent
from outlived.settings import RunSettings
from outlived.supervisor import drain as room
from outlived.supervisor.drain import drain
from outlived.supervisor.registry import Cause
from outlived.supervisor.stop import stop
from tests.support.history import assert_history
from tests.support.house import DEADLINE, FAST, open_house

PATIENT = attrs.evolve(FAST, run=RunSettings(grace_seconds=1000, drain_seconds=1000))
QUICK = attrs.evolve(FAST, run=RunSettings(grace_seconds=1000, drain_seconds=0))
DEAF = CommandAgent(["sh", "-c", "trap 'echo no' TERM; echo ready; while :; do sleep 0.02; done"])


async def sleep_for_ever(desk):
    await desk.emit_text("ready")
    await trio.sleep_forever()


async def start(house, agent):
    run = await house.start(agent)
    await house.wait_logged(run.id, "text.delta")
    return run


async def end(house, hurry=None):
    with trio.fail_after(DEADLINE):
        return await drain(house.supervisor, trio.Event() if hurry is None else hurry)


async def test_with_nothing_to_do_it_is_done_at_once(shared_database):
    """A daemon without runs does not wait for anybody."""
    async with open_house(shared_database, settings=PATIENT) as house:
        assert await end(house)


async def test_from_the_first_moment_nothing_is_started(shared_database):
    """A start during the drain is refused as such, and can be retried elsewhere."""
    async with open_house(shared_database, settings=PATIENT, agents={"sleep": sleep_for_ever}) as house:
        run = await start(house, "sleep")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, house.supervisor, trio.Event())
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(errors.Draining):
                await house.start("demo")
            await stop(house.supervisor, run.id, reason=None, by="me", wait_seconds=0)


async def test_a_start_that_was_on_its_way_is_ended_before_it_begins(shared_database):
    """A run whose start was accepted just before the drain exists, is told why it ended, and never started."""
    performed = []

    async def act(_desk):
        performed.append(True)

    async with open_house(shared_database, settings=QUICK, agents={"act": act}) as house:
        start_run = house.supervisor.journal.start

        async def drain_and_start(spec, on_commit):
            house.supervisor.draining.set()
            return await start_run(spec, on_commit)

        house.supervisor.journal.start = drain_and_start
        run = await house.start("act")
        assert await end(house)
        run = await house.read_run(run.id)
    assert (run.status, run.error["code"], run.started_at) == ("aborted", "shutdown", None)
    assert performed == []
    assert_history(shared_database, acknowledged={run.id}, settled=True)


async def test_runs_that_end_in_time_end_by_themselves(shared_database):
    """Within the drain's time a run is left alone, and the drain ends with the last of them."""
    go = trio.Event()

    async def wait(desk):
        await desk.emit_text("ready")
        await go.wait()

    async with open_house(shared_database, settings=PATIENT, agents={"wait": wait}) as house:
        run = await start(house, "wait")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, house)
            await trio.testing.wait_all_tasks_blocked()
            assert not house.registry.find(run.id).scope.cancel_called
            go.set()
        assert (await house.read_run(run.id)).status == "succeeded"


async def test_the_rest_is_shut_down(shared_database):
    """Runs that do not end in time are cancelled, and aborted with that reason; what was said is kept."""
    program = CommandAgent(
        ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done"]
    )
    async with open_house(
        shared_database, settings=QUICK, agents={"sleep": sleep_for_ever, "program": program}
    ) as house:
        runs = [await start(house, name) for name in ("sleep", "program", "sleep")]
        assert await end(house)
        found = [await house.read_run(run.id) for run in runs]
        assert [(run.status, run.error["code"]) for run in found] == [("aborted", "shutdown")] * 3
        assert (await house.read_message(runs[1].id)).content == "ready\nbye\n"
        assert all(run.stop_requested_at is None for run in found)
    assert_history(shared_database, settled=True)


async def test_who_was_stopped_before_was_stopped(shared_database):
    """A run that somebody had stopped is not shut down: the first reason stays."""
    async with open_house(shared_database, settings=QUICK, agents={"deaf": DEAF}) as house:
        run = await start(house, "deaf")
        await stop(house.supervisor, run.id, reason="mine", by="me", wait_seconds=0)
        hurry = trio.Event()
        hurry.set()
        assert await end(house, hurry)
        run = await house.read_run(run.id)
        assert (run.status, run.error, run.stop_reason) == ("aborted", None, "mine")


@pytest.mark.parametrize("settings", [PATIENT, QUICK], ids=["while waiting", "while in its grace"])
async def test_told_twice_it_waits_for_nothing(shared_database, settings):
    """A second request ends the waiting and every grace: programs are killed, runs are aborted as forced."""
    async with open_house(shared_database, settings=settings, agents={"deaf": DEAF}) as house:
        run = await start(house, "deaf")
        hurry = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, house, hurry)
            if settings is QUICK:
                while "no" not in (await house.read_message(run.id)).content:
                    await trio.sleep(0.005)
            else:
                await trio.testing.wait_all_tasks_blocked()
            hurry.set()
        run = await house.read_run(run.id)
        assert (run.status, run.error["code"]) == ("aborted", "forced")
    assert_history(shared_database, settled=True)


async def test_what_cannot_be_settled_is_left_and_named(shared_database, proxy, monkeypatch):
    """Without a database the settlements have a deadline; the runs stay active, the log names them, it was not clean."""
    monkeypatch.setattr(room, "SETTLE_SECONDS", 0.1)
    async with open_house(
        shared_database, through=proxy.dsn, settings=QUICK, agents={"sleep": sleep_for_ever}
    ) as house:
        run = await start(house, "sleep")
        proxy.leave()
        with structlog.testing.capture_logs() as logs:
            assert not await end(house)
        assert [line["run_id"] for line in logs if "left unsettled" in line["event"]] == [run.id]
        assert (await house.read_run(run.id)).status == "running"
        proxy.come_back()
        assert (await house.wait_settled(run.id)).error["code"] == "shutdown"


async def test_an_agent_that_does_not_end_is_left_and_named(shared_database, monkeypatch):
    """An agent that ignores its cancel holds the daemon up for a bounded time only."""
    monkeypatch.setattr(room, "KILL_SECONDS", 0.05)
    monkeypatch.setattr(room, "SETTLE_SECONDS", 0.05)
    go = trio.Event()

    async def ignore(desk):
        await desk.emit_text("ready")
        with trio.CancelScope(shield=True):
            await go.wait()

    settings = attrs.evolve(FAST, run=RunSettings(grace_seconds=0, drain_seconds=0))
    async with open_house(shared_database, settings=settings, agents={"ignore": ignore}) as house:
        run = await start(house, "ignore")
        assert not await end(house)
        assert house.registry.find(run.id).cause is Cause.SHUTDOWN
        go.set()
