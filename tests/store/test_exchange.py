"""Several statements in one round trip: every value arrives as it was, and an error says how far it came."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlived.store.exchange import _encode_plain, exchange, read_statement
from outlived.store.postgres import Link, QueryRefused
from tests.support.postgres import Postgres

TEXTS = st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
NUMBERS = st.lists(st.none() | st.integers(-(2**63), 2**63 - 1))

ECHO = read_statement(
    "echo",
    "SELECT array_to_json(%(texts)s::text[]), array_to_json(%(numbers)s::bigint[]), array_to_json(%(truths)s::boolean[]),"
    " array_to_json(%(ids)s::uuid[]), array_to_json(%(times)s::timestamptz[]), %(word)s::text, %(flag)s::boolean",
)
ONE = read_statement("one", "SELECT 1;")
FAULTY = read_statement("faulty", "SELECT 1 / %(by)s::bigint")


@pytest.fixture
def link(postgres: Postgres):
    """A connection to an empty database."""
    link = Link(postgres.create_database(), "test")
    yield link
    link.close()


@pytest.mark.parametrize("direct", [True, False])
@given(
    texts=TEXTS,
    numbers=NUMBERS,
    truths=st.lists(st.booleans()),
    ids=st.lists(st.none() | st.uuids().map(str)),
    word=st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
@settings(
    derandomize=True,
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_every_value_arrives_as_it_was(link, direct, texts, numbers, truths, ids, word):
    """Lists and single values of every type that the journal sends come back equal, NULLs and quotes and all."""
    async with link.use() as connection:
        connection.direct = direct
        values = {"texts": texts, "numbers": numbers, "truths": truths, "ids": ids, "times": [], "word": word}
        [[row]] = await exchange(connection, [(ECHO, {**values, "flag": True})])
    assert [json.loads(column) for column in row[:5]] == [texts, numbers, truths, ids, []]
    assert row[5:] == (word, "t")


async def test_times_arrive_as_they_were(link):
    """A list of times as the wire writes them is taken to the microsecond; a missing one is NULL."""
    assert _encode_plain(["2026-01-02T03:04:05.678901Z", None]) == b"{2026-01-02T03:04:05.678901Z,NULL}"
    statement = read_statement(
        "times", "SELECT t AT TIME ZONE 'UTC' FROM unnest(%(times)s::timestamptz[]) AS t"
    )
    async with link.use() as connection:
        [rows] = await exchange(connection, [(statement, {"times": ["2026-01-02T03:04:05.678901Z", None]})])
    assert rows == [("2026-01-02 03:04:05.678901",), (None,)]


@pytest.mark.parametrize("direct", [True, False])
async def test_an_error_says_how_far_it_came(link, direct):
    """Answers before the failed statement are there, those behind it are not, and the link survives it."""
    answers = []
    with pytest.raises(QueryRefused, match="division by zero"):  # noqa: PT012 - the link is what refuses
        async with link.use() as connection:
            connection.direct = direct
            await exchange(connection, [(ONE, {}), (FAULTY, {"by": 0}), (ONE, {})], answers)
    assert answers == [[("1",)]]
    async with link.use() as connection:
        assert await exchange(connection, [(FAULTY, {"by": 1}), (ONE, {})]) == [[("1",)], [("1",)]]


async def test_a_pipeline_is_one_transaction(link):
    """Without a BEGIN nothing of a failed exchange stays."""
    async with link.use() as connection:
        await exchange(connection, [(read_statement("make", "CREATE TABLE kept (n int)"), {})])
    insert = read_statement("insert", "INSERT INTO kept VALUES (%(n)s::bigint)")
    with pytest.raises(QueryRefused):
        async with link.use() as connection:
            await exchange(connection, [(insert, {"n": 1}), (FAULTY, {"by": 0})])
    assert await link.query("SELECT count(*) FROM kept") == [(0,)]


@pytest.mark.parametrize("direct", [True, False])
async def test_more_than_the_sockets_hold_goes_both_ways(link, direct):
    """Megabytes of questions and of answers at once do not lock each other out."""
    big = "x" * (3 << 20)
    echo = read_statement("big", "SELECT %(word)s::text")
    async with link.use() as connection:
        connection.direct = direct
        answers = await exchange(connection, [(echo, {"word": big})] * 6)
    assert answers == [[(big,)]] * 6


async def test_a_direct_connection_is_known(link):
    """Without a pooler in between, the session is the backend it says it is, and prepares each statement once."""
    async with link.use() as connection:
        assert connection.direct
        for _ in range(3):
            await exchange(connection, [(FAULTY, {"by": 1})])
        assert await link_prepared(connection) == ["faulty"]


async def link_prepared(connection):
    cursor = await connection.execute("SELECT name FROM pg_prepared_statements WHERE from_sql IS NOT NULL")
    return [name for (name,) in await cursor.fetchall()]


def test_a_parameter_needs_a_cast():
    """A parameter that does not say its type, or says two, is a fault of ours and found at import."""
    for sql in ("SELECT %(n)s", "SELECT %(n)s::bigint, %(n)s::text"):
        with pytest.raises(AssertionError, match="cast"):
            read_statement("faulty", sql)
