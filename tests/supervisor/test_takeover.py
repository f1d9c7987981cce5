"""Runs of dead owners: who is dead, taking what they left, killing their processes, settling."""

import contextlib
import os
import signal
import subprocess

import attrs
import pytest
import structlog
import trio

from outlived import processes
from outlived.chores.heartbeat import beat_once
from outlived.identifiers import make_id
from outlived.store.owners import read_holder, read_living
from outlived.store.postgres import DatabaseLost, QueryRefused
from outlived.store.stops import RunProcess, mark_stop
from outlived.supervisor import insist, takeover
from outlived.supervisor.takeover import is_dead, is_proved_dead, reap, take_over
from tests.support.history import assert_history
from tests.support.house import (
    DEADLINE,
    expire,
    leave_behind,
    open_house,
    read_dead_identity,
    read_foreign_identity,
    wait_for,
)

HERE = processes.read_own_identity


async def hold(house, remains):
    """The owner row of what was left."""
    holder = await read_holder(house.supervisor.store.sweep, remains.run_ids[0])
    assert holder is not None
    return holder


async def inherit(house, remains):
    """Declare the owner dead and settle its runs."""
    assert await reap(house.supervisor, await hold(house, remains))
    return await take_over(house.supervisor, remains.run_ids)


# ---------------------------------------------------------------- who is dead

JUDGED = {
    "a process that is gone": (read_dead_identity, True),
    "a pid that is used again": (lambda: attrs.evolve(HERE(), start_ticks=1), True),
    "this very process": (HERE, False),
    "another boot": (read_foreign_identity, False),
    "another pid namespace": (lambda: attrs.evolve(read_dead_identity(), pid_namespace="pid:[1]"), False),
}


@pytest.mark.parametrize(("make", "proved"), JUDGED.values(), ids=JUDGED.keys())
async def test_death_is_proved_by_the_process_table(shared_database, make, proved):
    """An owner with a fresh lease is dead only if its very process is known to be gone."""
    remains = await leave_behind(shared_database, process=make())
    async with open_house(shared_database) as house:
        holder = await hold(house, remains)
        assert is_proved_dead(house.supervisor, holder) is proved
        assert is_dead(house.supervisor, holder) is proved
        assert await reap(house.supervisor, holder) is proved
        assert await take_over(house.supervisor, remains.run_ids) == int(proved)
        if not proved:
            await expire(shared_database, remains.owner)
            await inherit(house, remains)
    assert_history(shared_database, settled=True)


async def test_an_expired_lease_is_a_death_too(shared_database):
    """Of a process elsewhere nothing can be proved; when its lease has run out it may be reaped."""
    remains = await leave_behind(shared_database, process=read_foreign_identity())
    async with open_house(shared_database) as house:
        assert not is_dead(house.supervisor, await hold(house, remains))
        await expire(shared_database, remains.owner)
        assert is_dead(house.supervisor, await hold(house, remains))
        assert await inherit(house, remains) == 1


async def test_after_a_database_start_owners_have_a_lease_to_renew(shared_database):
    """By an expired lease alone nobody is declared dead within one lease of the database's start."""
    remains = await leave_behind(shared_database, process=read_foreign_identity())
    async with open_house(shared_database) as house:
        await house.ask(
            "UPDATE outlived.owners SET lease_until = clock_timestamp() - interval '1 second',"
            " lease_seconds = 1e6 WHERE id = %(id)s",
            id=remains.owner,
        )
        holder = await hold(house, remains)
        assert holder.expired
        assert not await reap(house.supervisor, holder)
        assert await take_over(house.supervisor, remains.run_ids) == 0
        await expire(shared_database, remains.owner)
        assert await inherit(house, remains) == 1


async def test_a_lease_that_was_renewed_meanwhile_holds(shared_database):
    """An owner that looked dead and renewed before it was declared so is not."""
    remains = await leave_behind(shared_database, process=read_foreign_identity())
    async with open_house(shared_database) as house:
        await expire(shared_database, remains.owner)
        holder = await hold(house, remains)
        await house.ask(
            "UPDATE outlived.owners SET lease_until = clock_timestamp() + interval '1 minute' WHERE id = %(id)s",
            id=remains.owner,
        )
        assert not await reap(house.supervisor, holder)
        await expire(shared_database, remains.owner)
        assert await inherit(house, remains) == 1


@pytest.mark.parametrize(("sole_owner", "same_home"), [(True, True), (True, False), (False, True)])
async def test_the_homes_lock_proves_its_earlier_daemons_dead(shared_database, sole_owner, same_home):
    """Who holds a home's lock, on the home's own database, knows that the home's earlier owners are gone."""
    home_id = make_id()
    process = read_foreign_identity()
    remains = await leave_behind(shared_database, process=process, home_id=home_id if same_home else None)
    async with open_house(shared_database, home_id=home_id, sole_owner=sole_owner) as house:
        holder = await hold(house, remains)
        assert is_proved_dead(house.supervisor, holder) is (sole_owner and same_home)
        await expire(shared_database, remains.owner)
        await inherit(house, remains)


async def test_an_owner_never_declares_itself_dead(database):
    """Whatever its own row says, an owner is not among those it judges, and cannot reap itself."""
    home_id = make_id()
    async with open_house(database, home_id=home_id, sole_owner=True) as house:
        run = await house.start("demo", input="a b", metadata={"demo": {"delay_ms": 3_600_000}})
        me = house.supervisor.journal.owner
        await expire(database, me)
        assert await read_living(house.supervisor.store.sweep, me) == []
        myself = await read_holder(house.supervisor.store.sweep, run.id)
        assert myself.id == me
        assert not await reap(house.supervisor, myself)


# ---------------------------------------------------------------- taking and settling


async def test_what_a_dead_owner_left_is_settled(shared_database):
    """Its runs are adopted in a new epoch and aborted as lost, and their messages hold all that was said."""
    remains = await leave_behind(shared_database, 3, text="said before")
    async with open_house(shared_database) as house:
        assert await inherit(house, remains) == 3
        for run_id in remains.run_ids:
            run = await house.read_run(run_id)
            assert (run.status, run.error["code"]) == ("aborted", "owner_lost")
            assert (run.owner, run.epoch, run.attempt) == (house.supervisor.journal.owner, 2, 1)
            assert run.stop_requested_at is None
            message = await house.read_message(run_id)
            assert (message.content, message.status) == ("said before", "aborted")
            types = [event.type for event in await house.read_log(run_id)]
            assert types == ["run.created", "run.started", "text.delta", "run.adopted", "run.settled"]
        assert len(house.registry) == 0
        assert await take_over(house.supervisor, remains.run_ids) == 0
    assert_history(shared_database, settled=True)


async def test_a_dead_owners_run_that_was_to_be_stopped_was_stopped(shared_database):
    """A mark that the dead owner had not acted on is in the log, and the run has no error."""
    remains = await leave_behind(shared_database)
    [run_id] = remains.run_ids
    async with open_house(shared_database) as house:
        await mark_stop(house.supervisor.store.stops, run_id, reason="asked", by="somebody")
        await inherit(house, remains)
        run = await house.read_run(run_id)
        assert (run.status, run.error, run.stop_reason) == ("aborted", None, "asked")
        asked = await house.wait_logged(run_id, "run.stop_requested")
        assert asked.data["by"] == "somebody"
    assert_history(shared_database, settled=True)


async def test_of_many_that_take_one_gets_it(shared_database):
    """Daemons that find the same remains at the same time settle each run once."""
    remains = await leave_behind(shared_database, 10)
    counts = []

    async def inherit_too(house):
        await reap(house.supervisor, await hold(house, remains))
        counts.append(await take_over(house.supervisor, remains.run_ids))

    async with open_house(shared_database) as a, open_house(shared_database) as b:
        async with trio.open_nursery() as nursery:
            for house in (a, b, a, b):
                nursery.start_soon(inherit_too, house)
        await wait_for(lambda: not len(a.registry) and not len(b.registry))
    assert sum(counts) == 10
    assert_history(shared_database, settled=True)


async def test_who_asked_may_go_away(shared_database, monkeypatch):
    """A request that is cancelled in the middle of a takeover leaves nothing half done."""
    remains = await leave_behind(shared_database)
    killing, go = trio.Event(), trio.Event()
    kill = takeover._kill_recorded_processes

    async def kill_slowly(*args):
        killing.set()
        await go.wait()
        return await kill(*args)

    monkeypatch.setattr(takeover, "_kill_recorded_processes", kill_slowly)
    async with open_house(shared_database) as house:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inherit, house, remains)
            await killing.wait()
            nursery.cancel_scope.cancel()
        go.set()
        assert (await house.wait_settled(remains.run_ids[0])).status == "aborted"
    assert_history(shared_database, settled=True)


async def test_a_database_that_goes_away_delays_a_takeover(shared_database, proxy, monkeypatch):
    """Runs that were taken when the database went away are settled when it comes back."""
    monkeypatch.setattr(insist, "RETRY_SECONDS", 0.01)
    remains = await leave_behind(shared_database, 3)
    tried = []
    read = takeover.read_processes

    async def read_and_count(*args):
        if not tried:
            proxy.leave()
        tried.append(True)
        return await read(*args)

    monkeypatch.setattr(takeover, "read_processes", read_and_count)
    async with open_house(shared_database, through=proxy.dsn) as house:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inherit, house, remains)
            await wait_for(lambda: len(tried) > 3, what="it is tried again")
            proxy.come_back()
        for run_id in remains.run_ids:
            assert (await house.read_run(run_id)).status == "aborted"
    assert_history(shared_database, settled=True)


async def test_without_a_database_nothing_is_taken(shared_database, proxy):
    """A takeover that cannot even ask fails, and nothing is half taken."""
    remains = await leave_behind(shared_database)
    async with open_house(shared_database, through=proxy.dsn) as house:
        holder = await hold(house, remains)
        proxy.leave()
        with pytest.raises(DatabaseLost):
            await reap(house.supervisor, holder)
        proxy.come_back()
        assert await inherit(house, remains) == 1


@pytest.mark.parametrize("broken", ["read_processes", "read_stop", "complete_draft"])
@pytest.mark.parametrize("error", [QueryRefused("no"), ValueError("a bug")])
async def test_a_takeover_that_fails_ends_nothing_else(shared_database, monkeypatch, broken, error):
    """An error in the middle of a takeover harms no other run, and the next beats settle what was taken."""
    remains = await leave_behind(shared_database, 2)

    async def fail(*_args):
        raise error

    async with open_house(shared_database) as house:
        neighbour = await house.start("demo", input="a b", metadata={"demo": {"delay_ms": 3_600_000}})
        with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs():
            patch.setattr(takeover, broken, fail)
            with contextlib.suppress(QueryRefused, ValueError, ExceptionGroup):
                await inherit(house, remains)
        assert house.registry.find(neighbour.id) is not None
        assert len(house.registry) == 1
        unseen = set()
        for _ in range(2):
            unseen = await beat_once(house.supervisor, unseen)
        for run_id in remains.run_ids:
            assert (await house.wait_settled(run_id)).error["code"] == "owner_lost"
    assert_history(shared_database, settled=True)


async def test_a_run_that_is_refused_does_not_hold_up_the_others(shared_database):
    """Of runs that are taken together each is settled for itself: one that is refused is left to the next beats."""
    remains = await leave_behind(shared_database, 3)
    unlucky, *others = remains.run_ids
    read = takeover.read_stop

    async def refuse_one(link, run_id):
        if run_id == unlucky:
            raise QueryRefused("no")
        await trio.sleep(0.05)
        return await read(link, run_id)

    async with open_house(shared_database) as house:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(takeover, "read_stop", refuse_one)
            assert await inherit(house, remains) == 3
        assert [(await house.read_run(run_id)).status for run_id in others] == ["aborted"] * 2
        assert (await house.read_run(unlucky)).status == "running"
        unseen = await beat_once(house.supervisor, set())
        assert unseen == {unlucky}
        await beat_once(house.supervisor, unseen)
        assert (await house.wait_settled(unlucky)).error["code"] == "owner_lost"
    assert_history(shared_database, settled=True)


# ---------------------------------------------------------------- processes


@pytest.fixture
def run_process():
    """A living process of a run that is yet to be, its child without the run's environment, and the run's id."""
    run_id = make_id()
    environment = {**os.environ, processes.RUN_VARIABLE: run_id}
    script = "env -i sh -c 'echo $$; exec sleep 1000' & wait"
    with subprocess.Popen(
        ["sh", "-c", script], env=environment, start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        child = int(process.stdout.readline())
        yield run_id, process, child
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


async def test_processes_are_killed_before_their_run_is_settled(shared_database, run_process, monkeypatch):
    """When a run is settled for its dead owner nothing of it lives on this host, though it lost its environment."""
    run_id, process, child = run_process
    recorded = RunProcess(processes.read_host(), processes.read_identity(process.pid), process.pid)
    remains = await leave_behind(shared_database, id=run_id, run_process=recorded)
    async with open_house(shared_database) as house:
        settle = house.supervisor.journal.settle

        async def look_and_settle(*args):
            assert process.poll() == -signal.SIGKILL
            assert processes.read_identity(child) is None
            await settle(*args)

        monkeypatch.setattr(house.supervisor.journal, "settle", look_and_settle)
        await inherit(house, remains)
        assert (await house.read_run(run_id)).status == "aborted"


async def test_a_process_that_was_not_recorded_is_found_by_its_environment(shared_database, run_process):
    """What was spawned but not yet recorded when the owner died carries the run's id, and is killed."""
    run_id, process, child = run_process
    remains = await leave_behind(shared_database, id=run_id)
    async with open_house(shared_database) as house:
        await inherit(house, remains)
    assert process.wait(10) == -signal.SIGKILL
    os.kill(child, signal.SIGKILL)


async def test_a_process_that_cannot_be_killed_does_not_keep_its_run(shared_database, monkeypatch):
    """What does not die in time is logged by name; the run is settled all the same."""
    remains = await leave_behind(shared_database)

    async def never(_leaders, **_options):
        await trio.sleep_forever()

    monkeypatch.setattr(processes, "kill_run_processes", never)
    monkeypatch.setattr(takeover, "KILL_SECONDS", 0.05)
    async with open_house(shared_database) as house:
        with structlog.testing.capture_logs() as logs, trio.fail_after(DEADLINE):
            await inherit(house, remains)
        assert [line["run_ids"] for line in logs if line["log_level"] == "error"] == [remains.run_ids]
        assert (await house.read_run(remains.run_ids[0])).status == "aborted"
