"""The writer on a real database: one commit for many, each its own answer, nothing lost and nothing twice."""

import random
from functools import partial
from typing import Any

import pytest
import trio

from outlive import wire
from outlived.journal import writer
from outlived.journal.items import Created, Entry, JournalRefused, OwnershipLost, SlotTaken
from outlived.store import postgres as postgres_module
from outlived.store.owners import StopMark
from outlived.store.postgres import DatabaseLost
from outlived.store.stops import mark_stop
from tests.support.history import assert_history
from tests.support.journals import Desk, make_spec, open_desk, say
from tests.support.locks import Session, wait_for
from tests.support.proxy import Cut, Proxy

LOCK_OWNER = "SELECT 1 FROM outlived.owners WHERE id = %s FOR UPDATE"
COUNT_RUNS = "SELECT count(*) FROM outlived.runs"


def read_batch_no(session: Session, desk: Desk) -> int:
    return session.ask_one("SELECT batch_no FROM outlived.owners WHERE id = %s", desk.owner)


def read_log(session: Session, run_id: str) -> list[tuple[str, str]]:
    return session.ask("SELECT type, data FROM outlived.events WHERE run_id = %s ORDER BY seq", run_id)


class Answers:
    """Starts asked for by tasks of their own, and what each was told."""

    def __init__(self, desk: Desk, nursery: trio.Nursery) -> None:
        self._desk = desk
        self._nursery = nursery
        self.told: dict[str, Any] = {}

    def ask(self, chat_id: str, **changes: Any) -> str:
        """Ask in a task; the id of the run asked for."""
        spec = make_spec(chat_id, **changes)
        self._nursery.start_soon(self._ask, spec)
        return spec.id

    async def _ask(self, spec) -> None:
        try:
            self.told[spec.id] = await self._desk.ask(spec)
        except (DatabaseLost, JournalRefused, OwnershipLost) as error:
            self.told[spec.id] = error


async def gate(desk: Desk, session: Session, answers: Answers) -> None:
    """Hold the writer at its fence with one start in hand: what is queued until ``release`` is one batch."""
    await desk.flush()
    session.lock(LOCK_OWNER, desk.owner)
    answers.ask("gate")
    await session.wait_blocked("journal", session.pid)


async def wait_queued(desk: Desk, items: int) -> None:
    await wait_for(lambda: len(desk.journal._queue) == items, f"{items} items are queued")


# ---------------------------------------------------------------- together


async def test_many_starts_share_few_commits(schema: str, session: Session):
    """Hundreds of concurrent starts need a handful of commits, and each caller gets its own run."""
    async with open_desk(schema) as desk:
        async with trio.open_nursery() as nursery:
            answers = Answers(desk, nursery)
            ids = [answers.ask(f"chat {number}") for number in range(400)]
        assert [answers.told[run_id].run.id for run_id in ids] == ids
        assert {run.id for run in desk.created} == set(ids)
        assert session.ask_one(COUNT_RUNS) == 400
        assert read_batch_no(session, desk) <= 8
    assert_history(schema, acknowledged=set(ids))


async def test_one_at_a_time_is_committed_at_once(schema: str, session: Session):
    """Without company every item has a commit of its own: there is no timer."""
    async with open_desk(schema) as desk:
        for number in range(5):
            await desk.ask(make_spec(f"chat {number}"))
            assert read_batch_no(session, desk) == number + 1


async def test_a_batch_is_bounded(schema: str, session: Session, monkeypatch):
    """More than a batch may hold is committed in several, in order."""
    monkeypatch.setattr(writer, "BATCH_ITEMS", 10)
    async with open_desk(schema) as desk:
        async with trio.open_nursery() as nursery:
            answers = Answers(desk, nursery)
            await gate(desk, session, answers)
            for number in range(35):
                answers.ask(f"chat {number}")
            await wait_queued(desk, 35)
            ids = [item.spec.id for item in desk.journal._queue]
            session.release()
        assert read_batch_no(session, desk) == 1 + 4
        assert [run.id for run in desk.created][1:] == ids


async def test_large_messages_are_settled_a_few_at_a_time(schema: str, session: Session, monkeypatch):
    """A settlement writes its whole message: many large ones at once are spread over commits a server can take."""
    monkeypatch.setattr(writer, "BATCH_BYTES", 100_000)
    async with open_desk(schema) as desk:
        large = [await desk.start(f"large {number}") for number in range(3)]
        for run_id in large:
            await desk.journal.append(run_id, say("x" * 60_000), wait=True)
        before = read_batch_no(session, desk)
        async with trio.open_nursery() as nursery:
            await gate(desk, session, Answers(desk, nursery))
            for run_id in large:
                nursery.start_soon(desk.settle, run_id)
            await wait_queued(desk, 3)
            session.release()
        assert read_batch_no(session, desk) == before + 1 + 3
    sizes = session.ask(
        "SELECT length(content) FROM outlived.messages WHERE role = 'assistant' AND content <> ''"
    )
    assert sizes == [(60_000,)] * 3


async def test_text_that_is_queued_grows_in_place(schema: str, session: Session):
    """Tokens that wait for the same commit become one event, and what is between them keeps its place."""
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        await desk.flush()
        async with trio.open_nursery() as nursery:
            await gate(desk, session, Answers(desk, nursery))
            for number in range(50):
                await desk.journal.append(run_id, say(f"{number} "))
            await desk.journal.append(run_id, Entry("log", {"stream": "stderr", "text": "x"}))
            await desk.journal.append(run_id, say("after"))
            assert len(desk.journal._queue) == 1
            session.release()
        await desk.flush()
        kinds = [kind for kind, _ in read_log(session, run_id)]
        assert kinds == ["run.created", "run.started", "text.delta", "log", "text.delta"]
        await desk.settle(run_id)
    assert_history(schema, settled=False)
    [(content,)] = session.ask(
        "SELECT content FROM outlived.messages WHERE run_id = %s AND role = 'assistant'", run_id
    )
    assert content == "".join(f"{number} " for number in range(50)) + "after"


async def test_two_starts_of_one_chat_in_one_batch(schema: str, session: Session):
    """Of two starts of a chat that are committed together one is created, the other is told its id."""
    async with open_desk(schema) as desk:
        async with trio.open_nursery() as nursery:
            answers = Answers(desk, nursery)
            await gate(desk, session, answers)
            first, second = answers.ask("c"), answers.ask("c")
            await wait_queued(desk, 2)
            session.release()
        told = [answers.told[first], answers.told[second]]
        winner = next(answer.run.id for answer in told if isinstance(answer, Created))
        assert [answer for answer in told if not isinstance(answer, Created)] == [SlotTaken(winner)]
    assert_history(schema)


async def test_nothing_is_told_before_the_commit(schema: str, session: Session, proxy: Proxy):
    """Neither a watcher nor a caller hears of anything until the commit is answered."""
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        run_id = await desk.start()
        await desk.flush()
        proxy.faults.append(Cut.HELD)
        with desk.hub.watch(run_id) as watched:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(desk.journal.append, run_id, say("secret"), wait=True))
                await wait_for(lambda: proxy.held, "the commit is held")
                assert watched.last_seq == 0
                assert watched.read_after(2) is None
                assert len(nursery.child_tasks) == 1
                await proxy.drop()
            assert watched.last_seq == 3
            assert [event.type for event in watched.read_after(2)] == ["text.delta"]


async def test_on_commit_is_called_before_the_answer(schema: str):
    """A run is launched in the instant of its commit: no answer, no later item comes first."""
    order: list[str] = []
    async with open_desk(schema) as desk:

        def launch(spec, run: wire.Run) -> None:
            order.append(f"launched {run.chat_id}")
            assert desk.journal.owns(run.id)

        async def ask(chat: str) -> None:
            await desk.journal.start(make_spec(chat), launch)
            order.append(f"answered {chat}")

        async with trio.open_nursery() as nursery:
            for chat in ("a", "b"):
                nursery.start_soon(ask, chat)
    assert (
        sorted(order[:2]) == ["launched a", "launched b"]
        or order[0].replace("launched", "answered") == order[1]
    )
    assert len(order) == 4


# ---------------------------------------------------------------- refused

POISON: dict[str, dict[str, Any]] = {
    "an integer out of range": {"peer_uid": 1 << 63},
    "a text with NUL": {"created_by": "a\0b"},
    "a lone surrogate": {"created_by": "\ud800"},
    "an unknown way of losing its owner": {"on_owner_loss": "hope"},
    "a run id that exists": {},
}


@pytest.mark.parametrize("poison", POISON)
async def test_a_refused_item_fails_alone(schema: str, session: Session, poison: str):
    """One item that the database refuses does not take its batch with it: all its neighbours are committed."""
    async with open_desk(schema) as desk:
        settled, writing = await desk.start("settled"), await desk.start("writing")
        async with trio.open_nursery() as nursery:
            answers = Answers(desk, nursery)
            await gate(desk, session, answers)
            before = [answers.ask(f"before {number}") for number in range(3)]
            changes = POISON[poison] or {"id": settled}
            bad = answers.ask("bad", **changes)
            nursery.start_soon(desk.settle, settled)
            nursery.start_soon(partial(desk.journal.append, writing, say("kept"), wait=True))
            after = [answers.ask(f"after {number}") for number in range(3)]
            await wait_queued(desk, 9)
            session.release()
        assert isinstance(answers.told[bad], JournalRefused)
        assert str(answers.told[bad]).startswith("cannot store this")
        for run_id in (*before, *after):
            assert answers.told[run_id].run.id == run_id
        assert session.ask_one("SELECT count(*) FROM outlived.chats WHERE chat_id = 'bad'") == 0
        assert read_log(session, settled)[-1][0] == "run.settled"
        assert read_log(session, writing)[-1] == ("text.delta", '{"text":"kept"}')
        assert desk.journal.queued_bytes == 0
    assert_history(schema, acknowledged={*before, *after})


REFUSED_ENTRIES = {
    "a sum out of range": Entry("usage", {"input_tokens": 1 << 63}),
    "no number": Entry("usage", {"input_tokens": "many"}),
    "a lone surrogate": Entry("data", {"name": "n", "value": "\ud800"}),
    "no JSON": Entry("data", {"name": "n", "value": object()}),
    "an illegal fact": Entry("run.resumed", {}),
}


@pytest.mark.parametrize("what", REFUSED_ENTRIES)
async def test_a_refused_event_breaks_only_its_run(schema: str, session: Session, what: str):
    """An event nobody can store fails its run's next write, never the writer; the run can still be settled."""
    async with open_desk(schema) as desk:
        broken, other = await desk.start("broken"), await desk.start("other")
        with pytest.raises(JournalRefused):
            await desk.journal.append(broken, REFUSED_ENTRIES[what], wait=True)
        with pytest.raises(JournalRefused):
            await desk.journal.append(broken, say("later"))
        await desk.journal.append(other, say("fine"), wait=True)
        await desk.settle(broken, "failed", error={"code": "x", "message": "y"})
        await desk.settle(other)
    assert_history(schema, acknowledged={broken, other}, settled=True)


async def test_bad_data_is_refused_at_once(schema: str, session: Session, monkeypatch):
    """What no patience will make storable is not tried again and again while everybody waits."""
    tries = 0
    read_truth = writer.read_truth

    async def count(*arguments: Any) -> Any:
        nonlocal tries
        tries += 1
        return await read_truth(*arguments)

    monkeypatch.setattr(writer, "read_truth", count)
    async with open_desk(schema) as desk:
        with pytest.raises(JournalRefused):
            await desk.ask(make_spec("c", peer_uid=1 << 63))
    assert tries <= 2


async def test_an_agent_cannot_write_after_its_settlement(schema: str, session: Session):
    """A run that is being settled takes nothing more, and cannot be settled twice."""
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        async with trio.open_nursery() as nursery:
            await gate(desk, session, Answers(desk, nursery))
            nursery.start_soon(desk.settle, run_id)
            await wait_for(lambda: desk.journal.logs[run_id].settling)
            with pytest.raises(OwnershipLost):
                await desk.journal.append(run_id, say("late"))
            with pytest.raises(OwnershipLost):
                await desk.settle(run_id)
            session.release()
        with pytest.raises(OwnershipLost):
            await desk.settle(run_id)
    assert_history(schema)


async def test_a_settlement_repeats_a_mark_of_another_daemon(schema: str, session: Session):
    """A stop that another daemon wrote into the row is in the settlement, though this owner never heard of it."""
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        await desk.flush()
        marked = await mark_stop(desk.heart, run_id, reason="enough", by="uid:7")
        mark = StopMark("2024-01-01T00:00:00.000000Z", "later", "uid:8")
        await desk.settle(run_id, "aborted", mark=mark)
    assert marked is not None
    assert marked.mark is not None
    row = session.ask("SELECT stop_reason, stop_requested_by FROM outlived.runs")
    assert row == [("enough", "uid:7")]
    assert_history(schema, settled=True)


# ---------------------------------------------------------------- the database is away


async def test_agents_wait_while_the_database_is_away(
    schema: str, session: Session, proxy: Proxy, monkeypatch
):
    """With a full queue an agent's words wait, a settlement does not; when the database is back all of it is written."""
    monkeypatch.setattr(writer, "QUEUE_BYTES", 20_000)
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        talking, ending = await desk.start("talking"), await desk.start("ending")
        await desk.flush()
        proxy.leave()
        said = 0

        async def talk() -> None:
            nonlocal said
            for number in range(100):
                await desk.journal.append(talking, say(f"{number:09} " * 100))
                said += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            await wait_for(lambda: desk.journal._room.statistics().tasks_waiting, "the agent waits")
            stuck = said
            nursery.start_soon(desk.settle, ending)
            await wait_for(lambda: desk.journal.degraded and desk.journal.is_settling(ending))
            assert said == stuck < 100
            assert desk.journal.queued_bytes < 20_000 + 2_000 + 1_000
            proxy.come_back()
        await desk.settle(talking)
        assert not desk.journal.degraded
        assert desk.journal.queued_bytes == 0
    content = session.ask_one(
        "SELECT content FROM outlived.messages WHERE run_id = %s AND role = 'assistant'", talking
    )
    assert content == "".join(f"{number:09} " * 100 for number in range(100))
    assert_history(schema, settled=True)


async def test_a_run_that_floods_waits_for_itself_only(schema: str, proxy: Proxy, monkeypatch):
    """A run has a small share of the queue: full of its words, it waits, and its neighbour's words go on."""
    monkeypatch.setattr(writer, "RUN_BYTES", 20_000)
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        flooding, modest = await desk.start("flooding"), await desk.start("modest")
        await desk.flush()
        proxy.leave()

        async def flood() -> None:
            for _ in range(100):
                await desk.journal.append(flooding, say("word " * 200))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await wait_for(lambda: desk.journal._room.statistics().tasks_waiting, "the flood waits")
            assert desk.journal.logs[flooding].queued < 20_000 + 2_000
            with trio.fail_after(5):
                for _ in range(10):
                    await desk.journal.append(modest, say("word " * 200))
            proxy.come_back()
        await desk.settle(flooding)
        await desk.settle(modest)
        assert desk.journal.queued_bytes == 0
    assert_history(schema, settled=True)


async def test_short_words_are_weighed_as_what_they_cost(schema: str, proxy: Proxy, monkeypatch):
    """A run that says millions of tiny words while the database is away is made to wait long before they fill memory."""
    monkeypatch.setattr(writer, "RUN_BYTES", 64_000)
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        talking = await desk.start("talking")
        await desk.flush()
        proxy.leave()
        said = 0

        async def talk() -> None:
            nonlocal said
            for _ in range(10_000):
                await desk.journal.append(talking, say("ab"))
                said += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            await wait_for(lambda: desk.journal._room.statistics().tasks_waiting, "the agent waits")
            assert said <= 64_000 / writer.PIECE_BYTES
            proxy.come_back()
        await desk.settle(talking)
        assert desk.journal.queued_bytes == 0
    assert_history(schema, settled=True)


async def test_starts_that_wait_for_room_are_bounded_too(schema: str, proxy: Proxy, monkeypatch):
    """With a full queue as many starts wait as are allowed for; the next is told at once to come again, and when the
    database is back those that waited are created.
    """
    monkeypatch.setattr(writer, "QUEUE_BYTES", 50_000)
    monkeypatch.setattr(writer, "WAITING_BYTES", 50_000)
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        await desk.start("before")
        await desk.flush()
        proxy.leave()
        async with trio.open_nursery() as nursery:
            answers = Answers(desk, nursery)
            ids = [answers.ask(f"chat {number}", input="x" * 10_000) for number in range(60)]
            await wait_for(lambda: len(answers.told) == 60 - 5 - 4, "the others are answered")
            assert all(isinstance(answer, DatabaseLost) for answer in answers.told.values())
            assert desk.journal.queued_bytes <= 50_000 + 11_000
            proxy.come_back()
        created = [run_id for run_id in ids if isinstance(answers.told[run_id], Created)]
        assert len(created) == 5 + 4
        assert desk.journal._waiting_bytes == 0
    assert_history(schema, acknowledged=set(created))


async def test_a_start_is_withdrawn_while_the_database_is_away(
    schema: str, session: Session, proxy: Proxy, monkeypatch
):
    """A start that cannot be stored in time is answered so, and is not stored later behind the caller's back."""
    monkeypatch.setattr(writer, "START_SECONDS", 0.1)
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        await desk.start("before")
        await desk.flush()
        proxy.leave()
        with trio.fail_after(5), pytest.raises(DatabaseLost, match="cannot store the run in time"):
            await desk.start("during")
        proxy.come_back()
        monkeypatch.undo()
        await desk.start("after")
    assert [row[0] for row in session.ask("SELECT chat_id FROM outlived.runs ORDER BY id")] == [
        "before",
        "after",
    ]
    assert len(desk.created) == 2


async def test_a_start_is_withdrawn_while_the_database_is_mute(
    schema: str, session: Session, proxy: Proxy, monkeypatch
):
    """The same with a server that takes connections and never answers: the start is in the writer's hands just then."""
    monkeypatch.setattr(writer, "START_SECONDS", 0.1)
    monkeypatch.setattr(postgres_module, "CONNECT_SECONDS", 0.4)
    proxy.mute = True
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        for _ in range(2):
            with trio.fail_after(5), pytest.raises(DatabaseLost, match="cannot store the run in time"):
                await desk.start("during")
        assert desk.journal.queued_bytes == 0
        proxy.mute = False
        monkeypatch.setattr(writer, "START_SECONDS", 5)
        await desk.start("after")
    assert session.ask("SELECT chat_id FROM outlived.runs") == [("after",)]
    assert len(desk.created) == 1


async def test_a_caller_that_gave_up_still_gets_a_run(schema: str, session: Session):
    """A start whose caller was cancelled is committed and launched all the same: it was asked for."""
    async with open_desk(schema) as desk:
        async with trio.open_nursery() as nursery:
            session.lock(LOCK_OWNER, desk.owner)
            nursery.start_soon(desk.ask, make_spec("c"))
            await session.wait_blocked("journal", session.pid)
            nursery.cancel_scope.cancel()
        session.release()
        await desk.flush()
        assert len(desk.created) == 1
    assert session.ask_one(COUNT_RUNS) == 1


# ---------------------------------------------------------------- cut while committing


async def perform(desk: Desk, cut: Cut, proxy: Proxy, *, at: str) -> str:
    """One run whose start or settlement meets the cut; its id."""
    if at == "start":
        proxy.faults.append(cut)
    run_id = await desk.start()
    await desk.journal.append(run_id, say("one "), wait=True)
    if at == "append":
        proxy.faults.append(cut)
    await desk.journal.append(run_id, say("two"), wait=True)
    if at == "settle":
        proxy.faults.append(cut)
    await desk.settle(run_id)
    return run_id


@pytest.mark.parametrize("at", ["start", "append", "settle"])
@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
async def test_a_connection_cut_during_commit(schema: str, session: Session, proxy: Proxy, cut: Cut, at: str):
    """Whether the commit happened unheard or never arrived: the start is not doubled, the settlement not lost."""
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        with trio.fail_after(10):
            run_id = await perform(desk, cut, proxy, at=at)
        assert not proxy.faults
        assert [run.id for run in desk.created] == [run_id]
        assert read_batch_no(session, desk) == desk.journal._batch_no
        assert not desk.journal.lost.is_set()
        assert not desk.journal.degraded
    kinds = [kind for kind, _ in read_log(session, run_id)]
    assert [kind for kind in kinds if kind != "text.delta"] == ["run.created", "run.started", "run.settled"]
    assert "".join(data for kind, data in read_log(session, run_id) if kind == "text.delta").count("two") == 1
    assert_history(schema, acknowledged={run_id}, settled=True)


async def wait_tries(session: Session, number: int) -> None:
    """Wait until so many new tries have run into the lock of the old one, and given up."""
    for _ in range(number):
        await session.wait_gone("journal", await session.wait_blocked("journal"))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("at", ["start", "settle"])
async def test_a_commit_that_arrives_late(schema: str, session: Session, proxy: Proxy, at: str):
    """A commit still on its way when it is tried again is waited for, and counts: nothing is written twice."""
    async with open_desk(schema, write_dsn=proxy.dsn) as desk, trio.open_nursery() as nursery:
        nursery.start_soon(partial(perform, desk, Cut.HELD, proxy, at=at))
        await wait_for(lambda: proxy.held, "the commit is held")
        await wait_tries(session, writer.TRIES + 2)
        await session.wait_blocked("journal")
        await proxy.deliver()
        with trio.fail_after(10):
            await wait_for(lambda: session.ask("SELECT 1 FROM outlived.runs WHERE status = 'succeeded'"))
        await desk.flush()
        assert len(desk.created) == 1
        assert not desk.journal.lost.is_set()
    assert_history(schema, acknowledged={desk.created[0].id}, settled=True)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("at", ["start", "append", "settle"])
async def test_a_connection_only_one_side_knows_is_dead(schema: str, session: Session, proxy: Proxy, at: str):
    """While the server still holds the locks of a lost transaction everything waits; when it lets go all is written."""
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(perform, desk, Cut.HELD, proxy, at=at))
            await wait_for(lambda: proxy.held, "the commit is held")
            await wait_tries(session, writer.TRIES + 2)
            await proxy.drop()
        assert len(desk.created) == 1
        assert not desk.journal.lost.is_set()
    assert_history(schema, acknowledged={desk.created[0].id}, settled=True)


async def test_a_whole_batch_is_found_committed(schema: str, session: Session, proxy: Proxy):
    """Every caller of a batch whose answer was lost gets its own answer, the refused ones too."""
    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        async with trio.open_nursery() as nursery:
            answers = Answers(desk, nursery)
            await gate(desk, session, answers)
            ids = [answers.ask(f"chat {number % 10}") for number in range(20)]
            await wait_queued(desk, 20)
            proxy.faults.extend([Cut.PASS, Cut.AFTER])
            session.release()
        created = [run_id for run_id in ids if isinstance(answers.told[run_id], Created)]
        assert len(created) == 10
        assert [answers.told[run_id] for run_id in ids if run_id not in created] != []
        assert all(isinstance(answers.told[run_id], SlotTaken) for run_id in ids if run_id not in created)
        assert session.ask_one(COUNT_RUNS) == 11
        assert read_batch_no(session, desk) == 2
    assert_history(schema, acknowledged=set(created))


@pytest.mark.parametrize("seed", range(4))
async def test_any_cuts_lose_and_double_nothing(schema: str, proxy: Proxy, seed: int):
    """Many runs over a connection that is cut at random commits, on either side: every log is whole, every run settled."""
    chance = random.Random(seed)
    proxy.faults.extend(chance.choices(list(Cut)[:3], weights=(2, 1, 1), k=60))
    words = {f"chat {number}": chance.randint(0, 8) for number in range(12)}
    acknowledged = set()

    async def work(chat_id: str, count: int) -> None:
        for turn in range(2):
            run_id = await desk.start(chat_id)
            acknowledged.add(run_id)
            for number in range(count):
                await desk.journal.append(run_id, say(f"{turn}.{number} "), wait=chance.random() < 0.5)
            await desk.settle(run_id)

    async with open_desk(schema, write_dsn=proxy.dsn) as desk:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for chat_id, count in words.items():
                    nursery.start_soon(work, chat_id, count)
        assert len(desk.created) == len(acknowledged) == 24
        assert desk.journal.queued_bytes == 0
    assert_history(schema, acknowledged=acknowledged, settled=True)
    assert proxy.commits > 10
