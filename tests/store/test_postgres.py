"""Waiting for Postgres on Trio: whatever interrupts a query closes its connection, and the next use has a new one."""

import gc
from collections.abc import Iterator

import psycopg
import pytest
import trio

from outlived.store import postgres as postgres_module
from outlived.store.postgres import DatabaseLost, Link, LinkPool, QueryRefused, connect
from tests.support.locks import Session, open_session, wait_for
from tests.support.postgres import Postgres
from tests.support.waits import wait_until


@pytest.fixture(scope="module")
def shared(postgres: Postgres) -> str:
    """This module's database; its DSN."""
    return postgres.create_database()


@pytest.fixture
def session(shared: str) -> Iterator[Session]:
    """The test's own look at the database; whatever sessions a test left behind end with it."""
    with open_session(shared) as session:
        yield session
        session.ask("DROP TABLE IF EXISTS kept")
        ours = (
            "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'outlived %'"
        )
        session.ask(f"SELECT pg_terminate_backend(pid) {ours}")
        wait_until(lambda: not session.ask(f"SELECT 1 {ours}"), what="what a test left behind has ended")


@pytest.fixture
def link(shared: str, session: Session) -> Iterator[Link]:
    """One connection, opened at its first use."""
    link = Link(shared, "test")
    yield link
    link.close()


async def wait_asleep(session: Session) -> int:
    """The pid of the session that is executing pg_sleep for us."""
    sql = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    [[pid]] = await wait_for(lambda: session.ask(sql), "the statement sleeps in the server")
    return pid


async def test_many_queries_share_a_few_connections(shared: str, session: Session):
    """Hundreds of concurrent queries on a pool get their own answers, over no more connections than it has."""
    pool = LinkPool(shared, "crowd", 3)
    answers: dict[int, int] = {}

    async def ask(number: int) -> None:
        [(answer,)] = await pool.query("SELECT %(n)s::int * 2", {"n": number})
        answers[number] = answer

    async with trio.open_nursery() as nursery:
        for number in range(300):
            nursery.start_soon(ask, number)
    sql = (
        "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE 'outlived crowd%'"
    )
    names = session.ask(sql)
    pool.close()
    assert answers == {number: number * 2 for number in range(300)}
    assert 1 <= len(names) <= 3


async def test_one_link_serves_one_at_a_time(link: Link, session: Session):
    """Concurrent users of one link wait for each other and share one connection."""
    pids = []

    async def ask() -> None:
        pids.extend(await link.query("SELECT pg_backend_pid() FROM pg_sleep(0.001)"))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert (len(pids), len(set(pids))) == (20, 1)


async def test_a_cancel_closes_the_connection(link: Link, session: Session):
    """A cancelled query gives up its connection at once; the next query has another one and its own answer."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.query, "SELECT pg_sleep(30)")
            sleeper = await wait_asleep(session)
            scope.cancel()
    assert scope.cancelled_caught
    assert link._connection is None
    [(pid, answer)] = await link.query("SELECT pg_backend_pid(), 'mine'")
    assert (pid != sleeper, answer) == (True, "mine")


async def test_a_cancel_in_a_pipeline_closes_the_connection(link: Link, session: Session):
    """A cancel in the middle of a transaction leaves nothing behind: no connection, no change."""
    session.ask("CREATE TABLE kept (n int)")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            statements = [("INSERT INTO kept VALUES (1)", {}), ("SELECT pg_sleep(30)", {})]
            nursery.start_soon(link.transact, statements)
            sleeper = await wait_asleep(session)
            scope.cancel()
    session.ask("SELECT pg_terminate_backend(%s)", sleeper)
    gc.collect()  # what was abandoned must not complain: pytest makes that an error
    assert await link.query("SELECT count(*) FROM kept") == [(0,)]


async def test_a_deadline_means_lost(link: Link):
    """A query that is not answered in time is lost, by the client's own clock, and the next use works."""
    with (
        trio.fail_after(5),
        pytest.raises(DatabaseLost, match=r"cannot hear from the database in time \(test\)"),
    ):
        await link.query("SELECT pg_sleep(30)", seconds=0.05)
    assert await link.query("SELECT 1") == [(1,)]


async def test_the_servers_own_timeout_is_a_refusal(link: Link):
    """A statement that the server gave up is refused, not lost: it answered."""
    with pytest.raises(QueryRefused, match="statement timeout"):
        await link.transact(
            [("SELECT set_config('statement_timeout', '20', true)", {}), ("SELECT pg_sleep(30)", {})]
        )
    assert await link.query("SELECT 1") == [(1,)]


async def test_a_backend_killed_at_work_is_lost(link: Link, session: Session):
    """A query whose server process is terminated is lost; the next use connects anew."""
    lost: list[DatabaseLost] = []

    async def ask() -> None:
        with pytest.raises(DatabaseLost) as caught:
            await link.query("SELECT pg_sleep(30)")
        lost.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        session.ask("SELECT pg_terminate_backend(%s)", await wait_asleep(session))
    assert len(lost) == 1
    assert await link.query("SELECT 1") == [(1,)]


async def test_a_backend_killed_while_idle_costs_nobody_a_request(link: Link, session: Session):
    """After its idle connection was terminated a link connects anew, and the next use notices nothing."""
    [(pid,)] = await link.query("SELECT pg_backend_pid()")
    session.ask("SELECT pg_terminate_backend(%s)", pid)
    await session.wait_gone("test", pid)
    [(other,)] = await link.query("SELECT pg_backend_pid()")
    assert other != pid


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT 1/0", "division by zero"),
        ("SELECT no_such_column", "no_such_column"),
        ("SELEKT", "syntax error"),
        ("DO $$ BEGIN RAISE EXCEPTION 'taken' USING ERRCODE = 'unique_violation'; END $$", "taken"),
        ("DO $$ BEGIN RAISE EXCEPTION 'dead' USING ERRCODE = 'deadlock_detected'; END $$", "dead"),
        ("DO $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = 'lock_not_available'; END $$", "busy"),
    ],
)
async def test_a_refused_statement_is_refused(link: Link, sql: str, why: str):
    """What the database answers no to is refused, in one line with its reason and purpose, and the next use works."""
    with pytest.raises(QueryRefused, match=why) as refusal:
        await link.query(sql)
    assert "(test)" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert await link.query("SELECT 1") == [(1,)]


@pytest.mark.parametrize("code", ["53100", "53200", "57P01", "57P03", "58030"])
async def test_a_server_in_trouble_is_lost(link: Link, code: str):
    """A full disk, no memory, a shutdown: not the statement's fault, so it is to be tried again."""
    with pytest.raises(DatabaseLost):
        await link.query(f"DO $$ BEGIN RAISE EXCEPTION 'trouble' USING ERRCODE = '{code}'; END $$")


async def test_a_value_that_no_table_takes_is_refused(link: Link):
    """NUL in a text is refused before it is sent, like any bad value."""
    with pytest.raises(QueryRefused, match="NUL"):
        await link.query("SELECT %(text)s::text", {"text": "a\0b"})


async def test_a_failed_transaction_changes_nothing(link: Link, session: Session):
    """Of statements sent together, one refused undoes all."""
    session.ask("CREATE TABLE kept (n int)")
    with pytest.raises(QueryRefused):
        await link.transact([("INSERT INTO kept VALUES (1)", {}), ("SELECT 1/0", {})])
    assert session.ask_one("SELECT count(*) FROM kept") == 0
    assert await link.transact([("INSERT INTO kept VALUES (2)", {}), ("SELECT n FROM kept", {})]) == [
        [],
        [(2,)],
    ]


async def test_nobody_there_is_lost(short_dir):
    """A server that does not exist is lost, with the purpose in the message."""
    with pytest.raises(DatabaseLost, match=r"cannot connect to the database \(test\): .*No such file"):
        await Link(f"host={short_dir} port=9 dbname=x user=x", "test").query("SELECT 1")


async def test_a_server_that_does_not_answer_is_lost(short_dir, monkeypatch):
    """A server that takes connections and says nothing is lost within the deadline."""
    monkeypatch.setattr(postgres_module, "CONNECT_SECONDS", 0.05)
    path = short_dir / ".s.PGSQL.7"
    with trio.socket.socket(trio.socket.AF_UNIX) as silent:
        await silent.bind(str(path))
        silent.listen()
        with trio.fail_after(5), pytest.raises(DatabaseLost):
            await Link(f"host={short_dir} port=7 dbname=x user=x", "test").query("SELECT 1")


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/London", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"]
)
async def test_times_arrive_as_the_wire_writes_them(shared: str, session: Session, zone: str):
    """A time is RFC 3339 in UTC with six digits and Z, whatever zone the server prefers; no time is None."""
    session.ask(f"ALTER DATABASE {session.ask_one('SELECT current_database()')} SET timezone = '{zone}'")
    link = Link(shared, "test")
    [row] = await link.query(
        "SELECT '2024-02-29 23:59:59.000001+00'::timestamptz, '2024-07-01 12:00+05:45'::timestamptz,"
        " '0999-01-01 00:00+00'::timestamptz, '2024-02-29 00:00:00.01+00'::timestamptz, NULL::timestamptz,"
        " current_setting('timezone')"
    )
    link.close()
    assert row == (
        "2024-02-29T23:59:59.000001Z", "2024-07-01T06:15:00.000000Z", "0999-01-01T00:00:00.000000Z",
        "2024-02-29T00:00:00.010000Z", None, zone,
    )  # fmt: skip


@pytest.mark.parametrize("style", ["German", "SQL, DMY", "Postgres", "ISO, YMD"])
async def test_times_arrive_whatever_style_the_server_prefers(shared: str, session: Session, style: str):
    """A database that writes dates in its own way gives the same times."""
    name = session.ask_one("SELECT current_database()")
    session.ask(f"ALTER DATABASE {name} SET datestyle = '{style}'")
    link = Link(shared, "test")
    rows = await link.query("SELECT '2024-02-03 04:05:06.000007+00'::timestamptz")
    link.close()
    session.ask(f"ALTER DATABASE {name} RESET datestyle")
    assert rows == [("2024-02-03T04:05:06.000007Z",)]


async def test_text_is_sent_as_it_is_said(shared: str, monkeypatch):
    """Whatever encoding the environment asks for, text goes and comes as UTF-8; what has none is refused."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    link = Link(shared, "test")
    assert await link.query("SELECT %(text)s::text", {"text": "é € 𝄞"}) == [("é € 𝄞",)]
    with pytest.raises(QueryRefused, match="surrogates not allowed"):
        await link.query("SELECT %(text)s::text", {"text": "\ud800"})
    link.close()


async def test_ids_arrive_as_text(link: Link):
    """A uuid is lower-case text, also in arrays and when it was written otherwise."""
    given = "0190A0A0-0000-7000-8000-00000000000F"
    [row] = await link.query("SELECT %(id)s::uuid, ARRAY[%(id)s::uuid]", {"id": given})
    assert row == (given.lower(), [given.lower()])


async def test_large_answers_arrive_whole(link: Link):
    """Megabytes come back complete, and other tasks go on meanwhile."""
    size = 16 << 20
    turns = 0

    async def turn(task_status=trio.TASK_STATUS_IGNORED) -> None:
        nonlocal turns
        task_status.started()
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        await nursery.start(turn)
        [(text,)] = await link.query("SELECT repeat('0123456789abcdef', %(n)s::int)", {"n": size // 16})
        nursery.cancel_scope.cancel()
    assert len(text) == size
    assert turns > 5


async def test_a_pipeline_larger_than_every_buffer(link: Link):
    """Statements and answers that fill both directions of the socket at once do not block each other."""
    text = "x" * 200_000
    async with link.use() as connection:
        async with connection.pipeline():
            cursors = [await connection.execute("SELECT %s::text, %s::int", (text, n)) for n in range(60)]
        rows = [await cursor.fetchone() for cursor in cursors]
    assert rows == [(text, number) for number in range(60)]


async def test_a_pool_says_when_it_is_busy(shared: str, session: Session):
    """Who gets no turn in time is told so; the one who has it is not disturbed."""
    pool = LinkPool(shared, "busy", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.query, "SELECT pg_sleep(0.3)")
        await wait_asleep(session)
        with pytest.raises(DatabaseLost, match="cannot get a turn"):
            await pool.query("SELECT 1", seconds=0.05)
    assert await pool.query("SELECT 1") == [(1,)]
    pool.close()


async def test_a_slow_query_is_not_called_a_queue(shared: str, session: Session):
    """Who waited for its turn and then asks too much hears of the query, not of the queue; the turn is free again."""
    pool = LinkPool(shared, "slow", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.query, "SELECT pg_sleep(0.2)")
        await wait_asleep(session)
        with pytest.raises(DatabaseLost, match="cannot hear from the database in time"):
            await pool.query("SELECT pg_sleep(30)", seconds=0.4)
    assert await pool.query("SELECT 1") == [(1,)]
    pool.close()


async def test_waiting_for_a_link_has_a_deadline(link: Link, session: Session):
    """Who waits for a link behind a slow query is told in time, and the slow query is not disturbed."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.query, "SELECT pg_sleep(0.4)")
        sleeper = await wait_asleep(session)
        with pytest.raises(DatabaseLost, match="cannot get a turn"):
            await link.query("SELECT 1", seconds=0.05)
        assert await wait_asleep(session) == sleeper
    assert await link.query("SELECT pg_backend_pid()") == [(sleeper,)]


async def test_a_closed_link_can_be_used_again(link: Link):
    """Closing hangs up; the next use connects anew."""
    [(first,)] = await link.query("SELECT pg_backend_pid()")
    link.close()
    link.close()
    [(second,)] = await link.query("SELECT pg_backend_pid()")
    assert first != second


async def test_a_connection_is_named_for_its_purpose(link: Link, session: Session):
    """Who looks into pg_stat_activity sees what each connection is for."""
    [(pid,)] = await link.query("SELECT pg_backend_pid()")
    assert session.list_pids("test") == [pid]


async def test_a_read_only_server_is_not_taken(database: str):
    """A server that takes no writes (a standby, a full disk) is lost, until it takes them again."""
    with open_session(database) as session:
        name = session.ask_one("SELECT current_database()")
        session.ask(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(DatabaseLost, match="read-only"):
        await connect(database, "test")


async def test_no_statement_is_prepared_on_the_server(link: Link):
    """Ten times the same statement leave no prepared statement behind: a transaction pooler may stand between."""
    for _ in range(10):
        await link.query("SELECT %(n)s::int", {"n": 1})
    assert await link.query("SELECT count(*) FROM pg_prepared_statements") == [(0,)]


async def test_a_host_name_is_looked_up_without_blocking():
    """A host name is resolved by Trio before libpq sees it, each with its own port."""
    params = {"host": "localhost,/run/x", "port": "1,2", "dbname": "d"}
    resolved = await postgres_module._resolve(params)
    hosts = resolved["host"].split(",")
    assert set(hosts) == {"localhost", "/run/x"}
    assert all(
        address
        for host, address in zip(hosts, resolved["hostaddr"].split(","), strict=True)
        if host == "localhost"
    )
    assert resolved["port"].split(",") == ["1" if host == "localhost" else "2" for host in hosts]
    assert psycopg.conninfo.make_conninfo("", **resolved)
