"""SQL in its own files: every statement is found, filled in, and accepted by the schema."""

import re
from collections.abc import Iterator
from importlib import resources

import pytest

from outlived.rules.run import ACTIVE, TERMINAL, Status
from outlived.store.batches import LIMITS
from outlived.store.postgres import LIMIT_TIME
from outlived.store.queries import STATUS_LISTS, load_queries, read_sql
from outlived.store.rows import COLUMNS
from tests.support.journals import make_schema
from tests.support.locks import Session, open_session
from tests.support.postgres import Postgres

FOLDER = resources.files("outlived.store").joinpath("sql")
FILES = sorted(
    entry.name for entry in FOLDER.iterdir() if entry.name.endswith(".sql") and not entry.name[0].isdigit()
)
STATEMENTS = {f"{file}: {name}": sql for file in FILES for name, sql in load_queries(file, COLUMNS).items()}

BY_HAND = {"owners.sql": {"pending", "running"}, "journal.sql": {"pending"}}
"""Statuses that a file may name by itself: the backstop's two, and the one that an insert writes."""


@pytest.fixture(scope="module")
def session(postgres: Postgres) -> Iterator[Session]:
    """A session on an up-to-date schema."""
    dsn = postgres.create_database()
    make_schema(dsn)
    with open_session(dsn) as session:
        yield session


def number_parameters(sql: str) -> str:
    """The statement with $1, $2 … for its named parameters."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return re.sub(r"%\((\w+)\)[sb]", number, sql).replace("%%", "%")


@pytest.mark.parametrize("name", [name for name in STATEMENTS if not name.startswith("migrations.sql")])
def test_the_schema_takes_every_statement(session: Session, name: str):
    """Each statement parses against the real tables: names, columns and types are right."""
    result = session._connection.pgconn.prepare(b"", number_parameters(STATEMENTS[name]).encode())
    assert not result.error_message, result.error_message.decode()


@pytest.mark.parametrize("file", FILES)
def test_no_statement_is_lost(file: str):
    """Every name in a file is there once, has a statement, and nothing in braces is left unfilled."""
    text = FOLDER.joinpath(file).read_text("utf-8")
    names = re.findall(r"^-- name: (.*)$", text, re.MULTILINE)
    loaded = load_queries(file, COLUMNS)
    assert names == list(loaded)
    for name, statement in loaded.items():
        assert statement.strip(), name
        assert not re.search(r"[{}]", statement), name
        assert not statement.startswith("--"), name


def test_status_lists_are_the_rules():
    """The lists filled in are those of rules/run.py, each status once."""
    wanted = {"active": ACTIVE, "terminal": TERMINAL, "all": frozenset(Status)}
    for name, statuses in wanted.items():
        assert sorted(re.findall(r"'(\w+)'", STATUS_LISTS[name])) == sorted(statuses)


@pytest.mark.parametrize("file", [*FILES, "0001_runs.sql"])
def test_no_file_lists_statuses_by_hand(file: str):
    """A file names no status of its own but for the known few, so that the rules stay the one list."""
    text = FOLDER.joinpath(file).read_text("utf-8")
    code = "\n".join(line.split("--")[0] for line in text.splitlines())
    messages = {"failed", "aborted"} if file == "0001_runs.sql" else set()  # a message's own statuses
    named = set(re.findall(r"'(\w+)'", code)) & set(Status)
    assert named - messages == BY_HAND.get(file, set())


def test_the_backstops_statuses_are_active():
    """The two statuses the backstop takes are the active ones but for waiting, which waits for a person."""
    assert BY_HAND["owners.sql"] == ACTIVE - {Status.WAITING}


def test_a_file_is_filled_when_read():
    """A migration is read with its status lists in it."""
    assert "{active}" not in read_sql("0001_runs.sql")
    assert STATUS_LISTS["active"] in read_sql("0001_runs.sql")


def test_every_transaction_limits_its_time(session: Session):
    """What a transaction begins with sets the lock, statement and idle timeouts, for that transaction only."""
    for sql, values in ((LIMIT_TIME, {}), (STATEMENTS["journal.sql: limit_time"], LIMITS)):
        session.ask("BEGIN")
        session._connection.execute(sql, values)
        show = "SELECT current_setting('lock_timeout'), current_setting('statement_timeout') <> '0',"
        inside = session.ask(show + " current_setting('idle_in_transaction_session_timeout') <> '0'")
        session.release()
        assert inside == [("2s", True, True)]
        assert session.ask_one("SELECT current_setting('lock_timeout')") == "0"
