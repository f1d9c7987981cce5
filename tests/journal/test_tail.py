"""A tail gives every event once and in order, from the ring or the store, whoever writes the log."""

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlived.identifiers import make_id
from outlived.journal import elsewhere
from outlived.journal import hub as hub_module
from outlived.journal import tail as tail_module
from outlived.journal.elsewhere import watch_elsewhere
from outlived.journal.items import Entry
from outlived.journal.tail import Tail, wait_settled
from outlived.store import reads as reads_module
from outlived.store.owners import declare_dead
from outlived.store.postgres import DatabaseLost
from outlived.store.reads import LoggedEvent
from tests.support.journals import Desk, make_spec, open_desk, say
from tests.support.locks import Session, wait_for


@pytest.fixture
def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of other daemons are asked about often."""
    monkeypatch.setattr(elsewhere, "POLL_SECONDS", 0.01)


async def read_all(desk: Desk, run_id: str, cursor: int, found: list[LoggedEvent]) -> None:
    """Everything after a cursor, to the end."""
    with desk.hub.watch(run_id) as watched:
        tail = Tail(watched, desk.reads, cursor)
        while not tail.settled:
            page = await tail.read_next()
            assert page[0].seq == (found[-1].seq if found else cursor) + 1
            found.extend(page)


def read_log(session: Session, run_id: str) -> list[tuple[int, str, str]]:
    return session.ask("SELECT seq, type, data FROM outlived.events WHERE run_id = %s ORDER BY seq", run_id)


def show(events: list[LoggedEvent]) -> list[tuple[int, str, str]]:
    return [(event.seq, event.type, event.data) for event in events]


# ---------------------------------------------------------------- while a writer appends

chunks = st.lists(st.integers(1, 400), min_size=1, max_size=6)


@settings(
    derandomize=True, max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # fmt: skip
@given(
    log=st.lists(chunks, min_size=1, max_size=6),
    tails=st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1), st.booleans()), min_size=1, max_size=4),
    ring=st.sampled_from([0, 400, 2000, 1 << 17]),
    page_bytes=st.sampled_from([1, 700, 3000, 1 << 20]),
)
def test_any_tail_has_no_gap_and_no_repeat(
    schema: str, session: Session, monkeypatch, log: Any, tails: Any, ring: int, page_bytes: int
):
    """Tails that begin anywhere, at any time, with rings and pages of any size, all see the same whole log."""
    monkeypatch.setattr(hub_module, "RING_BYTES", ring)
    monkeypatch.setattr(hub_module, "EVENT_PAGE_BYTES", page_bytes)
    monkeypatch.setattr(reads_module, "EVENT_PAGE_BYTES", page_bytes)
    trio.run(write_and_tail, schema, session, log, tails)


async def write_and_tail(
    schema: str, session: Session, log: list[list[int]], tails: list[tuple[int, float, bool]]
) -> None:
    found: list[tuple[int, list[LoggedEvent]]] = []
    async with open_desk(schema) as desk:
        run_id = await desk.start(make_id())
        await desk.flush()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:

                def begin(moment: int) -> None:
                    for when, where, _ in tails:
                        if when == moment:
                            cursor = round(where * desk.journal.logs[run_id].run.last_seq)
                            found.append((cursor, []))
                            nursery.start_soon(read_all, desk, run_id, cursor, found[-1][1])

                for moment, sizes in enumerate(log):
                    begin(moment)
                    for number, size in enumerate(sizes):
                        entry = Entry("data", {"name": "n", "value": "x" * size})
                        await desk.journal.append(run_id, entry, wait=number % 3 == 0)
                await desk.flush()
                for moment in range(len(log), 7):
                    begin(moment)
                await desk.settle(run_id)
    whole = read_log(session, run_id)
    assert len(found) == len(tails)
    for cursor, events in found:
        assert show(events) == whole[cursor:]


async def test_a_slow_tail_falls_back_to_the_store(schema: str, session: Session, monkeypatch):
    """A watcher that the ring has left behind goes on from the store, and catches up with the ring."""
    monkeypatch.setattr(hub_module, "RING_BYTES", 2000)
    monkeypatch.setattr(tail_module, "FIRST_PAGE_BYTES", 1 << 20)
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        await desk.flush()
        with desk.hub.watch(run_id) as watched:
            tail = Tail(watched, desk.reads, 0)
            seen = await tail.read()
            for number in range(40):
                await desk.journal.append(
                    run_id, Entry("data", {"name": "n", "value": f"{number:0200}"}), wait=True
                )
            assert watched.read_after(tail.cursor) is None
            seen += await tail.read_next()
            assert tail.cursor == watched.last_seq
            await desk.settle(run_id)
            assert watched.read_after(tail.cursor) is not None
            seen += await tail.read_next()
            assert tail.settled
    assert show(seen) == read_log(session, run_id)


async def test_a_tail_at_the_end_waits(schema: str):
    """With nothing new a read is empty, and the next one waits until something is committed."""
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        await desk.flush()
        with desk.hub.watch(run_id) as watched:
            tail = Tail(watched, desk.reads, 2)
            assert await tail.read() == []
            pages: list[list[LoggedEvent]] = []

            async def read() -> None:
                pages.append(await tail.read_next())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked(0.02)
                assert pages == []
                await desk.journal.append(run_id, say("x"))
            assert [event.type for event in pages[0]] == ["text.delta"]


async def test_a_settled_run_is_tailed_to_its_end(schema: str, session: Session, monkeypatch):
    """A run that was settled long ago is read in pages to run.settled, from any cursor, without waiting."""
    monkeypatch.setattr(reads_module, "EVENT_PAGE_BYTES", 1)
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        for number in range(5):
            await desk.journal.append(run_id, say(str(number)), wait=True)
        await desk.settle(run_id)
        whole = read_log(session, run_id)
        for cursor in range(len(whole)):
            events: list[LoggedEvent] = []
            with trio.fail_after(5):
                await read_all(desk, run_id, cursor, events)
            assert show(events) == whole[cursor:]


async def test_a_tail_survives_a_database_that_is_away(schema: str, session: Session):
    """A read that fails is said so; the same tail goes on where it was."""
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        await desk.journal.append(run_id, say("a"), wait=True)
        with desk.hub.watch(run_id) as watched:
            tail = Tail(watched, desk.reads, 0)
            await desk.reads.read_progress([run_id])
            for number in (1, 2):
                for pid in session.list_pids(f"reads {number}"):
                    session.ask("SELECT pg_terminate_backend(%s)", pid)
                    await session.wait_gone(f"reads {number}", pid)
            seen: list[LoggedEvent] = []
            with trio.fail_after(10):
                while tail.cursor < 3:
                    try:
                        seen += await tail.read()
                    except DatabaseLost:
                        assert tail.cursor == 0
        assert [event.seq for event in seen] == [1, 2, 3]


# ---------------------------------------------------------------- runs of others


@pytest.mark.usefixtures("poll_often")
async def test_a_run_of_another_daemon_is_tailed(schema: str, session: Session):
    """A run that another daemon owns is seen here as it goes on, and to its end."""
    async with open_desk(schema, name="a ") as owner, open_desk(schema, name="b ") as other:
        run_id = await owner.start()
        events: list[LoggedEvent] = []
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery, trio.open_nursery() as tails:
                nursery.start_soon(watch_elsewhere, other.hub, other.reads, other.journal.owns)
                tails.start_soon(read_all, other, run_id, 0, events)
                for number in range(5):
                    await owner.journal.append(run_id, say(str(number)), wait=True)
                    await wait_for(lambda seq=number + 3: events and events[-1].seq >= seq, "it is seen")
                await owner.settle(run_id)
                await wait_for(lambda: events[-1].type == "run.settled", "the end is seen")
                nursery.cancel_scope.cancel()
    assert show(events) == read_log(session, run_id)


@pytest.mark.usefixtures("poll_often")
async def test_a_tail_outlives_its_runs_owner(schema: str, session: Session):
    """A tail on a daemon that lost the run to another one shows what that one wrote, to the end."""
    async with open_desk(schema, name="a ") as one, open_desk(schema, name="b ") as other:
        run_id = await one.start()
        events: list[LoggedEvent] = []
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery, trio.open_nursery() as tails:
                nursery.start_soon(watch_elsewhere, one.hub, one.reads, one.journal.owns)
                tails.start_soon(read_all, one, run_id, 0, events)
                await one.journal.append(run_id, say("mine"), wait=True)
                await wait_for(lambda: len(events) == 3, "the tail is live")
                assert await declare_dead(other.heart, other.owner, one.owner, proved=True, reason="test")
                one.journal.lose()
                await other.journal.take([run_id])
                await other.settle(run_id, "aborted")
                await wait_for(lambda: events[-1].type == "run.settled", "the end is seen")
                nursery.cancel_scope.cancel()
    assert [event.type for event in events[-2:]] == ["run.adopted", "run.settled"]
    assert show(events) == read_log(session, run_id)


@pytest.mark.usefixtures("poll_often")
async def test_polling_survives_a_database_that_is_away(schema: str, session: Session):
    """The poller goes on after the database was away, and finds what it missed."""
    async with open_desk(schema, name="a ") as owner, open_desk(schema, name="b ") as other:
        run_id = await owner.start()
        await owner.flush()
        with other.hub.watch(run_id) as watched, trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch_elsewhere, other.hub, other.reads, other.journal.owns)
                await wait_for(lambda: watched.last_seq == 2)
                for number in (1, 2):
                    for pid in session.list_pids(f"b reads {number}"):
                        session.ask("SELECT pg_terminate_backend(%s)", pid)
                await owner.settle(run_id)
                await wait_for(lambda: watched.settled)
                nursery.cancel_scope.cancel()
        assert watched.last_seq == 3


# ---------------------------------------------------------------- waiting for the end


async def test_waiting_for_a_settled_run_returns_at_once(schema: str):
    """A run that is settled, or that does not exist, is not waited for."""
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        await desk.settle(run_id)
        with trio.fail_after(5):
            for each in (run_id, make_id()):
                with desk.hub.watch(each) as watched:
                    await wait_settled(watched, desk.reads)


async def test_waiting_ends_with_the_settlement(schema: str):
    """Who waits is told at the settlement, and not by anything before it."""
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        await desk.flush()
        done: list[str] = []

        async def wait() -> None:
            with desk.hub.watch(run_id) as watched:
                await wait_settled(watched, desk.reads)
                done.append("settled")

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await wait_for(lambda: desk.hub.subscribers)
                await desk.journal.append(run_id, say("x"), wait=True)
                assert done == []
                await desk.settle(run_id)
        assert done == ["settled"]


async def test_waiting_has_an_end(schema: str):
    """With a deadline the wait ends, settled or not."""
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        with desk.hub.watch(run_id) as watched, trio.fail_after(5):
            await wait_settled(watched, desk.reads, 0.01)
            assert not watched.settled


async def test_a_settlement_between_look_and_wait_is_not_missed(schema: str):
    """A run settled at the very moment somebody begins to wait ends that wait."""
    async with open_desk(schema) as desk:
        for number in range(20):
            run_id = (await desk.ask(make_spec(f"chat {number}"))).run.id
            with trio.fail_after(5), desk.hub.watch(run_id) as watched:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(desk.settle, run_id))
                    nursery.start_soon(wait_settled, watched, desk.reads)
