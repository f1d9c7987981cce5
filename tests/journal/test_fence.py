"""The owner's row is the fence: a reaper and a batch in flight race for it, in every order, forced by locks."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from outlived.identifiers import make_id
from outlived.journal import writer
from outlived.journal.items import Created, JournalRefused, OwnershipLost
from outlived.store.owners import declare_dead, read_living, read_takeable, read_unsettled, renew, retire
from outlived.store.postgres import DatabaseLost, Link
from tests.support.history import assert_history
from tests.support.journals import LEASE_SECONDS, Desk, make_owner, make_spec, open_desk, say
from tests.support.locks import Session, wait_for
from tests.support.proxy import Cut, Proxy

LOCK_OWNER = "SELECT 1 FROM outlived.owners WHERE id = %s FOR UPDATE"
LOCK_CHAT = "SELECT 1 FROM outlived.chats WHERE chat_id = %s FOR UPDATE"
KILL = "UPDATE outlived.owners SET dead_at = clock_timestamp() WHERE id = %s AND dead_at IS NULL RETURNING 1"
EXPIRE = "UPDATE outlived.owners SET lease_until = clock_timestamp() - interval '1 second' WHERE id = %s"


@pytest.fixture
def sweep(schema: str) -> Iterator[Link]:
    """The reaper's own connection."""
    link = Link(schema, "sweep")
    yield link
    link.close()


class Outcomes:
    """What tasks came to: a value or an exception, by name."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.of: dict[str, Any] = {}

    def begin(self, name: str, fn: Any, *arguments: Any, **options: Any) -> None:
        async def run() -> None:
            try:
                self.of[name] = await fn(*arguments, **options)
            except (DatabaseLost, JournalRefused, OwnershipLost) as error:
                self.of[name] = error

        self._nursery.start_soon(run, name=name)


def count_events(session: Session) -> int:
    return session.ask_one("SELECT count(*) FROM outlived.events")


def read_owner(session: Session, owner: str) -> tuple[int, bool]:
    """(batch_no, whether it is declared dead)"""
    [row] = session.ask("SELECT batch_no, dead_at IS NOT NULL FROM outlived.owners WHERE id = %s", owner)
    return row


async def reap(sweep: Link, desk: Desk, *, proved: bool = True) -> bool:
    """Declare the desk's owner dead, as somebody else."""
    return await declare_dead(sweep, make_id(), desk.owner, proved=proved, reason="test")


# ---------------------------------------------------------------- the race


async def test_the_reaper_comes_first(schema: str, session: Session, sweep: Link):
    """A batch behind the reaper in the queue for the owner's row finds the fence shut and writes nothing."""
    async with open_desk(schema) as desk:
        run_id = await desk.start("before")
        await desk.flush()
        before = (count_events(session), read_owner(session, desk.owner)[0])
        session.lock(LOCK_OWNER, desk.owner)
        async with trio.open_nursery() as nursery:
            outcomes = Outcomes(nursery)
            outcomes.begin("reaper", reap, sweep, desk)
            reaper = await session.wait_blocked("sweep", session.pid)
            outcomes.begin("start", desk.ask, make_spec("late"))
            outcomes.begin("append", desk.journal.append, run_id, say("late"), wait=True)
            await session.wait_blocked("journal", reaper, session.pid)
            session.release()
        assert outcomes.of["reaper"] is True
        assert isinstance(outcomes.of["start"], OwnershipLost)
        assert isinstance(outcomes.of["append"], OwnershipLost)
        assert desk.journal.lost.is_set()
        assert (count_events(session), read_owner(session, desk.owner)[0]) == before
    assert_history(schema, acknowledged={run_id})


async def test_the_batch_comes_first(schema: str, session: Session, sweep: Link):
    """A batch before the reaper is committed whole and acknowledged; the reaper comes after it, and ends the term."""
    async with open_desk(schema) as desk:
        session.lock(LOCK_OWNER, desk.owner)
        async with trio.open_nursery() as nursery:
            outcomes = Outcomes(nursery)
            spec = make_spec("in time")
            outcomes.begin("start", desk.ask, spec)
            batch = await session.wait_blocked("journal", session.pid)
            outcomes.begin("reaper", reap, sweep, desk)
            await session.wait_blocked("sweep", batch, session.pid)
            session.release()
        assert isinstance(outcomes.of["start"], Created)
        assert outcomes.of["reaper"] is True
        assert read_owner(session, desk.owner) == (1, True)
        with pytest.raises(OwnershipLost):
            await desk.journal.append(spec.id, say("late"), wait=True)
        assert await read_takeable(
            sweep, agents=[], backstop_seconds=600, backstop_open=False, adopt_seconds=0
        ) == [spec.id]
    assert_history(schema, acknowledged={spec.id})


async def test_the_reaper_comes_in_the_middle(schema: str, session: Session, sweep: Link):
    """A reaper cannot slip between a batch's fence and its commit: it waits, and sees all that was written."""
    async with open_desk(schema) as desk:
        run_id = await desk.start("held")
        await desk.flush()
        session.lock(LOCK_CHAT, "held")
        async with trio.open_nursery() as nursery:
            outcomes = Outcomes(nursery)
            outcomes.begin("settle", desk.settle, run_id)
            batch = await session.wait_blocked("journal", session.pid)
            outcomes.begin("reaper", reap, sweep, desk)
            await session.wait_blocked("sweep", batch)
            session.release()
        assert outcomes.of == {"settle": None, "reaper": True}
        assert (
            await read_takeable(sweep, agents=[], backstop_seconds=600, backstop_open=False, adopt_seconds=0)
            == []
        )
    assert_history(schema, acknowledged={run_id}, settled=True)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
async def test_a_reaper_that_has_not_committed_yet(schema: str, session: Session, end: str):
    """A batch waits for a reaper's decision: a death that is taken back costs nothing, a committed one everything."""
    async with open_desk(schema) as desk:
        session.lock(KILL, desk.owner)
        async with trio.open_nursery() as nursery:
            outcomes = Outcomes(nursery)
            outcomes.begin("start", desk.ask, make_spec("c"))
            await session.wait_blocked("journal", session.pid)
            session.ask(end)
        stored = session.ask_one("SELECT count(*) FROM outlived.runs")
        if end == "COMMIT":
            assert isinstance(outcomes.of["start"], OwnershipLost)
            assert (stored, desk.journal.lost.is_set()) == (0, True)
        else:
            assert isinstance(outcomes.of["start"], Created)
            assert (stored, desk.journal.lost.is_set()) == (1, False)


async def test_everything_queued_fails_with_the_owner(schema: str, session: Session, sweep: Link):
    """After a death nothing of the old queue is written, and every waiter hears that the ownership is lost."""
    async with open_desk(schema) as desk:
        talking, ending = await desk.start("talking"), await desk.start("ending")
        await desk.flush()
        before = count_events(session)
        session.lock(KILL, desk.owner)
        async with trio.open_nursery() as nursery:
            outcomes = Outcomes(nursery)
            outcomes.begin("in hand", desk.ask, make_spec("gate"))
            await session.wait_blocked("journal", session.pid)
            outcomes.begin("start", desk.ask, make_spec("new"))
            outcomes.begin("append", desk.journal.append, talking, say("late"), wait=True)
            outcomes.begin("settle", desk.settle, ending)
            outcomes.begin("take", desk.journal.take, [talking])
            await wait_for(lambda: len(desk.journal._queue) == 4, "all is queued")
            session.release()
        assert {type(outcome) for outcome in outcomes.of.values()} == {OwnershipLost}
        assert len(outcomes.of) == 5
        assert (count_events(session), desk.journal.queued_bytes, dict(desk.journal.logs)) == (before, 0, {})
        for call in (
            desk.ask(make_spec("later")),
            desk.journal.append(talking, say("later")),
            desk.settle(ending),
        ):
            with pytest.raises(OwnershipLost):
                await call
        assert count_events(session) == before


async def test_a_new_term_begins_clean(schema: str, session: Session, sweep: Link):
    """After a loss the journal writes for a new owner; runs of the old one can be taken, and nothing of it revives."""
    async with open_desk(schema) as desk:
        old = desk.owner
        run_id = await desk.start("c")
        await desk.journal.append(run_id, say("said"), wait=True)
        assert await reap(sweep, desk)
        with pytest.raises(OwnershipLost):
            await desk.journal.append(run_id, say("unsaid"), wait=True)
        assert not await renew(desk.heart, old, LEASE_SECONDS)
        desk.journal.begin_term(await make_owner(desk.heart))
        assert not desk.journal.owns(run_id)
        [taken] = await desk.journal.take([run_id])
        assert (taken.run_id, taken.last_seq) == (run_id, 3)
        other = await desk.start("d")
        await desk.settle(other)
        assert read_owner(session, old)[1]
        assert read_owner(session, desk.owner)[0] >= 2
        epochs = session.ask(
            "SELECT epoch, count(*) FROM outlived.events WHERE run_id = %s GROUP BY 1 ORDER BY 1", run_id
        )
        assert epochs == [(1, 3), (2, 1)]


async def test_a_loss_between_two_tries_is_final(schema: str, session: Session, monkeypatch):
    """An item the writer was about to try again when its owner was lost is not written for the next owner."""
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.2)
    async with open_desk(schema) as desk:
        await desk.settle(await desk.start("held"))
        async with trio.open_nursery() as nursery:
            outcomes = Outcomes(nursery)
            refuse_once(monkeypatch)
            outcomes.begin("start", desk.ask, make_spec("held"))
            await wait_for(lambda: desk.journal._in_hand and not desk.journal._queue)
            await wait_for(lambda: refused, "the writer pauses before the second try")
            desk.journal.lose()
            desk.journal.begin_term(await make_owner(desk.heart))
            again = await desk.start("other")
        assert isinstance(outcomes.of["start"], OwnershipLost)
        await desk.settle(again)
        assert desk.journal.queued_bytes == 0
    assert session.ask("SELECT chat_id FROM outlived.runs ORDER BY id") == [("held",), ("other",)]


refused: list[str] = []


def refuse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next batch's first half be refused as if a deadlock had hit it; then all is as usual."""
    refused.clear()
    write_batch = writer.write_batch

    async def refuse(connection: Any, fence: Any, batch: Any) -> None:
        if not refused:
            refused.append(fence.owner)
            await connection.execute(
                "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'deadlock_detected'; END $$"
            )
        await write_batch(connection, fence, batch)

    monkeypatch.setattr(writer, "write_batch", refuse)


# ---------------------------------------------------------------- a death and an unsure commit


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_death_after_an_unsure_commit(
    schema: str, session: Session, sweep: Link, proxy: Proxy, arrives: bool
):
    """A commit nobody heard of, then a death: what was committed is acknowledged all the same, what was not is lost."""
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        proxy.faults.append(Cut.HELD)
        async with trio.open_nursery() as nursery:
            outcomes = Outcomes(nursery)
            outcomes.begin("start", desk.ask, make_spec("c"))
            await wait_for(lambda: proxy.held, "the commit is held")
            proxy.leave()
            outcomes.begin("reaper", reap, sweep, desk)
            await session.wait_blocked("sweep")
            await (proxy.deliver() if arrives else proxy.drop())
            await wait_for(lambda: outcomes.of.get("reaper"), "the owner is dead")
            proxy.come_back()
        await wait_for(desk.journal.lost.is_set)
        assert isinstance(outcomes.of["start"], Created if arrives else OwnershipLost)
        assert len(desk.created) == arrives
    assert session.ask_one("SELECT count(*) FROM outlived.runs") == arrives
    assert_history(schema)


# ---------------------------------------------------------------- leases


async def test_a_heartbeat_leaves_the_fence_alone(schema: str, session: Session):
    """Renewing moves the lease and nothing else, also between batches: the fence counts batches only."""
    async with open_desk(schema) as desk:
        for number in range(3):
            await desk.ask(make_spec(f"chat {number}"))
            session.ask(EXPIRE, desk.owner)
            assert await renew(desk.heart, desk.owner, LEASE_SECONDS)
            assert read_owner(session, desk.owner) == (number + 1, False)
            assert session.ask_one(
                "SELECT lease_until > clock_timestamp() + interval '50 seconds' FROM outlived.owners"
            )
        assert len(await read_unsettled(desk.heart, desk.owner)) == 3


async def test_a_batch_renews_the_lease_and_never_shortens_it(schema: str, session: Session):
    """A commit is a sign of life; a longer lease that stands already is kept."""
    async with open_desk(schema) as desk:
        session.ask(EXPIRE, desk.owner)
        await desk.ask(make_spec("a"))
        lease = "SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM outlived.owners"
        assert session.ask_one(lease) > LEASE_SECONDS - 10
        session.ask("UPDATE outlived.owners SET lease_until = clock_timestamp() + interval '1 hour'")
        await desk.ask(make_spec("b"))
        assert session.ask_one(lease) > 3000


async def test_a_fresh_owner_is_not_declared_dead(schema: str, sweep: Link):
    """By its lease alone an owner whose lease stands is not declared dead; a proof needs no lease to run out."""
    owner = await make_owner(sweep)
    assert not await declare_dead(sweep, make_id(), owner, proved=False, reason="r")
    assert await declare_dead(sweep, make_id(), owner, proved=True, reason="r")
    assert not await declare_dead(sweep, make_id(), owner, proved=True, reason="again")


async def test_an_expired_owner_is_declared_dead(schema: str, session: Session, sweep: Link):
    """An owner whose lease ran out while Postgres was up for longer than that lease is declared dead, with the reason."""
    owner = await make_owner(sweep, lease_seconds=0.01)
    await wait_for(lambda: session.ask_one("SELECT lease_until < clock_timestamp() FROM outlived.owners"))
    [row] = await read_living(sweep, make_id())
    assert (row.id, row.expired) == (owner, True)
    assert await declare_dead(sweep, make_id(), owner, proved=False, reason="its lease ran out")
    assert session.ask_one("SELECT dead_reason FROM outlived.owners") == "its lease ran out"
    assert await read_living(sweep, make_id()) == []


async def test_a_renewal_in_time_saves_an_owner(schema: str, session: Session, sweep: Link):
    """A reaper that waited behind a renewal of an expired lease sees the renewed one, and lets the owner live."""
    owner = await make_owner(sweep, lease_seconds=0.01)
    await wait_for(lambda: session.ask_one("SELECT lease_until < clock_timestamp() FROM outlived.owners"))
    session.lock(
        "UPDATE outlived.owners SET lease_until = clock_timestamp() + interval '1 minute' RETURNING 1"
    )
    outcome: list[bool] = []

    async def reap_it() -> None:
        outcome.append(await declare_dead(sweep, make_id(), owner, proved=False, reason="r"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reap_it)
        await session.wait_blocked("sweep", session.pid)
        session.release()
    assert outcome == [False]
    assert read_owner(session, owner) == (0, False)


async def test_a_renewal_too_late_does_not_revive(schema: str, session: Session, sweep: Link):
    """A renewal that waited behind a committed death says so, and changes nothing."""
    owner = await make_owner(sweep)
    session.lock(KILL, owner)
    outcome: list[bool] = []

    async def renew_it() -> None:
        outcome.append(await renew(sweep, owner, LEASE_SECONDS))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew_it)
        await session.wait_blocked("sweep", session.pid)
        session.release()
    assert outcome == [None]
    assert read_owner(session, owner) == (0, True)


@pytest.mark.parametrize("proved", [True, False])
async def test_nobody_declares_itself_dead(schema: str, session: Session, sweep: Link, proved: bool):
    """An owner never judges its own row, however expired."""
    owner = await make_owner(sweep, lease_seconds=0.01)
    session.ask(EXPIRE, owner)
    assert not await declare_dead(sweep, owner, owner, proved=proved, reason="r")
    assert await read_living(sweep, owner) == []


async def test_a_database_that_was_down_gives_grace(schema: str, session: Session, sweep: Link):
    """Within one lease of the postmaster's start an expired lease kills nobody: no one could have renewed."""
    up = session.ask_one("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float")
    young = await make_owner(sweep, lease_seconds=up + 3600)
    session.ask(EXPIRE, young)
    assert not await declare_dead(sweep, make_id(), young, proved=False, reason="r")
    assert await declare_dead(sweep, make_id(), young, proved=True, reason="r")
    old = await make_owner(sweep, lease_seconds=up / 2)
    session.ask(EXPIRE, old)
    assert await declare_dead(sweep, make_id(), old, proved=False, reason="r")


async def test_an_owner_that_retired_is_waited_for_by_nobody(schema: str, session: Session):
    """A clean stop shuts the fence at once, for good."""
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        await desk.flush()
        await retire(desk.heart, desk.owner)
        with pytest.raises(OwnershipLost):
            await desk.settle(run_id)
        assert not await renew(desk.heart, desk.owner, LEASE_SECONDS)


# ---------------------------------------------------------------- taking


async def test_a_run_of_a_living_owner_is_not_taken(schema: str, session: Session):
    """However expired its lease, a run is its owner's until that owner is declared dead."""
    async with open_desk(schema, name="a ") as one, open_desk(schema, name="b ") as other:
        run_id = await one.start()
        await one.flush()
        session.ask(EXPIRE, one.owner)
        assert await other.journal.take([run_id, make_id()]) == []
        await one.settle(run_id)
    assert_history(schema, settled=True)


async def test_two_takers_share_nothing(schema: str, session: Session, sweep: Link):
    """Of two daemons that take the runs of a dead owner at once each run goes to one, and its log continues once."""
    async with open_desk(schema, name="dead ") as dead:
        runs = {await dead.start(f"chat {number}") for number in range(20)}
        await dead.flush()
        assert await reap(sweep, dead)
    async with open_desk(schema, name="a ") as one, open_desk(schema, name="b ") as other:
        found: dict[str, set[str]] = {}

        async def take(desk: Desk, name: str) -> None:
            taken = await desk.journal.take(sorted(runs))
            found[name] = {run.run_id for run in taken}

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, one, "one")
            nursery.start_soon(take, other, "other")
        for desk, name in ((one, "one"), (other, "other")):
            left = runs - found["one"] - found["other"]
            found[name] |= {run.run_id for run in await desk.journal.take(sorted(left))}
            for run_id in found[name]:
                await desk.settle(run_id, "aborted")
        assert not found["one"] & found["other"]
        assert found["one"] | found["other"] == runs
    assert_history(schema, acknowledged=runs, settled=True)


async def test_what_a_taker_took_is_fenced_from_the_dead(schema: str, session: Session, sweep: Link):
    """Even a statement past the fence cannot write to a run that has another owner or epoch by now."""
    async with open_desk(schema, name="a ") as one, open_desk(schema, name="b ") as other:
        run_id = await one.start()
        await one.flush()
        assert await reap(sweep, one)
        [_] = await other.journal.take([run_id])
        session.ask("UPDATE outlived.owners SET dead_at = NULL WHERE id = %s", one.owner)  # what cannot be
        with pytest.raises((OwnershipLost, JournalRefused)):
            await one.journal.append(run_id, say("a ghost"), wait=True)
        with pytest.raises(OwnershipLost):
            await one.settle(run_id)
        await other.settle(run_id, "aborted")
    assert "ghost" not in str(session.ask("SELECT data FROM outlived.events"))
    assert_history(schema, settled=True)
