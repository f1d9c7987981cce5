"""Stopping a run: the intent is durable first, and then acted on wherever the run is."""

from functools import partial

import pytest
import trio

from outlive import errors
from outlived.agents.command import CommandAgent
from outlived.identifiers import make_id
from outlived.store.postgres import DatabaseLost
from outlived.store.stops import mark_stop
from outlived.supervisor import execute, takeover
from outlived.supervisor.stop import apply_stop, stop
from tests.support.history import assert_history
from tests.support.house import DEADLINE, leave_behind, open_house
from tests.support.locks import wait_for

ENDLESS = {"demo": {"delay_ms": 3_600_000}}


async def start_endless(house, **params):
    """A run that has said its first word and would take an hour for the second."""
    run = await house.start("demo", input="first second", metadata=ENDLESS, **params)
    await house.wait_logged(run.id, "text.delta")
    return run


def ask(house, run_id, reason="enough", by="uid:7", wait_seconds=DEADLINE):
    return stop(house.supervisor, run_id, reason=reason, by=by, wait_seconds=wait_seconds)


async def list_types(house, run_id):
    return [event.type for event in await house.read_log(run_id)]


async def test_a_stop_is_marked_logged_and_settled(shared_database):
    """The row has the mark, the log who asked for what, and the run is aborted without an error."""
    async with open_house(shared_database) as house:
        run = await start_endless(house)
        assert await ask(house, run.id) == "stopped"
        run = await house.wait_settled(run.id)
        asked = await house.wait_logged(run.id, "run.stop_requested")
        message = await house.read_message(run.id)
    assert (run.status, run.error, run.stop_reason) == ("aborted", None, "enough")
    assert run.stop_requested_at is not None
    assert asked.data == {"by": "uid:7", "reason": "enough", "requested_at": run.stop_requested_at}
    assert (message.content, message.status) == ("first ", "aborted")
    assert_history(shared_database, settled=True)


async def test_a_stop_need_not_be_waited_for(shared_database):
    """Without patience the answer is that it is being stopped; with some, that it still is."""
    go = trio.Event()

    async def linger(desk):
        await desk.emit_text("ready")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await go.wait()

    async with open_house(shared_database, agents={"linger": linger}) as house:
        run = await house.start("linger")
        await house.wait_logged(run.id, "text.delta")
        assert await ask(house, run.id, wait_seconds=0) == "stopping"
        assert await ask(house, run.id, wait_seconds=0.05) == "stopping"
        assert (await house.read_run(run.id)).status == "running"
        go.set()
        assert await ask(house, run.id) in {"stopped", "already_settled"}


async def test_the_first_reason_stays(shared_database):
    """However often and from wherever a run is stopped, it was stopped once, for the first reason."""
    async with open_house(shared_database) as house:
        run = await start_endless(house)
        first = await mark_stop(house.supervisor.store.stops, run.id, reason="first", by="one")
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(partial(ask, house, run.id, reason=f"later {number}"))
        settled = await house.wait_settled(run.id)
        types = await list_types(house, run.id)
        assert (settled.stop_reason, settled.stop_requested_at) == ("first", first.mark.requested_at)
        assert types.count("run.stop_requested") == 1
        assert await ask(house, run.id, reason="too late") == "already_settled"
        assert await house.read_run(run.id) == settled
        assert await list_types(house, run.id) == types
    assert_history(shared_database, settled=True)


async def test_a_settled_run_is_not_touched_by_a_stop(shared_database):
    """A stop on a settled run changes nothing, not even a column of it."""
    async with open_house(shared_database) as house:
        run = await house.perform("demo", input="x")
        assert await ask(house, run.id) == "already_settled"
        assert await house.read_run(run.id) == run
        assert run.stop_requested_at is None


async def test_a_run_that_is_not_there_cannot_be_stopped(shared_database):
    """An unknown run is not found."""
    async with open_house(shared_database) as house:
        with pytest.raises(errors.NotFound, match="cannot find run"):
            await ask(house, make_id())


async def test_a_stop_before_the_start_is_honoured_at_the_start(shared_database, monkeypatch):
    """A mark that another daemon wrote before the agent starts keeps it from starting at all."""
    go, looking = trio.Event(), trio.Event()
    look = execute.read_stop

    async def look_later(*args):
        looking.set()
        await go.wait()
        return await look(*args)

    monkeypatch.setattr(execute, "read_stop", look_later)
    monkeypatch.setattr(execute, "HELD_UP_SECONDS", -1)
    performed = []

    async def act(_desk):
        performed.append(True)

    async with open_house(shared_database, agents={"act": act}) as house:
        run = await house.start("act")
        await looking.wait()
        await mark_stop(house.supervisor.store.stops, run.id, reason="early", by="elsewhere")
        go.set()
        run = await house.wait_settled(run.id)
        assert (run.status, run.stop_reason, run.started_at) == ("aborted", "early", None)
        assert await list_types(house, run.id) == ["run.created", "run.stop_requested", "run.settled"]
    assert performed == []
    assert_history(shared_database, settled=True)


async def test_a_stop_of_ours_before_the_start_is_honoured_too(shared_database, monkeypatch):
    """A stop through this daemon that overtakes the run's own beginning ends it before its agent starts."""
    looking = trio.Event()

    async def look_for_ever(*_args):
        looking.set()
        await trio.sleep_forever()

    monkeypatch.setattr(execute, "read_stop", look_for_ever)
    monkeypatch.setattr(execute, "HELD_UP_SECONDS", -1)
    async with open_house(shared_database) as house:
        run = await house.start("demo", input="never said")
        await looking.wait()
        assert await ask(house, run.id) == "stopped"
        run = await house.wait_settled(run.id)
        assert (run.status, run.error, run.started_at) == ("aborted", None, None)


async def test_a_stop_while_the_database_is_away(shared_database, proxy):
    """A run of ours is ended even then: who asked is told that the mark is not durable, the settlement carries it."""
    ended = trio.Event()

    async def act(desk):
        await desk.emit_text("ready")
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with open_house(shared_database, through=proxy.dsn, agents={"act": act}) as house:
        run = await house.start("act")
        await house.wait_logged(run.id, "text.delta")
        proxy.leave()
        with pytest.raises(DatabaseLost):
            await ask(house, run.id, reason="now", by="me")
        with trio.fail_after(DEADLINE):
            await ended.wait()
        assert (await house.read_run(run.id)).stop_requested_at is None
        proxy.come_back()
        run = await house.wait_settled(run.id)
        asked = await house.wait_logged(run.id, "run.stop_requested")
    assert (run.status, run.error, run.stop_reason) == ("aborted", None, "now")
    assert run.stop_requested_at == asked.data["requested_at"]
    assert asked.data["by"] == "me"
    assert_history(shared_database, settled=True)


async def test_a_run_of_another_owner_is_that_owners_to_end(shared_database):
    """A stop through another daemon is only a mark; the owner acts on it with its next heartbeat."""
    async with (
        open_house(shared_database) as other,
        open_house(shared_database, actors=["heartbeat"]) as house,
    ):
        run = await start_endless(house)
        assert await ask(other, run.id, wait_seconds=0) == "stopping"
        run = await house.wait_settled(run.id)
        assert (run.status, run.error, run.stop_reason) == ("aborted", None, "enough")
        assert run.owner == house.supervisor.journal.owner
        assert await list_types(house, run.id) == [
            "run.created",
            "run.started",
            "step.started",
            "text.delta",
            "run.stop_requested",
            "run.settled",
        ]


async def test_whoever_waits_elsewhere_hears_of_the_end(shared_database):
    """A stop that waits, through a daemon that does not own the run, returns when its owner has settled it."""
    async with (
        open_house(shared_database, actors=["poller"]) as other,
        open_house(shared_database, actors=["heartbeat"]) as house,
    ):
        run = await start_endless(house)
        assert await ask(other, run.id) == "stopped"


async def test_a_stop_of_a_dead_owners_run_settles_it(shared_database):
    """A run whose owner is provably dead is taken over, and settled as what it is: stopped."""
    remains = await leave_behind(shared_database)
    async with open_house(shared_database) as house:
        assert await ask(house, remains.run_ids[0]) == "stopped"
        run = await house.read_run(remains.run_ids[0])
        assert (run.status, run.error, run.stop_reason) == ("aborted", None, "enough")
        assert (run.owner, run.epoch) == (house.supervisor.journal.owner, 2)
        assert (await house.read_message(run.id)).content == "so far"
    assert_history(shared_database, settled=True)


async def test_a_stop_of_an_ownerless_run_settles_it(shared_database):
    """A run that is nobody's is taken over and settled at once."""
    remains = await leave_behind(shared_database)
    [run_id] = remains.run_ids
    async with open_house(shared_database) as house:
        await house.ask("UPDATE outlived.runs SET owner = NULL WHERE id = %(id)s", id=run_id)
        assert await ask(house, run_id) == "stopped"
        run = await house.read_run(run_id)
        assert (run.status, run.error, run.stop_reason) == ("aborted", None, "enough")
    assert_history(shared_database, settled=True)


async def test_a_stop_is_logged_once_whoever_acts_first(shared_database, monkeypatch):
    """A heartbeat that brings the mark of a run just being taken over does not log it a second time."""
    remains = await leave_behind(shared_database)
    [run_id] = remains.run_ids
    read = takeover.read_stop

    async def beat_and_read(link, run_id):
        found = await read(link, run_id)
        assert apply_stop(house.supervisor, run_id, found.mark)
        return found

    monkeypatch.setattr(takeover, "read_stop", beat_and_read)
    async with open_house(shared_database) as house:
        assert await ask(house, run_id) == "stopped"
        assert (await list_types(house, run_id)).count("run.stop_requested") == 1
        assert (await house.read_run(run_id)).stop_reason == "enough"
    assert_history(shared_database, settled=True)


async def test_a_command_that_ended_by_itself_was_not_stopped(shared_database):
    """A stop that comes while a program's natural end is being written marks the run, and changes nothing else."""
    async with open_house(
        shared_database, agents={"program": CommandAgent(["sh", "-c", "echo done; exit 3"])}
    ) as house:
        journal = house.supervisor.journal
        append = journal.append

        async def stop_first(run_id, entry, *, wait=False):
            if entry.type == "step.finished":
                await ask(house, run_id, wait_seconds=0)
                await wait_for(lambda: house.registry.find(run_id).scope.cancel_called)
            await append(run_id, entry, wait=wait)

        journal.append = stop_first
        run = await house.start("program")
        run = await house.wait_settled(run.id)
    assert (run.status, run.error["code"], run.stop_reason) == ("failed", "exit_status", "enough")
    assert run.step_count == 1
    assert_history(shared_database, settled=True)
