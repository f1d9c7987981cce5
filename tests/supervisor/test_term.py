"""Being an owner, and losing it: everything of the term ends at once, then the next one begins."""

import os

import pytest
import structlog
import trio

from outlived.agents.command import CommandAgent
from outlived.chores.heartbeat import beat_once
from outlived.chores.sweeper import sweep_all
from outlived.journal.items import OwnershipLost
from outlived.supervisor import term as room
from tests.support.history import assert_history
from tests.support.house import open_house, wait_for
from tests.support.programs import list_pids

KILL_OWNER = (
    "UPDATE outlived.owners SET dead_at = clock_timestamp(), dead_reason = 'a test' WHERE id = %(id)s"
)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Registering is tried again quickly."""
    monkeypatch.setattr(room, "RETRY_SECONDS", 0.01)


async def lose(house):
    """Be declared dead, and find it out with the next heartbeat; the owner that is no more."""
    owner = house.supervisor.journal.owner
    await house.ask(KILL_OWNER, id=owner)
    await beat_once(house.supervisor, set())
    assert house.supervisor.journal.lost.is_set()
    return owner


async def wait_next_term(house, before):
    await wait_for(lambda: house.supervisor.journal.owner != before, what="the next term has begun")


async def test_a_term_begins_with_a_registration(database):
    """An owner is a row that says who and where it is, with a lease; the journal writes for it."""
    async with open_house(database) as house:
        rows = await house.ask(
            "SELECT id, pid, dead_at, batch_no, lease_until > clock_timestamp() FROM outlived.owners"
        )
        assert rows == [(house.supervisor.journal.owner, os.getpid(), None, 0, True)]


async def test_a_lost_ownership_ends_everything_without_grace(shared_database):
    """Every agent is cancelled at once and every process killed, whatever its grace; nothing more is written."""
    word = f"5000001.{os.getpid()}"
    deaf = CommandAgent(
        ["sh", "-c", f"trap '' TERM; setsid sleep {word} & echo ready; while :; do sleep 0.02; done"]
    )
    cancelled = trio.Event()

    async def sleep(desk):
        await desk.emit_text("ready")
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with open_house(shared_database, agents={"deaf": deaf, "sleep": sleep}) as house:
        runs = [await house.start(name) for name in ("deaf", "sleep")]
        for run in runs:
            await house.wait_logged(run.id, "text.delta")
        logs = [await house.read_log(run.id) for run in runs]
        before = await lose(house)
        with trio.fail_after(10):
            house.services.start_soon(room.watch_term, house.supervisor)
            await wait_next_term(house, before)
        assert cancelled.is_set()
        assert list_pids(word) == []
        assert len(house.registry) == 0
        assert [await house.read_log(run.id) for run in runs] == logs
        assert [(await house.read_run(run.id)).status for run in runs] == ["running", "running"]
        assert await sweep_all(house.supervisor) == 2
        assert [(await house.read_run(run.id)).error["code"] for run in runs] == ["owner_lost"] * 2
    assert_history(shared_database, settled=True)


async def test_the_next_term_serves(shared_database):
    """After a loss the daemon is another owner, with another lease, and runs what it is asked to."""
    async with open_house(shared_database, actors=["term", "heartbeat"]) as house:
        owners = {house.supervisor.journal.owner}
        for number in range(1, 4):
            before = house.supervisor.journal.owner
            await house.ask(KILL_OWNER, id=before)
            await wait_next_term(house, before)
            owners.add(house.supervisor.journal.owner)
            run = await house.perform("demo", input=f"{number}")
            assert (run.status, run.owner) == ("succeeded", house.supervisor.journal.owner)
        assert len(owners) == 4
        assert house.supervisor.trust.holds
    assert_history(shared_database, settled=True)


async def test_a_shut_fence_is_a_loss_too(shared_database):
    """An owner that is declared dead finds out with its next commit, before any heartbeat; the start is not stored."""
    async with open_house(shared_database, actors=["term"]) as house:
        before = house.supervisor.journal.owner
        await house.ask(KILL_OWNER, id=before)
        with pytest.raises(OwnershipLost):
            await house.start("demo", input="x")
        await wait_next_term(house, before)
        assert (await house.perform("demo", input="x")).status == "succeeded"


async def test_between_two_terms_nothing_is_accepted(shared_database, proxy):
    """While it cannot register, a daemon neither starts nor writes; it registers when the database is back."""
    async with open_house(shared_database, through=proxy.dsn) as house:
        before = await lose(house)
        proxy.leave()
        house.services.start_soon(room.watch_term, house.supervisor)
        with structlog.testing.capture_logs() as logs:
            await wait_for(lambda: [line for line in logs if line["event"] == "cannot register yet"])
        with pytest.raises(OwnershipLost):
            await house.start("demo", input="x")
        proxy.come_back()
        await wait_next_term(house, before)
        assert (await house.perform("demo", input="x")).status == "succeeded"


async def test_an_agent_that_does_not_end_holds_up_the_next_term(shared_database, monkeypatch):
    """As long as something of the last term is at work no new one begins; the log says what it is."""
    monkeypatch.setattr(room, "STUCK_SECONDS", 0.02)
    go = trio.Event()

    async def ignore(desk):
        await desk.emit_text("ready")
        with trio.CancelScope(shield=True):
            await go.wait()

    async with open_house(shared_database, agents={"ignore": ignore}) as house:
        run = await house.start("ignore")
        await house.wait_logged(run.id, "text.delta")
        before = await lose(house)
        with structlog.testing.capture_logs() as logs:
            house.services.start_soon(room.watch_term, house.supervisor)
            await wait_for(lambda: [line for line in logs if "does not end" in line["event"]])
        assert [line["run_id"] for line in logs if "does not end" in line["event"]] == [run.id]
        assert house.supervisor.journal.owner == before
        go.set()
        await wait_next_term(house, before)
        await sweep_all(house.supervisor)
    assert_history(shared_database, settled=True)


async def test_what_an_agent_says_after_the_loss_is_lost(shared_database):
    """An agent that goes on talking after the loss is told so, and none of it is stored."""
    told = []

    async def talk(desk):
        await desk.emit_text("ready")
        with trio.CancelScope(shield=True):
            try:
                while True:
                    await desk.emit_text("more")
                    await trio.sleep(0.001)
            except OwnershipLost as error:
                told.append(error)
                raise

    async with open_house(shared_database, agents={"talk": talk}, actors=["term"]) as house:
        run = await house.start("talk")
        await house.wait_logged(run.id, "text.delta")
        before = await lose(house)
        await wait_next_term(house, before)
        assert told
        assert await sweep_all(house.supervisor) == 1
        log = await house.read_log(run.id)
        assert [event.type for event in log[-2:]] == ["run.adopted", "run.settled"]
    assert_history(shared_database, settled=True)
