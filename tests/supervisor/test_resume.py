"""Runs that survive their owner: released, kept in their chat, claimed as the next attempt, or given up."""

import os
import time
from contextlib import asynccontextmanager

import attrs
import pytest
import structlog
import trio

from outlive import errors
from outlived.agents import AgentBroken
from outlived.agents.command import CommandAgent
from outlived.chores.sweeper import sweep_all
from outlived.identifiers import make_id
from outlived.journal.items import OwnershipLost
from outlived.settings import RunSettings, SweepSettings
from outlived.store.stops import mark_stop
from outlived.supervisor import takeover
from outlived.supervisor.drain import drain
from outlived.supervisor.registry import Cause
from outlived.supervisor.stop import stop
from tests.support.history import assert_history
from tests.support.house import FAST, Acting, ask, leave_behind, open_house, wait_for

ENDLESS = {"demo": {"delay_ms": 3_600_000}}
TWICE = attrs.evolve(FAST, run=RunSettings(grace_seconds=2, drain_seconds=0, max_attempts=2))
LOST = ["run.created", "run.started", "text.delta", "run.adopted", "run.released"]


HOME = make_id()


async def finish(desk):
    """An agent that is done soon."""
    await desk.emit_text(f"; attempt {desk.assignment.attempt}")


async def stay(desk):
    """An agent that says which attempt it is, and stays."""
    await desk.emit_text(f"{desk.assignment.attempt} ")
    await trio.sleep_forever()


def list_types(log):
    return [event.type for event in log]


async def leave_resumable(dsn, **changes):
    """What a daemon leaves that died with a run of agent ``go``; the run's id."""
    spec = {"agent": "go", "on_owner_loss": "resume", **changes}
    [run_id] = (await leave_behind(dsn, **spec)).run_ids
    return run_id


@asynccontextmanager
async def open_doomed(dsn, **options):
    """A house that dies at the end: its owner is dead, and nothing of its runs is written any more."""
    async with open_house(dsn, **options) as house:
        yield house
        owner = house.supervisor.journal.owner
        await ask(
            dsn,
            "UPDATE outlived.owners SET dead_at = clock_timestamp() WHERE id = %(owner)s",
            owner=owner,
        )
        house.supervisor.journal.lose()


async def end(house):
    assert await drain(house.supervisor, trio.Event())


# ---------------------------------------------------------------- a dead owner


async def test_a_run_goes_on_as_its_next_attempt(shared_database):
    """A dead owner's run is released and claimed in one sweep: its log and its message continue, attempt and epoch rise."""
    run_id = await leave_resumable(shared_database, input="hello")
    async with open_house(shared_database, agents={"go": finish}) as house:
        assert await sweep_all(house.supervisor) == 2
        run = await house.wait_settled(run_id)
        assert (run.status, run.attempt, run.epoch, run.error) == ("succeeded", 2, 3, None)
        log = await house.read_log(run_id)
        assert list_types(log) == [*LOST, "run.started", "text.delta", "run.settled"]
        assert log[4].data == {"reason": "owner_lost"}
        me = house.supervisor.journal.owner
        assert log[5].data == {"attempt": 2, "owner": me, "epoch": 3}
        assert (await house.read_message(run_id)).content == "so far; attempt 2"
        assert run.started_at == log[1].at
    assert_history(shared_database, settled=True)


async def test_without_the_agent_it_waits_in_its_chat(shared_database):
    """A daemon that lacks the agent releases the run and lets it be; a start in its chat is told so, and at once."""
    run_id = await leave_resumable(shared_database, chat_id="kept")
    async with open_house(shared_database) as house:
        began = time.monotonic()
        with pytest.raises(errors.RunActive) as refused:
            await house.start("demo", chat_id="kept")
        assert refused.value.data["active_run_id"] == run_id
        assert time.monotonic() - began < 4
        run = await house.read_run(run_id)
        assert (run.status, run.owner, run.attempt, run.epoch) == ("pending", None, 1, 2)
        assert await sweep_all(house.supervisor, uptime=1e9) == 0
        with pytest.raises(errors.RunActive):
            await house.start("demo", chat_id="kept")
        async with open_house(shared_database, agents={"go": finish}) as other:
            assert await sweep_all(other.supervisor) == 1
            assert (await other.wait_settled(run_id)).attempt == 2
        assert (await house.perform("demo", chat_id="kept")).status == "succeeded"
    assert_history(shared_database, settled=True)


async def test_an_agent_that_cannot_be_started_here_claims_nothing(shared_database):
    """A daemon whose agent is broken leaves the run to others, and says so."""
    run_id = await leave_resumable(shared_database)

    class Broken(Acting):
        def check(self):
            raise AgentBroken("cannot import it")

    async with open_house(shared_database, agents={"go": Broken(finish)}) as house:
        with structlog.testing.capture_logs() as logs:
            assert await sweep_all(house.supervisor, uptime=1e9) == 1
        assert [line["agent"] for line in logs if "cannot be started" in line["event"]] == ["go"]
        assert (await house.read_run(run_id)).owner is None
        await stop(house.supervisor, run_id, reason=None, by="me", wait_seconds=0)
    assert_history(shared_database, settled=True)


async def test_of_many_that_claim_one_gets_each_run(shared_database):
    """Daemons that sweep at the same time begin each attempt once."""
    performed = []

    async def count(desk):
        performed.append((desk.assignment.run_id, desk.assignment.attempt))

    remains = await leave_behind(shared_database, 30, agent="go", on_owner_loss="resume")
    agents = {"go": count}
    async with (
        open_house(shared_database, agents=agents) as a,
        open_house(shared_database, agents=agents) as b,
    ):
        async with trio.open_nursery() as nursery:
            for house in (a, b, a, b):
                nursery.start_soon(sweep_all, house.supervisor)
        for run_id in remains.run_ids:
            await wait_for(lambda: not len(a.registry) and not len(b.registry))
            assert (await a.wait_settled(run_id)).status == "succeeded"
    assert sorted(performed) == sorted((run_id, 2) for run_id in remains.run_ids)
    assert_history(shared_database, settled=True)


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_lost_attempts_are_bounded(shared_database, limit):
    """When as many attempts as may be were lost with their owners, the run has failed."""
    settings = attrs.evolve(FAST, run=RunSettings(max_attempts=limit))
    run_id = await leave_resumable(shared_database)
    options = {"agents": {"go": stay}, "settings": settings}
    for attempt in range(2, limit + 1):
        async with open_doomed(shared_database, **options) as house:
            await sweep_all(house.supervisor)
            await wait_for(lambda house=house: len(house.registry))
            assert (await house.read_run(run_id)).attempt == attempt
    async with open_house(shared_database, **options) as house:
        await sweep_all(house.supervisor)
        run = await house.wait_settled(run_id)
        assert (run.status, run.error["code"], run.attempt) == ("failed", "too_many_attempts", limit)
        log = await house.read_log(run_id)
        assert list_types(log).count("run.released") == limit - 1
    assert_history(shared_database, settled=True)


async def test_a_run_that_may_not_be_resumed_is_not(shared_database):
    """A run bound to its client has lost it with its owner; one of which a process cannot be killed would be there twice."""
    attached = await leave_resumable(shared_database, detached=False)
    async with open_house(shared_database, agents={"go": finish}) as house:
        await sweep_all(house.supervisor)
        haunted = await leave_resumable(shared_database)

        async def fail_to_kill(_supervisor, run_ids):
            return run_ids

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(takeover, "_kill_recorded_processes", fail_to_kill)
            await sweep_all(house.supervisor)
        for run_id in (attached, haunted):
            run = await house.wait_settled(run_id)
            assert (run.status, run.error["code"], run.attempt) == ("aborted", "owner_lost", 1)
    assert_history(shared_database, settled=True)


async def test_the_backstop_gives_up_what_nobody_claims(shared_database):
    """A released run whose agent no daemon has is settled as lost, ten minutes after it was released."""
    run_id = await leave_resumable(shared_database)
    async with open_house(shared_database) as house:
        await sweep_all(house.supervisor)
        assert await sweep_all(house.supervisor, uptime=1e9) == 0
        hasty = attrs.evolve(house.supervisor, settings=attrs.evolve(FAST, sweep=SweepSettings(15, 0.001)))
        assert await sweep_all(hasty, uptime=1e9) == 1
        run = await house.wait_settled(run_id)
        assert (run.status, run.error["code"]) == ("aborted", "owner_lost")
    assert_history(shared_database, settled=True)


async def test_an_owner_that_cannot_be_heard_gives_its_runs_back(shared_database):
    """A run that its own distrusting owner cancelled is released as lost, and counted as that."""
    async with open_house(shared_database, agents={"go": stay}, settings=TWICE) as house:
        run = await house.start("go", on_owner_loss="resume")
        for attempt in (1, 2):
            await wait_for(lambda: house.registry.find(run.id))
            await house.wait_logged(run.id, "text.delta")
            assert (await house.read_run(run.id)).attempt == attempt
            house.registry.find(run.id).cancel(Cause.DISTRUST)
            await wait_for(lambda: house.registry.find(run.id) is None)
            await sweep_all(house.supervisor)
        run = await house.wait_settled(run.id)
        assert (run.status, run.error["code"], run.attempt) == ("failed", "too_many_attempts", 2)
        released = [event for event in await house.read_log(run.id) if event.type == "run.released"]
        assert [event.data for event in released] == [{"reason": "owner_lost"}]
    assert_history(shared_database, settled=True)


async def test_who_does_not_trust_itself_claims_nothing(shared_database):
    """An owner that may be believed dead by others begins no attempt."""
    run_id = await leave_resumable(shared_database)
    async with open_house(shared_database, agents={"go": finish}) as house:
        house.supervisor.trust.renewed(-1e9)
        assert await sweep_all(house.supervisor) == 1
        assert (await house.read_run(run_id)).owner is None
        house.supervisor.trust.renewed(time.clock_gettime(time.CLOCK_BOOTTIME))
        assert await sweep_all(house.supervisor) == 1
        assert (await house.wait_settled(run_id)).status == "succeeded"


# ---------------------------------------------------------------- a stop


@pytest.mark.parametrize("has_agent", [True, False])
async def test_a_released_run_is_stopped_at_once(shared_database, has_agent):
    """Who is asked to stop a released run settles it: aborted, without an error, and it never starts again."""
    run_id = await leave_resumable(shared_database)
    async with open_house(shared_database) as house:
        await sweep_all(house.supervisor)
    async with open_house(shared_database, agents={"go": finish} if has_agent else {}) as house:
        outcome = await stop(house.supervisor, run_id, reason="enough", by="me", wait_seconds=0)
        assert outcome == "stopped"
        run = await house.wait_settled(run_id)
        assert (run.status, run.error, run.stop_reason, run.attempt) == ("aborted", None, "enough", 1)
        log = await house.read_log(run_id)
        assert list_types(log) == [*LOST, "run.adopted", "run.stop_requested", "run.settled"]
        assert await sweep_all(house.supervisor) == 0
    assert_history(shared_database, settled=True)


@pytest.mark.parametrize("has_agent", [True, False])
async def test_a_mark_on_a_released_run_is_found_by_the_sweep(shared_database, has_agent):
    """If who wrote the mark could not act, the next sweep of any daemon settles the run; nobody claims it."""
    run_id = await leave_resumable(shared_database)
    async with open_house(shared_database) as house:
        await sweep_all(house.supervisor)
        await mark_stop(house.supervisor.store.stops, run_id, reason="enough", by="me")
    async with open_house(shared_database, agents={"go": finish} if has_agent else {}) as house:
        assert await sweep_all(house.supervisor) == 1
        run = await house.wait_settled(run_id)
        assert (run.status, run.error, run.stop_reason, run.attempt) == ("aborted", None, "enough", 1)
    assert_history(shared_database, settled=True)


async def test_a_dead_owners_marked_run_is_not_released(shared_database):
    """A run that was to be stopped when its owner died is stopped, not resumed."""
    run_id = await leave_resumable(shared_database)
    async with open_house(shared_database, agents={"go": finish}) as house:
        await mark_stop(house.supervisor.store.stops, run_id, reason="enough", by="me")
        await sweep_all(house.supervisor)
        run = await house.wait_settled(run_id)
        assert (run.status, run.error, run.attempt) == ("aborted", None, 1)
    assert_history(shared_database, settled=True)


# ---------------------------------------------------------------- a drain


async def test_restarts_that_are_asked_for_never_use_a_run_up(shared_database):
    """A draining daemon releases its run, the next one goes on with it, however often that happens."""
    async with open_house(shared_database, agents={"go": stay}, settings=TWICE) as house:
        run = await house.start("go", on_owner_loss="resume", chat_id="long")
        await house.wait_logged(run.id, "text.delta")
        await end(house)
        assert len(house.registry) == 0
        found = await house.read_run(run.id)
        assert (found.status, found.owner, found.error) == ("pending", None, None)
        assert await sweep_all(house.supervisor) == 0
    for attempt in range(2, 6):
        async with open_house(shared_database, agents={"go": stay}, settings=TWICE) as house:
            assert await sweep_all(house.supervisor) == 1
            said = "".join(f"{number} " for number in range(1, attempt + 1))
            await wait_for(lambda house=house: len(house.registry))

            async def has_said(house=house, said=said):
                return (await house.read_message(run.id)).content == said

            await wait_for(has_said)
            await end(house)
    async with open_house(shared_database, agents={"go": finish}, settings=TWICE) as house:
        await sweep_all(house.supervisor)
        run = await house.wait_settled(run.id)
        assert (run.status, run.attempt) == ("succeeded", 6)
        released = [event for event in await house.read_log(run.id) if event.type == "run.released"]
        assert [event.data for event in released] == [{"reason": "shutdown"}] * 5
    assert_history(shared_database, settled=True)


async def test_a_run_accepted_just_before_the_drain_is_released(shared_database):
    """A run that the drain met before its agent began is not lost: it begins at the next daemon."""
    async with open_house(shared_database, agents={"go": finish}, settings=TWICE) as house:
        start_run = house.supervisor.journal.start

        async def drain_and_start(spec, on_commit):
            house.supervisor.draining.set()
            return await start_run(spec, on_commit)

        house.supervisor.journal.start = drain_and_start
        run = await house.start("go", on_owner_loss="resume")
        await end(house)
        assert list_types(await house.read_log(run.id)) == ["run.created", "run.released"]
    async with open_house(shared_database, agents={"go": finish}) as house:
        await sweep_all(house.supervisor)
        assert (await house.wait_settled(run.id)).status == "succeeded"
    assert_history(shared_database, settled=True)


async def test_what_ends_in_time_or_was_stopped_is_not_released(shared_database):
    """A drain releases only what it cuts short itself."""

    async def end_well(desk):
        await desk.emit_text("ready")
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            desk.note_end(None)
            raise

    agents = {"well": end_well, "stay": stay}
    async with open_house(shared_database, agents=agents, settings=TWICE) as house:
        runs = [await house.start(name, on_owner_loss="resume") for name in ("well", "stay", "stay")]
        plain = await house.start("stay")
        bound = await house.start("stay", on_owner_loss="resume", detached=False)
        for run in [*runs, plain, bound]:
            await house.wait_logged(run.id, "text.delta")
        await mark_stop(house.supervisor.store.stops, runs[1].id, reason="enough", by="me")
        await end(house)
        found = [await house.read_run(run.id) for run in [*runs, plain, bound]]
        assert [run.status for run in found] == ["succeeded", "aborted", "pending", "aborted", "aborted"]
        assert [(run.error or {}).get("code") for run in found] == [None, None, None, "shutdown", "shutdown"]
        await stop(house.supervisor, runs[2].id, reason=None, by="me", wait_seconds=0)
    assert_history(shared_database, settled=True)


async def test_a_daemon_told_twice_releases_too(shared_database):
    """A hurry ends the waiting, not the promise to go on."""
    patient = attrs.evolve(FAST, run=RunSettings(drain_seconds=1000))
    async with open_house(shared_database, agents={"go": stay}, settings=patient) as house:
        run = await house.start("go", on_owner_loss="resume")
        await house.wait_logged(run.id, "text.delta")
        hurry = trio.Event()
        hurry.set()
        assert await drain(house.supervisor, hurry)
        assert (await house.read_run(run.id)).owner is None
        await stop(house.supervisor, run.id, reason=None, by="me", wait_seconds=0)


async def test_a_draining_daemon_claims_nothing(shared_database):
    """Once the drain has begun no attempt is begun, even by a sweep that was on its way; what was claimed is released."""
    run_id = await leave_resumable(shared_database)
    async with open_house(shared_database, agents={"go": stay}, settings=TWICE) as house:
        claim = house.supervisor.journal.claim

        async def drain_and_claim(*args):
            house.supervisor.draining.set()
            return await claim(*args)

        house.supervisor.journal.claim = drain_and_claim
        assert await sweep_all(house.supervisor) == 2
        await end(house)
        assert (await house.read_run(run_id)).owner is None
        house.supervisor.journal.claim = claim
        assert await sweep_all(house.supervisor) == 0
        await stop(house.supervisor, run_id, reason=None, by="me", wait_seconds=0)
    assert_history(shared_database, settled=True)


async def test_a_release_that_is_fenced_off_is_not_written(shared_database):
    """An owner that was declared dead releases nothing: its run is its reaper's."""
    async with open_doomed(shared_database, agents={"go": stay}) as house:
        run = await house.start("go", on_owner_loss="resume")
        await house.wait_logged(run.id, "text.delta")
    with pytest.raises(OwnershipLost):
        await house.supervisor.journal.release(run.id, "shutdown", None)
    async with open_house(shared_database, agents={"go": finish}) as house:
        await sweep_all(house.supervisor)
        assert (await house.wait_settled(run.id)).attempt == 2
    assert_history(shared_database, settled=True)


# ---------------------------------------------------------------- ad-hoc commands

SAY = ["sh", "-c", "echo attempt $OUTLIVE_ATTEMPT in $PWD for $WHO"]
ME = os.geteuid()
PLACES = {
    "the same user on the same machine": ({"peer_uid": ME}, "pid = pid", True),
    "another boot": ({"peer_uid": ME}, "boot_id = 'elsewhere'", False),
    "another pid namespace": ({"peer_uid": ME}, "pid_namespace = 'pid:[1]'", False),
    "another user": ({"peer_uid": ME + 1}, "pid = pid", False),
    "the same home": ({"peer_uid": ME + 1, "home_id": HOME}, "boot_id = 'elsewhere'", True),
}


@pytest.mark.parametrize(("spec", "place", "claimed"), PLACES.values(), ids=PLACES.keys())
async def test_a_command_is_resumed_where_it_was_accepted(shared_database, spec, place, claimed):
    """An ad-hoc command goes on with its directory and environment, at its home or for its user on that machine only."""
    asked = {"agent": None, "command": SAY, "cwd": "/", "env": {"WHO": "me"}, "on_owner_loss": "resume"}
    remains = await leave_behind(shared_database, **asked, **spec)
    [run_id] = remains.run_ids
    await ask(
        shared_database,
        f"UPDATE outlived.owners SET dead_at = clock_timestamp(), {place} WHERE id = %(owner)s",
        owner=remains.owner,
    )
    async with open_house(shared_database, home_id=HOME) as house:
        assert await sweep_all(house.supervisor) == 1 + claimed
        if claimed:
            assert (await house.wait_settled(run_id)).status == "succeeded"
            assert (await house.read_message(run_id)).content == "so farattempt 2 in / for me\n"
        else:
            assert (await house.read_run(run_id)).owner is None
            await stop(house.supervisor, run_id, reason=None, by="me", wait_seconds=0)
    assert_history(shared_database, settled=True)


async def test_a_command_that_had_ended_is_not_run_again(shared_database):
    """A command whose end is durable, but not its run's, ends its run as it ended itself."""
    program = CommandAgent(["sh", "-c", "echo ran; exit 3"])
    async with open_doomed(shared_database, agents={"go": program}) as house:
        lost = house.supervisor.journal.lost

        async def settle_never(*_args):
            await lost.wait()
            raise OwnershipLost("cannot settle: it was declared dead")

        house.supervisor.journal.settle = settle_never
        run = await house.start("go", on_owner_loss="resume")
        await house.wait_logged(run.id, "step.finished")
    async with open_house(shared_database, agents={"go": program}) as house:
        await sweep_all(house.supervisor)
        run = await house.wait_settled(run.id)
        assert (run.status, run.error["exit_status"], run.attempt) == ("failed", 3, 2)
        assert (await house.read_message(run.id)).content == "ran\n"
        assert run.step_count == 1
    assert_history(shared_database, settled=True)
