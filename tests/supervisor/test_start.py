"""A start in a chat that somebody has: by whom, and whether that one lives."""

from functools import partial

import pytest
import trio

from outlive import errors
from outlived.supervisor import start as room
from outlived.supervisor import takeover
from outlived.supervisor.takeover import take_over
from tests.support.history import assert_history
from tests.support.house import DEADLINE, leave_behind, open_house, wait_for

ENDLESS = {"demo": {"delay_ms": 3_600_000}}
WAYS = ["reject", "join"]


@pytest.fixture
def settle_late(monkeypatch):
    """Runs of dead owners are settled only after this event."""
    go = trio.Event()
    kill = takeover._kill_recorded_processes

    async def kill_late(*args):
        await go.wait()
        return await kill(*args)

    monkeypatch.setattr(takeover, "_kill_recorded_processes", kill_late)
    return go


@pytest.mark.parametrize("on_active", WAYS)
async def test_a_dead_owners_chat_is_free(shared_database, on_active):
    """Whoever starts in the chat of a daemon that has died gets a run of its own, and the dead one's is settled."""
    remains = await leave_behind(shared_database, chat_id=f"dead-{on_active}")
    async with open_house(shared_database) as house:
        run = await house.start(chat_id=f"dead-{on_active}", on_active=on_active)
        assert run.id not in remains.run_ids
        assert (await house.read_run(remains.run_ids[0])).error["code"] == "owner_lost"
        await house.wait_settled(run.id)
    assert_history(shared_database, settled=True)


@pytest.mark.parametrize("on_active", WAYS)
async def test_a_chat_that_another_daemon_is_freeing_is_waited_for(shared_database, on_active, settle_late):
    """A start that comes while a third daemon settles a dead one's run gets the chat once that is done."""
    chat = f"freed-{on_active}"
    remains = await leave_behind(shared_database, chat_id=chat)
    async with open_house(shared_database) as reaper, open_house(shared_database, actors=["poller"]) as house:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reap_and_take, reaper, remains)
            await wait_for(lambda: reaper.registry.find(remains.run_ids[0]), what="it is taken")
            started = []

            async def start():
                started.append(await house.start(chat_id=chat, on_active=on_active))

            nursery.start_soon(start)
            await wait_for(lambda: house.supervisor.hub.subscribers, what="the end is waited for")
            settle_late.set()
        assert started[0].id not in remains.run_ids
        assert (await house.wait_settled(started[0].id)).status == "succeeded"
    assert_history(shared_database, settled=True)


async def test_the_wait_for_another_daemon_has_an_end(shared_database, settle_late, monkeypatch):
    """If that takes too long the start is refused, and names the run that has the chat."""
    monkeypatch.setattr(room, "FREE_SECONDS", 0.05)
    remains = await leave_behind(shared_database, chat_id="too-long")
    async with (
        open_house(shared_database) as reaper,
        open_house(shared_database) as house,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(reap_and_take, reaper, remains)
        await wait_for(lambda: reaper.registry.find(remains.run_ids[0]), what="it is taken")
        with pytest.raises(errors.RunActive) as refused:
            await house.start(chat_id="too-long")
        assert refused.value.data["active_run_id"] == remains.run_ids[0]
        joined = await house.start(chat_id="too-long", on_active="join")
        assert joined.id == remains.run_ids[0]
        settle_late.set()


async def test_a_run_that_goes_on_keeps_its_chat(shared_database, settle_late, monkeypatch):
    """A dead owner's run that is to be resumed is joined or refused, also while another daemon has just adopted it."""
    monkeypatch.setattr(room, "FREE_SECONDS", 3600.0)
    remains = await leave_behind(shared_database, chat_id="kept", on_owner_loss="resume")
    async with open_house(shared_database) as reaper, open_house(shared_database) as house:
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reap_and_take, reaper, remains)
                await wait_for(lambda: reaper.registry.find(remains.run_ids[0]), what="it is taken")
                await assert_kept(house, remains.run_ids[0])
                settle_late.set()
            await assert_kept(house, remains.run_ids[0])
        await take_over(house.supervisor, remains.run_ids)


async def assert_kept(house, run_id):
    with pytest.raises(errors.RunActive) as refused:
        await house.start(chat_id="kept")
    assert refused.value.data["active_run_id"] == run_id
    assert (await house.start(chat_id="kept", on_active="join")).id == run_id


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_living_run_is_joined(shared_database, elsewhere):
    """A run at work, here or at another daemon, is joined or refused without any wait."""
    chat = f"living-{elsewhere}"
    async with open_house(shared_database) as house, open_house(shared_database) as other:
        run = await house.start(chat_id=chat, input="a b", metadata=ENDLESS)
        asked = other if elsewhere else house
        assert (await asked.start(chat_id=chat, on_active="join")).id == run.id
        with pytest.raises(errors.RunActive):
            await asked.start(chat_id=chat)


async def test_a_key_finds_its_run_whatever_became_of_it(shared_database):
    """A key stands for its run, settled or left by a dead owner, also for one that would join."""
    async with open_house(shared_database) as house:
        start = partial(house.start, chat_id="keyed", idempotency_key="k", on_active="join")
        run = await start()
        await house.wait_settled(run.id)
        assert (await start()).id == run.id


async def reap_and_take(house, remains):
    kill = "UPDATE outlived.owners SET dead_at = clock_timestamp() WHERE id = %(id)s RETURNING 1"
    assert await house.ask(kill, id=remains.owner)
    assert await take_over(house.supervisor, remains.run_ids) == 1
