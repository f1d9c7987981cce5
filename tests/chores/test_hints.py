"""Hints between daemons: they cut every wait, and whatever becomes of them nothing is lost.

Two houses on one database, without a heartbeat and with a poller that would sleep for an hour: what happens here
happens because of a hint.
"""

import contextlib

import psycopg
import pytest
import structlog
import trio

from outlived.journal import elsewhere
from outlived.journal.tail import Tail
from outlived.store import notices as room
from outlived.store.notices import Hint, Notices, name_channel
from outlived.store.owners import declare_dead
from outlived.store.postgres import Link
from outlived.store.stops import mark_stop
from outlived.supervisor.stop import stop
from outlived.supervisor.takeover import take_over
from outlived.supervisor.term import watch_term
from tests.support.history import assert_history
from tests.support.house import DEADLINE, open_house, wait_for
from tests.support.locks import open_session

ENDLESS = {"demo": {"delay_ms": 3_600_000}}
HEARING = ["hints", "poller"]


@pytest.fixture(autouse=True)
def no_polling(monkeypatch):
    """Only a hint makes anybody look."""
    monkeypatch.setattr(elsewhere, "POLL_SECONDS", 3600.0)


@contextlib.asynccontextmanager
async def open_pair(dsn, **options):
    async with (
        open_house(dsn, actors=HEARING, **options) as here,
        open_house(dsn, actors=HEARING) as there,
    ):
        for house in (here, there):
            await wait_listening(house)
        yield here, there


async def wait_listening(house):
    """Until it hears what is for the owner that it is now."""
    notices = house.supervisor.store.notices
    await wait_for(
        lambda: notices.listening and notices.listening == notices._list_wanted(), what="it listens"
    )


async def wait_over(seconds):
    """Until so much time has passed that whoever asked for news is forgotten."""
    began = trio.current_time()
    await wait_for(lambda: trio.current_time() - began > seconds)


async def start_endless(house, **params):
    run = await house.start("demo", input="first second", metadata=ENDLESS, **params)
    await house.wait_logged(run.id, "text.delta")
    return run


def ask(house, run_id, wait_seconds=DEADLINE):
    return stop(house.supervisor, run_id, reason="from afar", by="uid:7", wait_seconds=wait_seconds)


async def follow(house, run_id, found):
    """Everything of a run, as a tail through this house shows it."""
    with house.supervisor.hub.watch(run_id) as watched:
        tail = Tail(watched, house.supervisor.store.reads, 0)
        while not tail.settled:
            found += await tail.read_next()


# ---------------------------------------------------------------- stops


async def test_a_stop_elsewhere_is_obeyed_at_once(shared_database):
    """A stop through another daemon ends the run without any heartbeat, and whoever waits for it there hears of it."""
    async with open_pair(shared_database) as (here, there):
        run = await start_endless(here)
        assert await ask(there, run.id) == "stopped"
        run = await here.wait_settled(run.id)
        assert (run.status, run.error, run.stop_reason) == ("aborted", None, "from afar")
        assert run.owner == here.supervisor.journal.owner
    assert_history(shared_database, settled=True)


async def test_many_stops_are_one_look(shared_database, monkeypatch):
    """Fifty stops at once end fifty runs, with a few notifications between them."""
    monkeypatch.setattr(room, "PAUSE_SECONDS", 0.5)
    async with open_pair(shared_database) as (here, there):
        runs = [await start_endless(here) for _ in range(50)]
        heard = await listen_raw(here, Hint.STOP)
        async with trio.open_nursery() as nursery:
            for run in runs:
                nursery.start_soon(ask, there, run.id, 0)
        for run in runs:
            assert (await here.wait_settled(run.id)).stop_reason == "from afar"
        assert 1 <= len(heard) <= 5
    assert_history(shared_database, settled=True)


async def test_a_stop_that_was_marked_while_nobody_listened_is_found(shared_database):
    """When the ear was cut off, the daemon listens anew and looks at once for what it may have missed."""
    async with open_pair(shared_database) as (here, _):
        run = await start_endless(here)
        await mark_stop(here.supervisor.store.stops, run.id, reason="unheard", by="uid:7")
        with open_session(shared_database) as session, structlog.testing.capture_logs() as logs:
            session.ask(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                " datname = current_database() AND application_name = 'outlived listen'"
            )
            run = await here.wait_settled(run.id)
        assert run.stop_reason == "unheard"
        assert [line for line in logs if "connecting again" in line["event"]]
        again = await start_endless(here)
        await wait_listening(here)
        await mark_stop(here.supervisor.store.stops, again.id, reason="heard", by="uid:7")
        here.supervisor.store.notices.hint(Hint.STOP, here.supervisor.journal.owner)
        assert (await here.wait_settled(again.id)).stop_reason == "heard"


async def test_the_next_term_hears_too(shared_database):
    """A daemon that was declared dead and registered anew hears what is for its new owner."""
    async with open_pair(shared_database) as (here, there):
        here.services.start_soon(watch_term, here.supervisor)
        dead = here.supervisor.journal.owner
        link = Link(shared_database, "test")
        assert await declare_dead(link, there.supervisor.journal.owner, dead, proved=True, reason="test")
        link.close()
        here.supervisor.journal.lose()
        await wait_for(lambda: here.supervisor.journal.owner != dead, what="a new term")
        await wait_listening(here)
        run = await start_endless(here)
        assert await ask(there, run.id) == "stopped"


# ---------------------------------------------------------------- tails


async def test_a_tail_elsewhere_is_woken(shared_database):
    """A tail through another daemon is whole and in order, woken by nothing but hints, and news cost few of them."""
    async with open_pair(shared_database) as (here, there):
        found = []
        heard = await listen_raw(here, Hint.NEWS)
        began = trio.current_time()
        words = " ".join(f"word{number}" for number in range(200))
        run = await here.start("demo", input=words, metadata={"demo": {"delay_ms": 2}})
        with trio.fail_after(DEADLINE):
            await follow(there, run.id, found)
        seconds = trio.current_time() - began
        await here.wait_settled(run.id)
        assert [event.seq for event in found] == list(range(1, len(found) + 1))
        assert found == await here.reads.list_events(run.id, 0)
        assert 1 <= len(heard) <= seconds / room.PAUSE_SECONDS + 2


async def test_nobody_is_told_what_nobody_asked_for(shared_database, monkeypatch):
    """Without a watcher elsewhere a busy daemon gives no news; after the last one has gone it stops giving them."""
    monkeypatch.setattr(elsewhere, "WATCH_SECONDS", 0.3)
    monkeypatch.setattr("outlived.chores.hints.WATCH_SECONDS", 0.3)
    async with open_pair(shared_database) as (here, there):
        await wait_over(0.4)  # what listening anew took as heard
        heard = await listen_raw(here, Hint.NEWS)
        for _ in range(10):
            await here.perform("demo", input="a b")
        await there.perform("demo", input="a b")
        assert heard == []
        with there.supervisor.hub.watch((await start_endless(here)).id):
            await wait_for(lambda: heard, what="there are news")
        await wait_for(lambda: not there.supervisor.store.notices._followed, what="nobody follows any more")
        await wait_over(0.4)
        heard.clear()
        await here.perform("demo", input="a b")
        assert heard == []


async def test_the_end_elsewhere_is_heard(shared_database):
    """Who waits elsewhere for a run hears of its end, also when it began to wait in the middle of others."""
    async with open_pair(shared_database) as (here, there):
        run = await here.start("demo", input="a b c", metadata={"demo": {"delay_ms": 100}})
        other = await start_endless(here)
        with there.supervisor.hub.watch(other.id), there.supervisor.hub.watch(run.id) as watched:
            await wait_for(lambda: watched.settled, what="the end is seen")


async def test_a_tail_follows_its_run_to_its_next_owner(shared_database):
    """News of whoever owns the run now are heard: a tail elsewhere shows the takeover to its end."""
    async with (
        open_pair(shared_database) as (here, there),
        open_house(shared_database, actors=HEARING) as third,
    ):
        run = await start_endless(here)
        found = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, third, run.id, found)
            await wait_for(lambda: len(found) == 4, what="the tail is live")
            link = Link(shared_database, "test")
            me = there.supervisor.journal.owner
            assert await declare_dead(link, me, here.supervisor.journal.owner, proved=True, reason="test")
            link.close()
            assert await take_over(there.supervisor, [run.id]) == 1
            third.supervisor.hub.elsewhere.ring()  # the dead give no news: this is what the poller is for
        assert [event.type for event in found[-2:]] == ["run.adopted", "run.settled"]


# ---------------------------------------------------------------- what may go wrong


async def test_hints_that_cannot_be_sent_are_forgotten(shared_database, proxy):
    """Without a database nothing waits and nothing piles up; when it is back the next hint goes out."""
    notices = Notices(proxy.dsn)
    heard = []
    async with open_house(shared_database) as house, trio.open_nursery() as nursery:
        heard = await listen_raw(house, Hint.STOP)
        nursery.start_soon(notices.send)
        proxy.leave()
        for _ in range(1000):
            notices.hint(Hint.STOP, house.supervisor.journal.owner)
        await wait_for(lambda: not notices._pending, what="it was tried")
        proxy.come_back()
        await wait_for(lambda: notices.hint(Hint.STOP, house.supervisor.journal.owner) or heard, what="heard")
        nursery.cancel_scope.cancel()
    notices.close()


async def test_a_silent_connection_is_found_out(shared_database, proxy, monkeypatch):
    """An ear whose connection hangs, with no end to be seen, is asked whether it is there, and replaced."""
    monkeypatch.setattr(room, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(room, "ANSWER_SECONDS", 0.3)
    async with open_house(shared_database, through=proxy.dsn, actors=HEARING) as house:
        await wait_listening(house)
        with structlog.testing.capture_logs() as logs:
            proxy.swallow = True
            await wait_for(lambda: [line for line in logs if "connecting again" in line["event"]])
            proxy.swallow = False
        await wait_listening(house)


async def listen_raw(house, hint):
    """What anybody could hear on that channel of the house's owner, from now on: a list that grows."""
    heard = []
    connection = psycopg.connect(house.dsn, autocommit=True)
    connection.execute(f'LISTEN "{name_channel(hint, house.supervisor.journal.owner)}"')

    async def hear():
        try:
            while True:
                await trio.lowlevel.wait_readable(connection.fileno())
                heard.extend(connection.notifies(timeout=0))
        finally:
            connection.close()

    house.services.start_soon(hear)
    return heard
