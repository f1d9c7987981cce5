"""The sweep: what dead owners left is settled, in bounded passes; what is fresh, settled or ours is not touched."""

import attrs
import pytest
import structlog
import trio

from outlived.chores import sweeper as room
from outlived.chores.sweeper import sweep_all
from outlived.settings import Settings, SweepSettings
from outlived.store.owners import SWEEP_LIMIT
from outlived.store.postgres import DatabaseLost
from outlived.supervisor.takeover import take_over
from tests.support.history import assert_history
from tests.support.house import (
    FAST,
    expire,
    leave_behind,
    open_house,
    read_foreign_identity,
    wait_for,
)

ENDLESS = {"demo": {"delay_ms": 3_600_000}}
BACKSTOP = 600.0
OLD = "clock_timestamp() - interval '11 minutes'"


async def snapshot(house):
    """Every run there is, as it is."""
    return await house.ask("SELECT r.*::text FROM outlived.runs r ORDER BY id")


async def read_errors(house, run_ids):
    return [((await house.read_run(run_id)).error or {}).get("code") for run_id in run_ids]


async def test_stale_runs_of_dead_owners_are_aborted(shared_database):
    """Owners that are provably dead, or silent for longer than their lease, are declared dead, their runs settled."""
    proved = await leave_behind(shared_database, 2)
    expired = await leave_behind(shared_database, 2, process=read_foreign_identity())
    await expire(shared_database, expired.owner)
    async with open_house(shared_database) as house:
        assert await sweep_all(house.supervisor) == 4
        run_ids = proved.run_ids + expired.run_ids
        assert await read_errors(house, run_ids) == ["owner_lost"] * 4
        owners = [proved.owner, expired.owner]
        rows = await house.ask(
            "SELECT id, dead_reason FROM outlived.owners WHERE id = ANY(%(owners)s::uuid[])", owners=owners
        )
        assert dict(rows) == {proved.owner: "its process is gone", expired.owner: "its lease ran out"}
        assert await sweep_all(house.supervisor) == 0
    assert_history(shared_database, acknowledged=set(run_ids), settled=True)


async def test_what_is_fresh_settled_or_ours_is_left(shared_database):
    """A living sibling's run, a run that is settled, and a run of our own are not touched by any sweep."""
    silent = await leave_behind(shared_database, process=read_foreign_identity())
    async with open_house(shared_database) as sibling, open_house(shared_database) as house:
        for each in (sibling, house):
            await each.perform("demo", input="settled")
            run = await each.start("demo", input="a b", metadata=ENDLESS)
            await each.wait_logged(run.id, "text.delta")
        before = await snapshot(house)
        assert await sweep_all(house.supervisor, uptime=1e9) == 0
        assert await snapshot(house) == before
        assert len(sibling.registry) == len(house.registry) == 1
        await expire(shared_database, silent.owner)
        await expire(shared_database, house.supervisor.journal.owner)
        assert await sweep_all(house.supervisor) == 1
        assert not house.supervisor.journal.lost.is_set()
        assert len(house.registry) == 1


async def test_passes_are_bounded_and_follow_each_other(shared_database):
    """More runs than a pass takes are settled by several, at once, none of them larger than the bound."""
    count = 2 * SWEEP_LIMIT + 30
    remains = await leave_behind(shared_database, count)
    async with open_house(shared_database) as house:
        take, sizes = house.supervisor.journal.take, []

        async def take_and_count(run_ids):
            sizes.append(len(run_ids))
            return await take(run_ids)

        house.supervisor.journal.take = take_and_count
        assert await sweep_all(house.supervisor) == count
        assert sizes == [SWEEP_LIMIT, SWEEP_LIMIT, 30]
    assert_history(shared_database, acknowledged=set(remains.run_ids), settled=True)


async def test_a_dead_owner_is_found_among_many_living(database):
    """However many daemons live, one that has fallen silent is among those that are judged."""
    living = (
        "INSERT INTO outlived.owners (id, home_id, host, boot_id, pid_namespace, pid, start_ticks, socket, version,"
        " lease_seconds, lease_until) SELECT gen_random_uuid(), gen_random_uuid(), 'h', 'b', 'n', 1, 1, '/s', '0',"
        " 60, clock_timestamp() + interval '1 minute' FROM generate_series(1, %(count)s)"
    )
    async with open_house(database) as house:
        await house.ask(living, count=SWEEP_LIMIT + 10)
        silent = await leave_behind(database, process=read_foreign_identity())
        await expire(database, silent.owner)
        assert await sweep_all(house.supervisor) == 1
        assert await read_errors(house, silent.run_ids) == ["owner_lost"]


async def test_siblings_sweep_together(shared_database):
    """Daemons that sweep at the same time settle everything, each run once."""
    remains = await leave_behind(shared_database, 30)
    async with open_house(shared_database) as a, open_house(shared_database) as b:
        counts = []

        async def sweep_too(house):
            counts.append(await sweep_all(house.supervisor))

        async with trio.open_nursery() as nursery:
            for house in (a, b):
                nursery.start_soon(sweep_too, house)
        await wait_for(lambda: not len(a.registry) and not len(b.registry))
        assert sum(counts) == 30
        assert set(await read_errors(a, remains.run_ids)) == {"owner_lost"}
    assert_history(shared_database, acknowledged=set(remains.run_ids), settled=True)


async def test_a_draining_daemon_takes_nothing(shared_database):
    """A daemon that is about to stop leaves what dead owners left to others: its sweeper sleeps, a sweep ends early."""
    async with open_house(shared_database, actors=["sweeper"]) as house:
        house.supervisor.draining.set()
        remains = await leave_behind(shared_database, SWEEP_LIMIT + 1)
        began = trio.current_time()
        await wait_for(lambda: trio.current_time() - began > 10 * FAST.sweep.interval_seconds)
        assert {(await house.read_run(run_id)).status for run_id in remains.run_ids} == {"running"}
        assert await sweep_all(house.supervisor) == SWEEP_LIMIT
    async with open_house(shared_database) as house:
        assert await sweep_all(house.supervisor) == 1
    assert_history(shared_database, settled=True)


@pytest.mark.parametrize("sole_owner", [True, False])
async def test_a_sweep_knows_whether_others_are_there(database, sole_owner):
    """Who has its database for itself, and meets nobody there, is alone; with a living sibling, or a shared database, not."""
    async with open_house(database, sole_owner=sole_owner) as house:
        await leave_behind(database, process=read_foreign_identity())
        await sweep_all(house.supervisor)
        assert not house.supervisor.trust.alone
        await house.ask(
            "UPDATE outlived.owners SET lease_until = '2020-01-01', lease_seconds = 0.001 WHERE host = 'somewhere'"
        )
        await sweep_all(house.supervisor)
        await sweep_all(house.supervisor)
        assert house.supervisor.trust.alone is sole_owner


# ---------------------------------------------------------------- the backstop


async def orphan(house, *, agent="gone", status="running", changed=OLD, **spec):
    """A run without an owner."""
    remains = await leave_behind(house.dsn, agent=agent, **spec)
    [run_id] = remains.run_ids
    await house.ask(
        f"UPDATE outlived.runs SET owner = NULL, status = '{status}', updated_at = {changed} WHERE id = %(id)s",
        id=run_id,
    )
    return run_id


BACKSTOPPED = {
    "an agent that this daemon has not": ({"agent": "gone"}, True),
    "an ad-hoc command": ({"agent": None, "command": ["true"]}, True),
    "one that has not started": ({"status": "pending"}, True),
    "an agent that this daemon has": ({"agent": "demo"}, False),
    "one that waits for a person": ({"status": "waiting"}, False),
    "one that waits for its turn": ({"status": "queued"}, False),
    "one that changed lately": ({"changed": "clock_timestamp() - interval '9 minutes'"}, False),
}


@pytest.mark.parametrize(("what", "falls"), BACKSTOPPED.values(), ids=BACKSTOPPED.keys())
async def test_a_run_without_an_owner_falls_under_the_backstop(shared_database, what, falls):
    """Ten minutes after its last change, and of this daemon's start, a run that nobody can want any more is settled."""
    async with open_house(shared_database) as house:
        run_id = await orphan(house, **what)
        assert await sweep_all(house.supervisor, uptime=BACKSTOP - 1) == 0
        assert await sweep_all(house.supervisor, uptime=BACKSTOP) == int(falls)
        assert await read_errors(house, [run_id]) == (["owner_lost"] if falls else [None])
        assert await take_over(house.supervisor, [run_id]) == int(not falls)
    assert_history(shared_database, settled=True)


# ---------------------------------------------------------------- the actor


async def test_the_sweeper_sweeps_for_ever(shared_database, proxy):
    """It finds what is left later, too; a database that goes away costs it a line in the log."""
    async with open_house(shared_database, through=proxy.dsn, actors=["sweeper"]) as house:
        for _ in range(2):
            remains = await leave_behind(shared_database)
            await house.wait_settled(remains.run_ids[0])
        proxy.leave()
        with structlog.testing.capture_logs() as logs:
            await wait_for(lambda: [line for line in logs if line["event"] == "sweep failed"])
        with pytest.raises(DatabaseLost):
            await sweep_all(house.supervisor)
        proxy.come_back()
        remains = await leave_behind(shared_database)
        await house.wait_settled(remains.run_ids[0])
    assert_history(shared_database, settled=True)


@attrs.frozen
class Idle:
    """As much of a supervisor as a sweeper looks at that has nothing to sweep."""

    settings: Settings
    draining: trio.Event = attrs.Factory(trio.Event)


async def test_sweeps_are_jittered_and_end_with_the_drain(autojump_clock, monkeypatch):
    """The pauses between sweeps vary around the interval; while the daemon drains it takes nothing upon itself."""
    idle, swept = Idle(attrs.evolve(FAST, sweep=SweepSettings(interval_seconds=10))), []

    async def note(_supervisor, *, uptime):
        swept.append(uptime)

    monkeypatch.setattr(room, "sweep_all", note)
    with trio.move_on_after(1000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.sweep, idle)
            await trio.sleep(500)
            idle.draining.set()
    pauses = [after - before for before, after in zip([0, *swept], swept, strict=False)]
    assert all(8 <= pause <= 12 for pause in pauses)
    assert len(set(pauses)) > 10
    assert 480 <= swept[-1] <= 500
