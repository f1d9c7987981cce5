"""The heartbeat: the lease is renewed, stops arrive, lost runs are found, and without a lease nothing is trusted."""

import attrs
import pytest
import structlog
import trio

from outlived.chores import heartbeat as room
from outlived.chores.heartbeat import beat, beat_once
from outlived.journal import writer
from outlived.settings import OwnerSettings
from outlived.store import postgres
from outlived.store.postgres import DatabaseLost
from outlived.store.stops import mark_stop
from outlived.supervisor import takeover
from outlived.supervisor import trust as trust_room
from outlived.supervisor.registry import Cause
from outlived.supervisor.trust import read_clock
from tests.support.history import assert_history
from tests.support.house import FAST, open_house, wait_for
from tests.support.locks import open_session

LEASE = 0.9
HANGS = 4.5
"""A connection attempt to a database that does not answer takes longer."""
NAPPING = attrs.evolve(FAST, owner=OwnerSettings(lease_seconds=30, heartbeat_seconds=15))
SHORT = attrs.evolve(FAST, owner=OwnerSettings(lease_seconds=LEASE, heartbeat_seconds=0.1))
ENDLESS = {"demo": {"delay_ms": 3_600_000}}


async def start_endless(house):
    run = await house.start("demo", input="first second", metadata=ENDLESS)
    await house.wait_logged(run.id, "text.delta")
    return run


async def read_lease(house):
    [(seconds,)] = await house.ask(
        "SELECT extract(epoch FROM lease_until - clock_timestamp())::float FROM outlived.owners WHERE id = %(id)s",
        id=house.supervisor.journal.owner,
    )
    return seconds


async def lose_sight(house):
    """A run that this owner holds in the database and knows nothing of: its task ended without settling it."""
    run = await start_endless(house)
    house.registry.find(run.id).cancel(Cause.LOST)
    await wait_for(lambda: house.registry.find(run.id) is None)
    return run


# ---------------------------------------------------------------- a beat


async def test_a_beat_renews_the_lease_and_the_trust(shared_database):
    """After a beat the whole lease lies ahead again, and the fence is where it was."""
    async with open_house(shared_database) as house:
        me = house.supervisor.journal.owner
        await house.ask("UPDATE outlived.owners SET lease_until = clock_timestamp() WHERE id = %(id)s", id=me)
        house.supervisor.trust.renewed(read_clock() - 1000)
        assert not house.supervisor.trust.holds
        assert await beat_once(house.supervisor, set()) == set()
        assert await read_lease(house) == pytest.approx(60, abs=10)
        assert house.supervisor.trust.holds
        assert await house.ask("SELECT batch_no FROM outlived.owners WHERE id = %(id)s", id=me) == [(0,)]


async def test_a_lease_that_ran_out_unnoticed_may_be_renewed(shared_database):
    """An expired lease that nobody has reaped is renewed like any other."""
    async with open_house(shared_database) as house:
        me = house.supervisor.journal.owner
        await house.ask("UPDATE outlived.owners SET lease_until = '2020-01-01' WHERE id = %(id)s", id=me)
        await beat_once(house.supervisor, set())
        assert await read_lease(house) > 0
        assert not house.supervisor.journal.lost.is_set()


async def test_a_beat_of_a_dead_owner_renews_nothing(shared_database):
    """An owner that was declared dead learns it from its beat, and does not revive."""
    async with open_house(shared_database) as house:
        me = house.supervisor.journal.owner
        kill = "UPDATE outlived.owners SET dead_at = clock_timestamp(), lease_until = '2020-01-01' WHERE id = %(id)s"
        await house.ask(kill, id=me)
        assert await beat_once(house.supervisor, set()) == set()
        assert house.supervisor.journal.lost.is_set()
        assert await read_lease(house) < 0


async def test_a_beat_brings_stops(shared_database):
    """A mark that another daemon wrote is acted on with the next beat, once."""
    async with open_house(shared_database) as house:
        run, other = await start_endless(house), await start_endless(house)
        await mark_stop(house.supervisor.store.stops, run.id, reason="from afar", by="uid:7")
        assert await beat_once(house.supervisor, set()) == set()
        await beat_once(house.supervisor, set())
        run = await house.wait_settled(run.id)
        assert (run.status, run.error, run.stop_reason) == ("aborted", None, "from afar")
        assert house.registry.find(other.id) is not None
    assert_history(shared_database, settled=True)


# ---------------------------------------------------------------- runs that were lost sight of


async def test_a_run_that_is_not_seen_for_two_beats_is_settled(shared_database):
    """A run of ours that nobody works on is settled with the second beat that misses it, not with the first."""
    async with open_house(shared_database) as house:
        run, neighbour = await lose_sight(house), await start_endless(house)
        unseen = await beat_once(house.supervisor, set())
        assert unseen == {run.id}
        assert (await house.read_run(run.id)).status == "running"
        assert await beat_once(house.supervisor, unseen) == set()
        run = await house.wait_settled(run.id)
        assert (run.status, run.error["code"]) == ("aborted", "owner_lost")
        assert (await house.read_message(run.id)).content == "first "
        assert house.registry.find(neighbour.id) is not None
    assert_history(shared_database, settled=True)


async def test_a_run_that_is_seen_again_is_left_alone(shared_database):
    """A run that a beat missed and the next one sees - it was just starting - goes on."""
    async with open_house(shared_database) as house:
        run = await start_endless(house)
        assert await beat_once(house.supervisor, {run.id}) == set()
        assert house.registry.find(run.id) is not None


async def test_a_run_whose_outcome_is_refused_is_settled_all_the_same(shared_database, monkeypatch):
    """An outcome that the database refuses for good leaves no run active for ever: the beats settle it as lost."""
    async with open_house(shared_database, actors=["heartbeat"]) as house:
        settle = house.supervisor.journal.settle

        async def settle_badly(run_id, status, error, mark):
            if status == "succeeded":
                error = {"code": "exception", "message": "\ud800"}
            await settle(run_id, status, error, mark)

        monkeypatch.setattr(house.supervisor.journal, "settle", settle_badly)
        with structlog.testing.capture_logs():
            run = await house.perform("demo", input="x")
        assert (run.status, run.error["code"]) == ("aborted", "owner_lost")
        assert (await house.read_message(run.id)).content == "x"
    assert_history(shared_database, settled=True)


async def test_a_takeover_that_hangs_does_not_stop_the_heart(shared_database, monkeypatch):
    """While a lost run is being settled, however long that takes, the lease is renewed as ever."""
    go = trio.Event()
    kill = takeover._kill_recorded_processes

    async def kill_late(*args):
        await go.wait()
        return await kill(*args)

    monkeypatch.setattr(takeover, "_kill_recorded_processes", kill_late)
    async with open_house(shared_database, actors=["heartbeat"]) as house:
        run = await lose_sight(house)
        await wait_for(lambda: house.registry.find(run.id), what="it is being taken over")
        house.supervisor.trust.renewed(read_clock() - 1000)
        await wait_for(lambda: house.supervisor.trust.holds, what="the lease is renewed")
        go.set()
        assert (await house.wait_settled(run.id)).status == "aborted"


# ---------------------------------------------------------------- without a lease


async def leave_with_run(house, proxy, *, mute=False):
    """Take the database away from a daemon at work; the run, and when its lease was last renewed."""
    run = await start_endless(house)
    renewed = house.supervisor.trust._renewal_began
    await wait_for(lambda: house.supervisor.trust._renewal_began != renewed, what="a renewal")
    proxy.mute = mute
    proxy.leave()
    if mute:
        proxy.come_back()
    return run, house.supervisor.trust


@pytest.mark.parametrize("mute", [False, True], ids=["it is gone", "it does not answer"])
async def test_an_owner_that_cannot_renew_stops_trusting_itself(shared_database, proxy, mute):
    """After two thirds of the lease, not before, and however the database is away, the runs are cancelled; they are settled
    as lost when the database is back and nobody has taken them.
    """
    async with open_house(shared_database, through=proxy.dsn, settings=SHORT, actors=["heartbeat"]) as house:
        run, trust = await leave_with_run(house, proxy, mute=mute)
        active = house.registry.find(run.id)
        with structlog.testing.capture_logs() as logs:
            await wait_for(lambda: active.cause is not None)
            silent = read_clock() - trust._renewal_began
        assert active.cause is Cause.DISTRUST
        assert LEASE * 2 / 3 <= silent < HANGS
        assert len([line for line in logs if "does not trust itself" in line["event"]]) == 1
        assert (await house.read_run(run.id)).status == "running"
        proxy.mute = False
        proxy.leave()
        proxy.come_back()
        run = await house.wait_settled(run.id)
        assert (run.status, run.error["code"]) == ("aborted", "owner_lost")
        await wait_for(lambda: trust.holds)
        assert (await house.perform("demo", input="next")).status == "succeeded"
    assert_history(shared_database, settled=True)


async def test_with_our_own_database_down_trust_is_suspended(shared_database, proxy):
    """While the embedded Postgres is known to be down nobody can take anything: the runs go on."""
    down = False
    async with open_house(
        shared_database,
        through=proxy.dsn,
        settings=SHORT,
        database_down=lambda: down,
        actors=["heartbeat"],
    ) as house:
        down = True
        run, _ = await leave_with_run(house, proxy)
        began = trio.current_time()
        await wait_for(lambda: trio.current_time() - began > LEASE)
        assert house.registry.find(run.id).cause is None
        proxy.come_back()
        down = False
        await wait_for(lambda: not house.supervisor.journal.degraded)
        began = trio.current_time()
        await wait_for(lambda: trio.current_time() - began > LEASE)
        assert house.registry.find(run.id).cause is None


class Sleep:
    """A clock that jumps when the machine wakes up."""

    def __init__(self):
        self.slept = 0.0

    def __call__(self):
        return read_clock() + self.slept


async def test_a_machine_that_slept_for_too_long_cancels_at_once(shared_database, monkeypatch):
    """After a sleep longer than two thirds of the lease runs are cancelled before the next beat, which may renew the lease."""
    sleep = Sleep()
    for module in (room, trust_room):
        monkeypatch.setattr(module, "read_clock", sleep)
    async with open_house(shared_database, settings=NAPPING, actors=["heartbeat"]) as house:
        run = await start_endless(house)
        sleep.slept = 10.0
        began = trio.current_time()
        await wait_for(
            lambda: trio.current_time() - began > 2 * NAPPING.owner.lease_seconds / room.DOUBTS_PER_LEASE
        )
        assert house.registry.find(run.id).cause is None, "a nap is none"
        sleep.slept = 3600.0
        active = house.registry.find(run.id)
        await wait_for(lambda: active.cause is Cause.DISTRUST, what="the runs are cancelled")
        assert trio.current_time() - began < NAPPING.owner.heartbeat_seconds, "no beat was waited for"
        await beat_once(house.supervisor, set())
        assert house.supervisor.trust.holds
        assert (await house.wait_settled(run.id)).error["code"] == "owner_lost"
        assert (await house.perform("demo", input="next")).status == "succeeded"
    assert_history(shared_database, settled=True)


async def test_a_beat_that_fails_is_tried_again(shared_database, proxy):
    """A heart that missed a beat goes on; a failure is a line in the log."""
    async with open_house(shared_database, through=proxy.dsn, actors=["heartbeat"]) as house:
        proxy.leave()
        with structlog.testing.capture_logs() as logs:
            await wait_for(lambda: [line for line in logs if line["event"] == "heartbeat failed"])
        proxy.come_back()
        before = house.supervisor.trust._renewal_began
        await wait_for(lambda: house.supervisor.trust._renewal_began > before)


async def test_a_beat_tells_the_idle_journal_that_the_database_is_back(shared_database, proxy, monkeypatch):
    """An outage that leaves the journal nothing to commit is over with the next beat, not with the next run."""
    monkeypatch.setattr(writer, "START_SECONDS", 0.1)
    async with open_house(shared_database, through=proxy.dsn, actors=["heartbeat"]) as house:
        journal = house.supervisor.journal
        proxy.leave()
        with pytest.raises(DatabaseLost):
            await house.start("demo")
        await wait_for(lambda: journal.degraded and journal.idle)
        proxy.come_back()
        await wait_for(lambda: not journal.degraded)


async def test_a_beat_that_is_refused_is_tried_again(shared_database, monkeypatch):
    """A refused beat - somebody holds the row - is one that failed, no more."""
    monkeypatch.setattr(postgres, "LIMIT_TIME", postgres.LIMIT_TIME.replace("'2000'", "'100'"))
    async with open_house(shared_database) as house:
        trust = house.supervisor.trust
        with open_session(shared_database) as session, structlog.testing.capture_logs() as logs:
            session.lock(
                "SELECT 1 FROM outlived.owners WHERE id = %s FOR UPDATE", house.supervisor.journal.owner
            )
            house.services.start_soon(beat, house.supervisor)
            await wait_for(lambda: [line for line in logs if line["event"] == "heartbeat failed"])
            before = trust._renewal_began
            session.release()
            await wait_for(lambda: trust._renewal_began > before)
