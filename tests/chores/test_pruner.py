"""The pruner: old events of settled runs leave, in bounded pieces; runs and messages stay; no reader sees a gap."""

from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import attrs
import pytest
import structlog
import trio
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from outlived.chores import pruner as room
from outlived.chores.pruner import DAY_SECONDS, Pace, prune
from outlived.chores.sweeper import sweep_all
from outlived.identifiers import make_id
from outlived.journal.hub import Hub
from outlived.journal.tail import LogPruned, Tail
from outlived.settings import EventSettings
from outlived.store import LinkPool, Reads, retention
from outlived.store import reads as reads_module
from outlived.store.postgres import Link, QueryRefused
from outlived.store.retention import prune_piece
from tests.support.history import assert_history
from tests.support.house import FAST, leave_behind, open_house, wait_for
from tests.support.journals import make_schema
from tests.support.locks import open_session

ENDLESS = {"demo": {"delay_ms": 3_600_000}}
WEEK = 7 * DAY_SECONDS
ALL = 1_000_000_000
SOON = attrs.evolve(FAST, events=EventSettings(retention_days=1e-6))


async def count_to(desk):
    """As many events as the input says, and text."""
    for number in range(int(desk.assignment.input)):
        await desk.data("n", number)
    await desk.emit_text("counted")


async def take_steps(desk):
    """Twenty steps whose results are kept; then the end, or no end."""

    async def work():
        return 1

    for _ in range(20):
        await desk.step("s", work)
    await desk.emit_text("done")
    if desk.assignment.input == "stay":
        await trio.sleep_forever()


@contextmanager
def beyond_the_trigger(session):
    """Rewrite history, which the schema forbids."""
    session.ask("BEGIN")
    session.ask("SET LOCAL session_replication_role = replica")
    yield
    session.ask("COMMIT")


def age(dsn, run_id, days):
    """Let a run have been settled earlier than it was."""
    with open_session(dsn) as session, beyond_the_trigger(session):
        for column in ("created_at", "started_at", "finished_at", "updated_at"):
            session.ask(
                f"UPDATE outlived.runs SET {column} = {column} - make_interval(secs => %s) WHERE id = %s",
                days * DAY_SECONDS,
                run_id,
            )


async def prune_some(house, *, keep_seconds=0.0, events=ALL):
    """Prune one piece; how many events, from how many runs, and how many of those have none now."""
    piece = await prune_piece(house.supervisor.store.sweep, keep_seconds=keep_seconds, events=events)
    return piece.events, piece.runs, piece.whole


async def prune_all(house, **given):
    """Prune until nothing is left; what each piece removed."""
    pieces = []
    while (piece := await prune_some(house, **given))[1]:
        pieces.append(piece)
    return pieces


async def read_seqs(house, run_id):
    rows = await house.ask("SELECT seq FROM outlived.events WHERE run_id = %(id)s ORDER BY seq", id=run_id)
    return [seq for (seq,) in rows]


async def read_row(house, run_id):
    """A run's row without what pruning may change."""
    [(row,)] = await house.ask(
        "SELECT to_jsonb(r) - 'first_seq' - 'pruned_at' FROM outlived.runs r WHERE id = %(id)s", id=run_id
    )
    return row


# ---------------------------------------------------------------- what goes, and what stays


async def test_events_leave_and_the_run_and_its_message_stay(database):
    """Of a run that is settled for longer than the retention the events go, and nothing else; a younger one is whole."""
    async with open_house(database) as house:
        old, young = [await house.perform("demo", input="one two three") for _ in range(2)]
        age(database, old.id, 7.01)
        age(database, young.id, 6.99)
        row, message = await read_row(house, old.id), await house.read_message(old.id)
        assert await prune_all(house, keep_seconds=WEEK) == [(old.last_seq, 1, 1)]
        assert await read_seqs(house, old.id) == []
        assert await read_row(house, old.id) == row
        assert await house.read_message(old.id) == message
        assert message.content == "one two three"
        run = await house.read_run(old.id)
        assert (run.first_seq, run.last_seq) == (old.last_seq + 1, old.last_seq)
        assert await read_seqs(house, young.id) == list(range(1, young.last_seq + 1))
        age(database, young.id, -6.99)
        assert await prune_all(house, keep_seconds=WEEK) == []
    with (
        open_session(database) as session,
        beyond_the_trigger(session),
    ):  # its log is gone: no fold to compare
        session.ask("UPDATE outlived.runs SET first_seq = first_seq")


async def test_every_run_that_ended_is_pruned(database):
    """However a run ended, its message is stored to the end of its log, so that the log may go."""

    async def fail(desk):
        await desk.emit_text("so far")
        raise ValueError("no")

    remains = await leave_behind(database)
    async with open_house(database, agents={"fail": fail, "count": count_to}) as house:
        stopped = await house.start("demo", input="first second", metadata=ENDLESS)
        await house.wait_logged(stopped.id, "text.delta")
        house.registry.find(stopped.id).force()
        await house.wait_settled(stopped.id)
        assert await sweep_all(house.supervisor) == 1
        ended = [
            await house.perform("demo", input="x"),
            await house.perform("fail"),
            await house.perform("count", input="30"),
        ]
        lagging = await house.ask(
            "SELECT r.id FROM outlived.runs r JOIN outlived.messages m ON m.id = r.message_id"
            " WHERE m.as_of_seq <> r.last_seq"
        )
        assert lagging == []
        texts = {
            run_id: (await house.read_message(run_id)).content
            for run_id in [*remains.run_ids, *(run.id for run in ended)]
        }
        await prune_all(house)
        assert await house.ask("SELECT * FROM outlived.events") == []
        for run_id, text in texts.items():
            assert (await house.read_message(run_id)).content == text
    assert_history(database, acknowledged=set(texts), settled=True)


async def test_a_run_that_goes_on_is_never_pruned(database):
    """An active run keeps its whole log, however old it is; once it is settled its age counts from there."""
    async with open_house(database) as house:
        run = await house.start("demo", input="first second", metadata=ENDLESS)
        await house.wait_logged(run.id, "text.delta")
        await house.ask(
            "UPDATE outlived.runs SET created_at = '2020-01-01', started_at = '2020-01-01' WHERE id = %(id)s",
            id=run.id,
        )
        assert await prune_all(house) == []
        house.registry.find(run.id).force()
        settled = await house.wait_settled(run.id)
        assert await prune_all(house, keep_seconds=60) == []
        assert await prune_all(house) == [(settled.last_seq, 1, 1)]


async def test_a_log_that_its_message_has_not_seen_stays(database):
    """Where a message is not stored up to the end of the log, the log is all that is left of it, and is kept."""
    async with open_house(database) as house:
        run, other = [await house.perform("demo", input="one two") for _ in range(2)]
        back = "UPDATE outlived.messages SET as_of_seq = as_of_seq - %(by)s WHERE id = %(id)s"
        await house.ask(back, by=1, id=run.message_id)
        assert await prune_all(house) == [(other.last_seq, 1, 1)]
        assert len(await read_seqs(house, run.id)) == run.last_seq
        await house.ask(back, by=-1, id=run.message_id)
        assert await prune_all(house) == [(run.last_seq, 1, 1)]
    assert_history(database, settled=True)


async def test_steps_leave_with_the_events(database):
    """Results of steps go with the log, also where the log goes in pieces, and none is left behind; others' stay."""
    async with open_house(database, agents={"take": take_steps}) as house:
        run = await house.perform("take", input="end", on_owner_loss="resume")
        active = await house.start("take", input="stay", on_owner_loss="resume")
        await house.wait_logged(active.id, "text.delta")
        assert await house.ask("SELECT count(*) FROM outlived.steps") == [(40,)]
        pieces = await prune_all(house, events=7)
        assert len(pieces) == -(-run.last_seq // 7)
        left = await house.ask("SELECT run_id, count(*) FROM outlived.steps GROUP BY run_id")
        assert left == [(active.id, 20)]
    assert_history(database)


# ---------------------------------------------------------------- in pieces


async def test_a_long_log_goes_in_pieces(database):
    """A log longer than a piece goes from its beginning on; after every piece first_seq is where it begins."""
    async with open_house(database, agents={"count": count_to}) as house:
        run = await house.perform("count", input="90")
        first = 1
        for events, _, _ in [(40, 1, 0), (40, 1, 0), (run.last_seq - 80, 1, 1)]:
            assert (await prune_some(house, events=40))[0] == events
            first += events
            assert (await house.read_run(run.id)).first_seq == first
            assert await read_seqs(house, run.id) == list(range(first, run.last_seq + 1))
            assert_history(database, settled=True)
        assert first == run.last_seq + 1


async def test_a_piece_takes_the_oldest_runs_first(database, monkeypatch):
    """A piece is bounded in events and in runs; it begins with the runs that are settled for longest."""
    async with open_house(database, agents={"count": count_to}) as house:
        runs = [await house.perform("count", input="5") for _ in range(6)]
        order = [runs[number] for number in (3, 0, 5, 1, 4, 2)]
        for days, run in enumerate(reversed(order)):
            age(database, run.id, 10 + days)
        length = runs[0].last_seq
        assert await prune_some(house, keep_seconds=WEEK, events=length + 2) == (length + 2, 2, 1)
        assert [(await house.read_run(run.id)).first_seq for run in order[:3]] == [length + 1, 3, 1]
        monkeypatch.setattr(retention, "RUN_LIMIT", 2)
        assert await prune_some(house, keep_seconds=WEEK) == (2 * length - 2, 2, 2)
        assert await prune_all(house, keep_seconds=WEEK) == [(2 * length, 2, 2), (length, 1, 1)]


async def test_a_piece_that_cannot_be_committed_leaves_everything(database):
    """A piece that is refused, or whose session is ended, changes nothing; the next one goes on as if it had not been."""
    async with open_house(database) as house:
        run = await house.perform("demo", input="one two three")
        with open_session(database) as session:
            session.ask("BEGIN")
            session.ask("LOCK TABLE outlived.steps IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(QueryRefused, match="cannot do this in the database \\(sweep\\)"):
                await prune_piece(house.supervisor.store.sweep, keep_seconds=0, events=ALL)
            session.release()
        assert await read_seqs(house, run.id) == list(range(1, run.last_seq + 1))
        assert (await house.read_run(run.id)).first_seq == 1
        assert await prune_all(house) == [(run.last_seq, 1, 1)]
    assert_history(database, settled=True)


# ---------------------------------------------------------------- beside others


async def test_what_is_locked_is_skipped(database):
    """A run whose row somebody holds is left to them, at once; the others are pruned."""
    async with open_house(database) as house:
        held, free = [await house.perform("demo", input="one two") for _ in range(2)]
        with open_session(database) as session:
            session.lock("SELECT id FROM outlived.runs WHERE id = %s FOR NO KEY UPDATE", held.id)
            assert await prune_all(house) == [(free.last_seq, 1, 1)]
            session.release()
        assert await prune_all(house) == [(held.last_seq, 1, 1)]


async def test_siblings_prune_together(database):
    """Daemons that prune at the same time remove every event once, without an error, and none waits for another."""
    async with open_house(database, agents={"count": count_to}) as a, open_house(database) as b:
        runs = [await a.perform("count", input=str(number)) for number in range(25)]
        removed, links = [], [Link(database, f"pruner {number}") for number in range(2)]

        async def prune_too(link):
            while sum(removed) < sum(run.last_seq for run in runs):
                removed.append((await prune_piece(link, keep_seconds=0, events=9)).events)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for link in (*links, b.supervisor.store.sweep):
                    nursery.start_soon(prune_too, link)
        for link in links:
            link.close()
        assert sum(removed) == sum(run.last_seq for run in runs)
        assert await a.ask("SELECT * FROM outlived.events") == []
    assert_history(database, settled=True)


# ---------------------------------------------------------------- the actor


async def test_the_actor_prunes(database):
    """Once a run is old enough its events go, without anybody asking; each pass that removed something says so, once."""
    async with open_house(database, settings=SOON) as house:
        with structlog.testing.capture_logs() as logged:

            def passes():
                return [line for line in logged if line["event"] == "events pruned"]

            house.services.start_soon(prune, house.supervisor)
            first = await house.perform("demo", input="one two")
            await wait_for(lambda: len(passes()) == 1, what="a pass has removed something")
            second = await house.perform("demo", input="one two")
            await wait_for(lambda: len(passes()) == 2, what="another pass has")
        assert [(line["log_level"], line["runs"], line["events"]) for line in passes()] == [
            ("info", 1, run.last_seq) for run in (first, second)
        ]
    assert_history(database, settled=True)


async def test_events_are_kept_for_ever(database):
    """With a retention of 0 the actor is done at once, and nothing is ever looked at."""
    settings = attrs.evolve(FAST, events=EventSettings(retention_days=0))
    async with open_house(database, settings=settings) as house:
        run = await house.perform("demo", input="one two")
        age(database, run.id, 36_500)
        with trio.fail_after(5):
            await prune(house.supervisor)
        assert len(await read_seqs(house, run.id)) == run.last_seq
        age(database, run.id, -36_500)  # every row is looked at once more, beside its log


async def test_a_daemon_that_stops_does_not_prune(database):
    """While runs drain, nothing is removed any more."""
    async with open_house(database) as house:
        run = await house.perform("demo", input="one two")
        house.supervisor.draining.set()
        await room.prune_all(house.supervisor, 0.0, Pace())
        assert len(await read_seqs(house, run.id)) == run.last_seq


async def test_a_large_backlog_takes_several_passes(database, monkeypatch):
    """A pass gives way after its time; the next one goes on where it ended, to the last event, and each says so."""
    monkeypatch.setattr(room, "PASS_SECONDS", 0.02)
    async with open_house(database, agents={"count": count_to}) as house:
        runs = [await house.perform("count", input="200") for _ in range(3)]
        monkeypatch.setattr(room, "MOST_EVENTS", 20)
        with structlog.testing.capture_logs() as logged:
            await room.prune_all(house.supervisor, 0.0, Pace(events=20))
        assert await house.ask("SELECT * FROM outlived.events") == []
        assert len(logged) > 1
        assert sum(line["events"] for line in logged) == sum(run.last_seq for run in runs)
        assert sum(line["runs"] for line in logged) == len(runs)
    assert_history(database, settled=True)


async def test_the_actor_outlives_a_database_that_refuses(database, monkeypatch):
    """A piece that takes too long or cannot get its locks is said so; the next pass tries a smaller one."""
    monkeypatch.setattr(room, "SHORTEST_INTERVAL", 0.01)
    async with open_house(database, settings=SOON) as house:
        await house.perform("demo", input="one two")
        with open_session(database) as session, structlog.testing.capture_logs() as logged:
            session.ask("BEGIN")
            session.ask("LOCK TABLE outlived.steps IN ACCESS EXCLUSIVE MODE")
            house.services.start_soon(prune, house.supervisor)
            await wait_for(
                lambda: any(line["event"] == "pruning failed" for line in logged), what="it has failed"
            )
            session.release()
            await wait_for(lambda: logged[-1]["event"] == "events pruned", what="it has gone on")
        failed = next(line for line in logged if line["event"] == "pruning failed")
        assert failed["next_events"] == room.FIRST_EVENTS // 2


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.04, 0.06, 0.2, 8.0])
def test_a_piece_is_sized_after_the_last_one(seconds):
    """Pieces grow while they are quick and shrink while they are slow, within bounds; the rest is longer than the work."""
    pace = Pace()
    for _ in range(50):
        before = pace.events
        assert pace.took(seconds) == pytest.approx(seconds * 3)
        assert room.FEWEST_EVENTS <= pace.events <= room.MOST_EVENTS
        grows = (pace.events > before) - (pace.events < before)
        assert grows in {0, (seconds < 0.05) - (seconds > 0.1)}
    assert pace.events == {True: room.MOST_EVENTS, False: room.FIRST_EVENTS}[seconds < 0.05] or seconds > 0.1


# ---------------------------------------------------------------- what it costs to look


HISTORY = """
INSERT INTO outlived.runs (id, workspace, chat_id, position, agent, input, trigger, peer_uid, message_id, detached,
    on_owner_loss, status, created_at, updated_at, finished_at, last_seq, first_seq, pruned_at)
SELECT gen_random_uuid(), 'w', 'c', n, 'demo', '""', 'user', 0, gen_random_uuid(), true, 'abort', 'succeeded', at, at,
    at, 5, CASE WHEN n % 10 > 0 THEN 6 ELSE 1 END, CASE WHEN n % 10 > 0 THEN at END
FROM generate_series(1, 20000) n,
    LATERAL (SELECT clock_timestamp() - CASE WHEN n % 10 > 0 THEN interval '30 days' ELSE interval '1 day' END) t (at)
"""


def test_what_is_due_is_found_by_an_index(database):
    """Among many settled runs, pruned or too young, a look that finds nothing reads a few pages of runs_prunable."""
    make_schema(database)
    with open_session(database) as session:
        session.ask(
            "INSERT INTO outlived.chats (workspace, chat_id, created_at, active_at)"
            " VALUES ('w', 'c', clock_timestamp(), clock_timestamp())"
        )
        session.ask(HISTORY)
        session.ask("VACUUM ANALYZE outlived.runs")
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {retention.SQL['prune']}"
        cursor = session._connection.execute(
            explain, {"keep": WEEK, "events": 1000, "runs": 1000, "since": None}
        )
        [[[plan]]] = cursor.fetchall()
    nodes = list(walk(plan["Plan"]))
    front = [node for node in nodes if node.get("Index Name") == "runs_prunable"]
    assert [node["Actual Rows"] for node in front] == [0]
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 20


def walk(node):
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)


# ---------------------------------------------------------------- under readers


class Hiding(LinkPool):
    """Readers' links; ``meanwhile`` happens once, before the first statement that names ``marker``."""

    marker: ClassVar[str] = "LEFT JOIN LATERAL"

    def __init__(self, dsn: str, meanwhile: Any) -> None:
        super().__init__(dsn, "test", 1)
        self._meanwhile = meanwhile

    async def query(self, sql: Any, *args: Any, **kwargs: Any) -> Any:
        if self.marker in sql and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return await super().query(sql, *args, **kwargs)


@pytest.mark.parametrize("whole", [True, False], ids=["all of it", "a part"])
async def test_a_message_read_while_its_log_is_pruned_is_complete(database, whole):
    """Between a message and its later events the run may be settled and pruned: the answer is then the settled one."""
    async with open_house(database) as house:
        for look in ("run", "chat"):
            run = await house.start("demo", input="first second", metadata=ENDLESS, chat_id=f"{look}-{whole}")
            await house.wait_logged(run.id, "text.delta")

            async def end_and_prune(run_id=run.id):
                house.registry.find(run_id).force()
                settled = await house.wait_settled(run_id)
                events = settled.last_seq if whole else settled.last_seq - 1
                assert (
                    await prune_piece(house.supervisor.store.sweep, keep_seconds=0, events=events)
                ).runs == 1

            pool = Hiding(database, end_and_prune)
            reads = Reads(pool, 1 << 20)
            if look == "run":
                found, message = await reads.get_run_and_message(run.id)
                assert found.status == "aborted"
            else:
                page = await reads.list_messages(workspace="default", chat_id=run.chat_id, after=0, limit=10)
                message = page.rows[-1]
            assert (message.status, message.content) == ("aborted", "first ")
            pool.close()
            await prune_all(house)


@pytest.fixture(scope="module")
def readers_database(postgres):
    """A database for the readers below; each time they leave nothing in it to prune."""
    dsn = postgres.create_database()
    make_schema(dsn)
    return dsn


LOG = """
WITH chat AS (INSERT INTO outlived.chats (workspace, chat_id, created_at, active_at)
              VALUES ('w', %(chat)s, clock_timestamp(), clock_timestamp())),
run AS (INSERT INTO outlived.runs (id, workspace, chat_id, position, agent, input, trigger, peer_uid, message_id,
            detached, on_owner_loss, status, created_at, updated_at, finished_at, last_seq)
        VALUES (gen_random_uuid(), 'w', %(chat)s, 1, 'demo', '""', 'user', 0, gen_random_uuid(), true, 'abort',
            'succeeded', clock_timestamp(), clock_timestamp(), clock_timestamp() - interval '1 day', %(last)s)
        RETURNING id, message_id),
message AS (INSERT INTO outlived.messages (id, workspace, chat_id, run_id, position, role, status, as_of_seq,
            created_at, updated_at)
        SELECT message_id, 'w', %(chat)s, id, 2, 'assistant', 'completed', %(last)s, clock_timestamp(), clock_timestamp()
        FROM run),
log AS (INSERT INTO outlived.events
        SELECT id, n, 1, clock_timestamp(), CASE WHEN n = %(last)s THEN 'run.settled' ELSE 'data' END, '{"n":1}'
        FROM run, generate_series(1, %(last)s::bigint) n)
SELECT id::text FROM run
"""
moves = st.one_of(
    st.tuples(st.just("prune"), st.integers(1, 12)),
    st.tuples(st.just("read"), st.integers(0, 3)),
)


@hypothesis_settings(
    derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # fmt: skip
@given(
    last=st.integers(1, 30),
    cursors=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    page_bytes=st.sampled_from([1, 30, 1 << 20]),
    story=st.lists(moves, max_size=25),
)
def test_a_reader_has_no_gap_whatever_is_pruned_under_it(
    readers_database, monkeypatch, last, cursors, page_bytes, story
):
    """Whatever is pruned between its reads, a reader gets what follows its cursor, or is told that it is gone."""
    monkeypatch.setattr(reads_module, "EVENT_PAGE_BYTES", page_bytes)
    trio.run(partial(read_and_prune, readers_database, last, [round(each * last) for each in cursors], story))


async def read_and_prune(dsn, last, cursors, story):
    pool, link = LinkPool(dsn, "reads", 1), Link(dsn, "sweep")
    try:
        [(run_id,)] = await link.query(LOG, {"last": last, "chat": make_id()})
        first = 1
        with Hub().watch(run_id) as watched:
            tails = [Tail(watched, Reads(pool, 1 << 20), cursor) for cursor in cursors]
            for move, number in [
                *story,
                *(("read", each) for each in range(len(tails)) for _ in range(last + 1)),
            ]:
                if move == "prune":
                    first += (await prune_piece(link, keep_seconds=60, events=number)).events
                    continue
                await read_on(tails[number % len(tails)], first, last)
            for tail in tails:
                assert tail.cursor == last or tail.cursor + 1 < first
        await prune_piece(link, keep_seconds=60, events=ALL)
    finally:
        pool.close()
        link.close()


async def read_on(tail, first, last):
    """One read of a log that is kept from ``first`` on."""
    cursor = tail.cursor
    if cursor + 1 < first:
        with pytest.raises(LogPruned, match=f"its event {cursor + 1} is no longer kept"):
            await tail.read()
        assert tail.cursor == cursor
        return
    page = await tail.read()
    assert [event.seq for event in page] == list(range(cursor + 1, tail.cursor + 1))
    assert bool(page) == (cursor < last)
    if page:
        assert tail.settled == (tail.cursor == last)
