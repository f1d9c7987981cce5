"""Locks that others hold: a deadlock or a timeout costs a batch a second try by halves, never an item its answer."""

import random
from functools import partial
from typing import Any

import psycopg
import pytest
import trio

from outlived.journal import writer
from outlived.journal.items import Created, JournalRefused, SlotTaken
from outlived.store.stops import mark_stop
from tests.support.history import assert_history
from tests.support.journals import Desk, make_spec, open_desk, say
from tests.support.locks import Session, wait_for

LOCK_CHAT = "SELECT 1 FROM outlived.chats WHERE chat_id = %s FOR UPDATE"
LOCK_RUN = "SELECT 1 FROM outlived.runs WHERE id = %s FOR UPDATE"


async def make_chats(desk: Desk, *chats: str) -> None:
    """Chats that exist, each with a settled run."""
    for chat in chats:
        await desk.settle(await desk.start(chat))


def count_deadlocks(session: Session) -> int:
    return session.ask_one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


async def test_two_daemons_on_each_others_chats(schema: str, session: Session):
    """Two daemons starting and settling in the same chats, in any order: one of them gets each chat, nobody an error."""
    chance = random.Random(7)
    chats = [f"chat {number}" for number in range(8)]
    winners: list[tuple[int, str]] = []

    async def contend(desk: Desk, number: int, chat: str) -> None:
        answer = await desk.ask(make_spec(chat))
        if isinstance(answer, SlotTaken):
            return
        assert isinstance(answer, Created)
        winners.append((number, answer.run.id))
        desk.begin(answer.run.id)
        await desk.journal.append(answer.run.id, say("x"), wait=chance.random() < 0.5)
        await desk.settle(answer.run.id)

    async with open_desk(schema, name="a ") as one, open_desk(schema, name="b ") as other:
        with trio.fail_after(30):
            for _ in range(12):
                async with trio.open_nursery() as nursery:
                    for number, desk in enumerate((one, other)):
                        for chat in chance.sample(chats, len(chats)):
                            nursery.start_soon(contend, desk, number, chat)
        assert len(one.created) + len(other.created) == len(winners)
    assert {number for number, _ in winners} == {0, 1}
    assert len(winners) >= 12 * len(chats)
    assert_history(schema, acknowledged={run_id for _, run_id in winners}, settled=True)


async def test_two_daemons_make_the_same_chats(schema: str, session: Session):
    """Chats that do not exist yet are made once, by whichever daemon comes first; the other is told who has the slot."""
    answers: list[Any] = []

    async def ask(desk: Desk, chat: str) -> None:
        answers.append(await desk.ask(make_spec(chat)))

    async with (
        open_desk(schema, name="a ") as one,
        open_desk(schema, name="b ") as other,
        trio.open_nursery() as nursery,
    ):
        for number in range(40):
            nursery.start_soon(ask, one, f"chat {number}")
            nursery.start_soon(ask, other, f"chat {number}")
    created = {answer.run.id for answer in answers if isinstance(answer, Created)}
    assert len(created) == 40
    assert {answer.run_id for answer in answers if not isinstance(answer, Created)} == created
    assert_history(schema, acknowledged=created)


async def test_two_daemons_use_the_same_key(schema: str):
    """A key sent to two daemons at once, for a chat nobody has yet, makes one run, and both name it."""
    async with open_desk(schema, name="a ") as one, open_desk(schema, name="b ") as other:
        for number in range(10):
            answers: list[Any] = []

            async def ask(desk: Desk, spec: Any, answers: list[Any] = answers) -> None:
                answers.append(await desk.ask(spec))

            async with trio.open_nursery() as nursery:
                for desk, chat in ((one, f"a {number}"), (other, f"b {number}")):
                    nursery.start_soon(ask, desk, make_spec(chat, key=f"k {number}", digest="d"))
            [created] = [answer.run.id for answer in answers if isinstance(answer, Created)]
            assert [answer.run_id for answer in answers if not isinstance(answer, Created)] == [created]
    assert_history(schema)


async def test_a_forced_deadlock_reaches_no_caller(schema: str, session: Session):
    """A batch that is the victim of a deadlock is tried again; all its callers get their answers."""
    with psycopg.connect(schema, autocommit=True) as settings:
        name = settings.info.dbname
        settings.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '30ms'")
    async with open_desk(schema) as desk:
        await make_chats(desk, "a", "b")
        before = count_deadlocks(session)
        session.ask("SET deadlock_timeout = '1min'")  # so the journal, not this session, finds it
        session.lock(LOCK_CHAT, "b")
        answers: list[Any] = []

        async def ask(chat: str) -> None:
            answers.append(await desk.ask(make_spec(chat)))

        async with trio.open_nursery() as nursery:
            for chat in ("a", "b", "c"):
                nursery.start_soon(ask, chat)
            await session.wait_blocked("journal", session.pid)
            await trio.to_thread.run_sync(
                session.lock, LOCK_CHAT, "a"
            )  # blocks until the journal is the victim
            session.release()
        assert [type(answer) for answer in answers] == [Created] * 3
        await wait_for(lambda: count_deadlocks(session) > before, "the deadlock is counted")
    with psycopg.connect(schema, autocommit=True) as settings:
        settings.execute(f"ALTER DATABASE {name} RESET deadlock_timeout")
    assert_history(schema)


@pytest.mark.usefixtures("impatient")
async def test_a_locked_chat_delays_only_itself(schema: str, session: Session):
    """While a stranger holds one chat's row, starts in other chats are committed; then the held one is, too."""
    async with open_desk(schema) as desk:
        await make_chats(desk, "held", "x", "y", "z")
        told: dict[str, Any] = {}

        async def ask(chat: str) -> None:
            try:
                told[chat] = await desk.ask(make_spec(chat))
            except JournalRefused as error:
                told[chat] = error

        session.lock(LOCK_CHAT, "held")
        async with trio.open_nursery() as nursery:
            for chat in ("x", "y", "held", "z"):
                nursery.start_soon(ask, chat)
            await wait_for(lambda: len(told) == 3, "the others are committed")
            assert "held" not in told
            session.release()
        assert [type(answer) for answer in told.values()] == [Created] * 4
    assert_history(schema)


@pytest.mark.usefixtures("impatient")
async def test_a_start_in_a_chat_held_too_long_is_refused_alone(schema: str, session: Session):
    """A start whose chat stays locked is refused in the end, and nothing of it is stored."""
    async with open_desk(schema) as desk:
        await make_chats(desk, "held")
        session.lock(LOCK_CHAT, "held")
        with pytest.raises(JournalRefused, match="lock timeout"):
            await desk.ask(make_spec("held"))
        session.release()
        await desk.settle(await desk.start("held"))
    assert_history(schema, settled=True)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lock", [LOCK_CHAT, LOCK_RUN])
async def test_a_settlement_outlasts_every_lock(schema: str, session: Session, lock: str):
    """However long a stranger holds what a settlement needs, it waits behind the others, and is written in the end."""
    async with open_desk(schema) as desk:
        run_id, other = await desk.start("held"), await desk.start("other")
        await desk.flush()
        session.lock(lock, "held" if lock == LOCK_CHAT else run_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.settle, run_id)
            for number in range(2 * writer.TRIES):
                await session.wait_gone("journal", await session.wait_blocked("journal", session.pid))
                await desk.journal.append(other, say(f"{number} "))
            await desk.settle(other)
            assert session.ask("SELECT chat_id FROM outlived.runs WHERE status = 'succeeded'") == [("other",)]
            assert desk.journal.is_settling(run_id)
            session.release()
        assert desk.journal.queued_bytes == 0
    assert_history(schema, acknowledged={run_id, other}, settled=True)


@pytest.mark.parametrize("late", [False, True])
async def test_a_stop_mark_races_a_settlement(schema: str, session: Session, late: bool):
    """A mark written before the settlement's lock is in it; one that comes later finds the run settled."""
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        await desk.flush()
        marked: list[Any] = []

        async def mark() -> None:
            marked.append(await mark_stop(desk.heart, run_id, reason="enough", by="uid:1"))

        session.lock(LOCK_RUN, run_id)
        first, second = ("journal", "heartbeat") if late else ("heartbeat", "journal")
        tasks = {"journal": partial(desk.settle, run_id), "heartbeat": mark}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tasks[first])
            await session.wait_blocked(first, session.pid)
            nursery.start_soon(tasks[second])
            await session.wait_blocked(second)
            session.release()
        assert marked[0].settled == late
        reason = session.ask_one("SELECT stop_reason FROM outlived.runs")
        assert reason == (None if late else "enough")
    assert_history(schema, settled=True)
