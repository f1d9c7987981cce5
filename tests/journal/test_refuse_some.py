"""One batch with everything that can go wrong in it: who is refused is refused alone, and each caller is told its own."""

import random
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from outlived.journal import writer
from outlived.journal.items import (
    Created,
    Entry,
    Existing,
    JournalRefused,
    KeyTaken,
    OwnershipLost,
    SlotTaken,
)
from outlived.store.batches import write_batch
from outlived.store.postgres import DatabaseLost
from tests.support.history import assert_history
from tests.support.journals import Desk, make_spec, open_desk, say
from tests.support.locks import Session, wait_for
from tests.support.proxy import Cut, Proxy

LOCK_OWNER = "SELECT 1 FROM outlived.owners WHERE id = %s FOR UPDATE"
ITEMS = 13


@attrs.define(eq=False)
class Medley:
    """Callers of all sorts that hand in at the same time; what each was told is in ``told`` under its name."""

    desk: Desk
    told: dict[str, Any] = attrs.Factory(dict)
    runs: dict[str, str] = attrs.Factory(dict)

    async def prepare(self) -> None:
        """What the callers run into: a chat that is taken, a key that is used, four runs at work."""
        for name in ("taken", "settling", "talking", "broken", "illegal"):
            self.runs[name] = await self.desk.start(name)
        self.runs["keyed"] = await self.desk.start("keyed", key="k", digest="d")
        await self.desk.flush()

    def list_callers(self) -> list[Any]:
        """One task each."""
        runs = self.runs
        start = self._start
        return [
            start("one", "new 1"),
            start("two", "new 2"),
            start("three", "new 3", key="fresh", digest="d"),
            start("conflict", "taken"),
            start("join", "taken", on_active="join"),
            start("same key", "elsewhere", key="k", digest="d"),
            start("wrong key", "elsewhere", key="k", digest="another"),
            start("out of range", "bad 1", peer_uid=1 << 63),
            start("no text", "bad 2", created_by="a\0b"),
            partial(self._note, "settle", partial(self.desk.settle, runs["settling"])),
            self._append("talk", "talking", say("kept")),
            self._append("no number", "broken", Entry("usage", {"input_tokens": "many"})),
            self._append("no fact", "illegal", Entry("run.resumed", {})),
        ]

    def _start(self, name: str, chat: str, **changes: Any) -> Any:
        return partial(self._note, name, partial(self.desk.ask, make_spec(chat, **changes)))

    def _append(self, name: str, run: str, entry: Entry) -> Any:
        return partial(self._note, name, partial(self.desk.journal.append, self.runs[run], entry, wait=True))

    async def _note(self, name: str, work: Any) -> None:
        try:
            self.told[name] = await work()
        except (JournalRefused, DatabaseLost, OwnershipLost) as error:
            self.told[name] = error

    def check(self) -> None:
        """Each was told what it would have been told alone."""
        told, runs = self.told, self.runs
        assert {type(told[name]) for name in ("one", "two", "three")} == {Created}
        assert told["conflict"] == SlotTaken(runs["taken"])
        assert told["join"] == Existing(runs["taken"])
        assert told["same key"] == Existing(runs["keyed"])
        assert told["wrong key"] == KeyTaken(runs["keyed"])
        for name in ("out of range", "no text", "no number", "no fact"):
            assert isinstance(told[name], JournalRefused), name
        assert told["settle"] is None
        assert told["talk"] is None


async def hand_in(medley: Medley, session: Session, order: list[Any]) -> None:
    """Let all of them meet in one batch."""
    session.lock(LOCK_OWNER, medley.desk.owner)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(medley.desk.ask, make_spec("gate"))
        await session.wait_blocked("journal", session.pid)
        for caller in order:
            nursery.start_soon(caller)
        await wait_for(lambda: len(medley.desk.journal._queue) == ITEMS, "all are queued")
        session.release()


@pytest.mark.parametrize("cut", [Cut.PASS, Cut.BEFORE, Cut.AFTER])
@pytest.mark.parametrize("seed", range(5))
async def test_each_caller_gets_its_own_answer(
    schema: str, session: Session, proxy: Proxy, seed: int, cut: Cut
):
    """In whatever order conflicts, bad data and good items meet in one batch, and if the connection breaks at one of
    its commits as well: the good ones are committed once, the others are refused, and nobody gets another's answer.
    """
    chance = random.Random(seed)
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        medley = Medley(desk)
        await medley.prepare()
        callers = medley.list_callers()
        assert len(callers) == ITEMS
        chance.shuffle(callers)
        proxy.faults.extend([Cut.PASS] * chance.randint(1, 4) + [cut])
        with trio.fail_after(20):
            await hand_in(medley, session, callers)
        medley.check()
        assert not proxy.faults
        assert desk.journal.queued_bytes == 0
        created = {medley.told[name].run.id for name in ("one", "two", "three")}
        assert created <= {run.id for run in desk.created}
        assert len(desk.created) == len({run.id for run in desk.created})
    stored = {row[0] for row in session.ask("SELECT chat_id FROM outlived.runs")}
    assert stored == {*medley.runs, "new 1", "new 2", "new 3", "gate"}
    assert_history(schema, acknowledged=created | set(medley.runs.values()))


async def test_a_conflict_that_only_the_tables_see(schema: str, session: Session, monkeypatch):
    """Two daemons start in a chat that neither has seen: the unique index decides between reading and writing, and of
    the batch that comes second only that one start is told so.
    """
    async with open_desk(schema, name="a ") as desk, open_desk(schema, name="b ") as other:
        rival: list[str] = []

        async def come_second(connection: Any, fence: Any, batch: Any) -> None:
            if fence.owner == desk.owner and not rival and ("w", "contested") in batch.new_chats:
                rival.append(await other.start("contested"))
            await write_batch(connection, fence, batch)

        monkeypatch.setattr(writer, "write_batch", come_second)
        told: dict[str, Any] = {}

        async def ask(chat: str, **changes: Any) -> None:
            try:
                told[chat] = await desk.ask(make_spec(chat, **changes))
            except JournalRefused as error:
                told[chat] = error

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                session.lock(LOCK_OWNER, desk.owner)
                nursery.start_soon(ask, "gate")
                await session.wait_blocked("a journal", session.pid)
                for number in range(5):
                    nursery.start_soon(ask, f"chat {number}")
                nursery.start_soon(ask, "contested")
                nursery.start_soon(partial(ask, "bad", peer_uid=1 << 63))
                await wait_for(lambda: len(desk.journal._queue) == 7, "all are queued")
                session.release()
        assert told.pop("contested") == SlotTaken(rival[0])
        assert isinstance(told.pop("bad"), JournalRefused)
        assert {type(answer) for answer in told.values()} == {Created}
        assert len(told) == 6
        acknowledged = {answer.run.id for answer in told.values()} | set(rival)
    assert_history(schema, acknowledged=acknowledged)
