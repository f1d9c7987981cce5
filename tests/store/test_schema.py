"""What the tables themselves refuse, whatever a statement says; and what must stay cheap."""

import re
from collections.abc import Iterator

import psycopg
import pytest

from outlived.identifiers import make_id
from outlived.rules.run import ACTIVE, TERMINAL, Status
from outlived.store.owners import renew
from tests.support.journals import LEASE_SECONDS, make_schema, open_desk, say
from tests.support.locks import Session, open_session, wait_for
from tests.support.postgres import Postgres

INSERT_RUN = """
INSERT INTO outlived.runs (id, workspace, chat_id, position, agent, input, trigger, peer_uid, message_id, detached,
                           on_owner_loss, status, created_at, updated_at, idempotency_key)
VALUES (%s, %s, %s, (SELECT count(*) + 1 FROM outlived.runs), 'demo', '""', 'user', 0, %s, true, 'abort', %s,
        clock_timestamp(), clock_timestamp(), %s)
"""


@pytest.fixture(scope="module")
def dsn(postgres: Postgres) -> str:
    """A database for this module, its schema up to date."""
    dsn = postgres.create_database()
    make_schema(dsn)
    return dsn


@pytest.fixture
def session(dsn: str) -> Iterator[Session]:
    """A session in a transaction with two chats in each of two workspaces; at the end all of it is undone."""
    with open_session(dsn) as session:
        session.ask("BEGIN")
        session.ask(
            "INSERT INTO outlived.chats (workspace, chat_id, created_at, active_at)"
            " SELECT w, c, clock_timestamp(), clock_timestamp() FROM unnest('{w,v}'::text[]) w, unnest('{c,d}'::text[]) c"
        )
        yield session


def insert_run(
    session: Session, status: str, *, workspace: str = "w", chat: str = "c", key: str | None = None
) -> str:
    """Insert a run by raw SQL; its id."""
    run_id = make_id()
    session.ask(INSERT_RUN, run_id, workspace, chat, make_id(), status, key)
    return run_id


@pytest.mark.parametrize("second", sorted(ACTIVE))
@pytest.mark.parametrize("first", sorted(ACTIVE))
def test_a_second_active_run_is_refused_by_the_index(session: Session, first: Status, second: Status):
    """Of two active runs of one chat the second is refused, whatever their statuses, by the index itself."""
    insert_run(session, first)
    with pytest.raises(psycopg.errors.UniqueViolation, match="runs_one_active_per_chat"):
        insert_run(session, second)


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_becoming_active_needs_the_slot_too(session: Session, status: Status):
    """A queued run cannot become active beside another one."""
    insert_run(session, status)
    queued = insert_run(session, "queued")
    with pytest.raises(psycopg.errors.UniqueViolation, match="runs_one_active_per_chat"):
        session.ask("UPDATE outlived.runs SET status = 'pending' WHERE id = %s", queued)


def test_the_slot_is_the_chats_own(session: Session):
    """Other chats, the same chat id in another workspace, queued and settled runs do not share a slot."""
    insert_run(session, "running")
    insert_run(session, "running", chat="d")
    insert_run(session, "running", workspace="v")
    for status in ("queued", "queued", *sorted(TERMINAL)):
        insert_run(session, status)
    assert session.ask_one("SELECT count(*) FROM outlived.runs") == 8


@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_settling_frees_the_slot(session: Session, end: Status):
    """Once a run is settled its chat takes another."""
    first = insert_run(session, "running")
    session.ask("UPDATE outlived.runs SET status = %s WHERE id = %s", end.value, first)
    insert_run(session, "pending")


def test_a_key_is_used_once_in_a_workspace(session: Session):
    """A second run with the same key is refused, also in another chat and after the first was settled."""
    insert_run(session, "succeeded", key="k")
    insert_run(session, "running", workspace="v", key="k")
    with pytest.raises(psycopg.errors.UniqueViolation, match="runs_key"):
        insert_run(session, "running", chat="d", key="k")


@pytest.mark.parametrize("after", Status)
@pytest.mark.parametrize("before", sorted(TERMINAL))
def test_a_terminal_status_is_never_left(session: Session, before: Status, after: Status):
    """No statement makes a settled run anything else."""
    run_id = insert_run(session, before)
    change = ("UPDATE outlived.runs SET status = %s WHERE id = %s", after.value, run_id)
    if after is before:
        session.ask(*change)
        return
    with pytest.raises(psycopg.errors.CheckViolation, match=f"cannot change run {run_id}: it is settled"):
        session.ask(*change)


@pytest.mark.parametrize(
    "change",
    [
        "last_seq = last_seq + 1", "epoch = epoch + 1", "error = '{}'", "finished_at = clock_timestamp()",
        "stop_requested_at = clock_timestamp()", "stop_reason = 'late'", "attempt = attempt + 1",
        "step_count = step_count + 1", "started_at = clock_timestamp()", "input_tokens = 1", "output_tokens = 1",
        "cached_tokens = 1", "cost_micro_usd = 1", "created_at = clock_timestamp()", "updated_at = clock_timestamp()",
    ],
)  # fmt: skip
def test_what_the_log_says_of_a_settled_run_is_final(session: Session, change: str):
    """Everything of a settled run that is the fold of its log is immutable."""
    run_id = insert_run(session, "succeeded")
    with pytest.raises(psycopg.errors.CheckViolation, match="it is settled"):
        session.ask(f"UPDATE outlived.runs SET {change} WHERE id = %s", run_id)


def test_what_is_kept_about_a_settled_run_may_change(session: Session):
    """Pruning its log and recording other things beside the fold stay possible."""
    run_id = insert_run(session, "succeeded")
    session.ask(
        "UPDATE outlived.runs SET first_seq = 5, metadata = '{}', process_pid = NULL WHERE id = %s", run_id
    )


@pytest.mark.parametrize("change", ["status = 'paused'", "on_owner_loss = 'hope'"])
def test_unknown_words_are_refused(session: Session, change: str):
    """A status or a way of losing an owner that nobody knows is refused."""
    run_id = insert_run(session, "running")
    with pytest.raises(psycopg.errors.CheckViolation):
        session.ask(f"UPDATE outlived.runs SET {change} WHERE id = %s", run_id)


def test_two_events_never_share_a_number(session: Session):
    """A log has one event of each number."""
    event = "INSERT INTO outlived.events VALUES (%s, 1, 1, clock_timestamp(), 't', '{}')"
    run_id = make_id()
    session.ask(event, run_id)
    with pytest.raises(psycopg.errors.UniqueViolation, match="events_pkey"):
        session.ask(event, run_id)


def quoted(definition: str) -> set[str]:
    """The words in quotes of a definition as Postgres tells it."""
    return set(re.findall(r"'([a-z]+)'(?:::text)?", definition))


def test_the_status_lists_of_the_schema_are_the_rules(session: Session):
    """Check, indexes and trigger hold the status sets of rules/run.py, as the database itself reports them."""
    check = session.ask_one(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'runs_status_check'"
    )
    indexes = dict(session.ask("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'runs'"))
    trigger = session.ask_one(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'runs_terminal_is_final'"
    )
    slot, unsettled = indexes["runs_one_active_per_chat"], indexes["runs_unsettled"]
    assert quoted(check) == set(Status)
    assert quoted(slot) == ACTIVE
    assert "UNIQUE" in slot
    assert "(workspace, chat_id)" in slot
    assert quoted(unsettled) == TERMINAL
    assert "<> ALL" in unsettled
    assert quoted(trigger.split("EXECUTE")[0]) == TERMINAL


def test_no_index_names_what_changes_with_every_batch(session: Session):
    """Nothing that a batch or a beat changes is indexed, or those updates would touch every index."""
    definitions = "\n".join(
        row[0] for row in session.ask("SELECT indexdef FROM pg_indexes WHERE schemaname = 'outlived'")
    )
    for column in (
        "updated_at",
        "last_seq",
        "lease_until",
        "batch_no",
        "batch_at",
        "step_count",
        "as_of_seq",
    ):
        assert not re.search(rf"\b{column}\b", definitions), column


async def test_batches_and_beats_stay_hot(database: str):
    """Updates of last_seq, updated_at and leases touch no index: all but a run's two changes of status are HOT."""
    rounds = 60
    async with open_desk(database) as desk:
        run_id = await desk.start()
        for number in range(rounds):
            await desk.journal.append(run_id, say(f"{number} "), wait=True)
            await renew(desk.heart, desk.owner, LEASE_SECONDS)
        await desk.settle(run_id)

    counts = (
        "SELECT n_tup_upd, n_tup_upd - n_tup_hot_upd FROM pg_stat_user_tables"
        " WHERE schemaname = 'outlived' AND relname = %s"
    )
    with open_session(database) as session:

        def read(table: str) -> tuple[int, int]:
            return session.ask(counts, table)[0]

        await wait_for(
            lambda: read("runs")[0] >= rounds and read("owners")[0] >= rounds * 2, "the counts are in"
        )
        assert read("runs")[1] <= 2
        assert read("owners")[1] == 0
