"""The history checker finds each kind of damage, and complains of nothing else: a check that cannot fail is none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from outlived.rules.history import Problem
from outlived.store.history import Allowance, Snapshot
from tests.support.audit import begin_audit, read_wrongs_here
from tests.support.daemon import Daemon
from tests.support.history import ALLOWANCE, check_history, check_readers
from tests.support.homes import make_home
from tests.support.postgres import Postgres
from tests.support.runs import perform, start_endless, stop

CONFIG = """
[store]
max_message_bytes = 1024
[run]
grace_seconds = 1
drain_seconds = 0
[agents.outspoken]
kind = "python"
target = "outspoken:speak"
"""
TALK, TALK_2, ACTIVE, STOPPED, CUT, SHELL = (
    f"(SELECT id FROM outlived.runs WHERE chat_id = '{chat}')"
    for chat in ("talk", "talk-2", "active", "stopped", "cut", "shell")
)
LAST = f"run_id = {TALK} AND seq = (SELECT last_seq FROM outlived.runs WHERE id = {TALK})"
NOBODY = "'0190a0a0-0000-7000-8000-000000000000'"
BRIEFLY = Allowance(sweep_seconds=0.01, adopt_seconds=3600)

DAMAGE = {
    "a missing event": ("gap", f"DELETE FROM outlived.events WHERE run_id = {TALK} AND seq = 3"),
    "a missing first event": ("gap", f"DELETE FROM outlived.events WHERE run_id = {TALK} AND seq = 1"),
    "a missing settlement": ("gap", f"DELETE FROM outlived.events WHERE {LAST}"),
    "a missing log": ("gap", f"DELETE FROM outlived.events WHERE run_id = {TALK}"),
    "a last_seq that lags": ("gap", f"UPDATE outlived.runs SET last_seq = last_seq - 1 WHERE id = {ACTIVE}"),
    "an event after the end": (
        "gap log",
        f"INSERT INTO outlived.events SELECT run_id, seq + 1, epoch, at, type, data FROM outlived.events WHERE {LAST}",
    ),
    "two settlements": (
        "log settled",
        (
            f"UPDATE outlived.events SET type = 'run.settled', data ="
            f" (SELECT data FROM outlived.events WHERE {LAST}) WHERE run_id = {TALK} AND seq = 3"
        ),
    ),
    "a settlement that is another event": (
        "fold settled",
        f"UPDATE outlived.events SET type = 'log', data = '{{}}' WHERE {LAST}",
    ),
    "a settled run that is active": (
        "fold message settled",
        f"UPDATE outlived.runs SET status = 'running' WHERE id = {TALK}",
    ),
    "an active run that is settled": (
        "fold message settled",
        f"UPDATE outlived.runs SET status = 'succeeded' WHERE id = {ACTIVE}",
    ),
    "an epoch that falls": (
        "epoch",
        f"UPDATE outlived.events SET epoch = 2 WHERE run_id = {TALK} AND seq = 3",
    ),
    "an epoch that nobody began": ("epoch", f"UPDATE outlived.events SET epoch = 2 WHERE {LAST}"),
    "an epoch of the row alone": ("fold", f"UPDATE outlived.runs SET epoch = 2 WHERE id = {ACTIVE}"),
    "an owner of the row alone": (
        "fold",
        f"UPDATE outlived.runs SET owner = (SELECT owner FROM outlived.runs WHERE id = {TALK}) WHERE id = {ACTIVE}",
    ),
    "another outcome": (
        "fold message",
        f"UPDATE outlived.runs SET status = 'failed' WHERE id = {TALK}",
    ),
    "an error nobody made": (
        "fold",
        f"""UPDATE outlived.runs SET error = '{{"code": "exception"}}' WHERE id = {TALK}""",
    ),
    "an error that was lost": ("fold", f"UPDATE outlived.runs SET error = NULL WHERE id = {TALK_2}"),
    "steps nobody took": ("fold", f"UPDATE outlived.runs SET step_count = 7 WHERE id = {TALK}"),
    "usage nobody had": ("fold", f"UPDATE outlived.runs SET input_tokens = 7 WHERE id = {TALK}"),
    "a time that is not its event's": (
        "fold",
        f"UPDATE outlived.runs SET finished_at = finished_at + interval '1 us' WHERE id = {TALK}",
    ),
    "a settled run without its stop": (
        "fold",
        f"UPDATE outlived.runs SET stop_requested_at = NULL WHERE id = {STOPPED}",
    ),
    "an event that cannot follow": (
        "log",
        f"UPDATE outlived.events SET type = 'run.resumed' WHERE run_id = {TALK} AND seq = 3",
    ),
    "data that is not JSON": (
        "log",
        f"UPDATE outlived.events SET data = '{{' WHERE run_id = {TALK} AND seq = 2",
    ),
    "data of another shape": (
        "log",
        f"UPDATE outlived.events SET data = '[]' WHERE run_id = {TALK} AND type = 'text.delta'",
    ),
    "a text that was changed in the log": (
        "message",
        f"""UPDATE outlived.events SET data = '{{"text": "other"}}' WHERE run_id = {TALK} AND type = 'text.delta'""",
    ),
    "a text that was changed in the message": (
        "message",
        f"UPDATE outlived.messages SET content = content || '!' WHERE run_id = {TALK} AND role = 'assistant'",
    ),
    "parts that were changed": (
        "message",
        f"UPDATE outlived.messages SET parts = '[]' WHERE run_id = {TALK} AND role = 'assistant'",
    ),
    "a message cut shorter": (
        "message",
        f"""UPDATE outlived.messages SET content = left(content, 100), truncated = true,
            parts = '[{{"type":"text","text":"' || left(content, 99) || '"}}]' WHERE run_id = {CUT} AND role = 'assistant'""",
    ),
    "a whole message called cut": (
        "message",
        f"UPDATE outlived.messages SET truncated = true WHERE run_id = {TALK} AND role = 'assistant'",
    ),
    "a cut message called whole": (
        "message",
        f"UPDATE outlived.messages SET truncated = false WHERE run_id = {CUT} AND role = 'assistant'",
    ),
    "a message that is behind": (
        "message",
        f"UPDATE outlived.messages SET as_of_seq = as_of_seq - 1 WHERE run_id = {TALK} AND role = 'assistant'",
    ),
    "a message that is ahead": (
        "message",
        f"UPDATE outlived.messages SET as_of_seq = 99 WHERE run_id = {ACTIVE} AND role = 'assistant'",
    ),
    "a message that goes on": (
        "message",
        f"UPDATE outlived.messages SET status = 'streaming' WHERE run_id = {TALK} AND role = 'assistant'",
    ),
    "a missing answer": (
        "message position",
        f"DELETE FROM outlived.messages WHERE run_id = {TALK} AND role = 'assistant'",
    ),
    "a missing question": (
        "position",
        f"DELETE FROM outlived.messages WHERE run_id = {TALK} AND role = 'user'",
    ),
    "a position given twice": (
        "position",
        "ALTER TABLE outlived.messages DROP CONSTRAINT messages_workspace_chat_id_position_key",
        f"UPDATE outlived.messages SET position = 1 WHERE run_id = {TALK}",
    ),
    "a position to be given again": (
        "position",
        "UPDATE outlived.chats SET next_position = 2 WHERE chat_id = 'talk'",
    ),
    "a position left out": (
        "position",
        "UPDATE outlived.chats SET next_position = 9 WHERE chat_id = 'talk'",
    ),
    "a run at another place": ("position", f"UPDATE outlived.runs SET position = 7 WHERE id = {TALK}"),
    "events of nobody": (
        "stray",
        f"INSERT INTO outlived.events VALUES ({NOBODY}, 1, 1, now(), 'log', '{{}}')",
    ),
    "events of nobody, last": (
        "stray",
        (
            "INSERT INTO outlived.events SELECT 'ffffffff-ffff-7fff-bfff-ffffffffffff', g, 1, now(), 'log', '{}'"
            " FROM generate_series(1, 300) g"
        ),
    ),
    "a message of nobody": (
        "stray",
        (
            f"INSERT INTO outlived.messages SELECT {NOBODY}, workspace, chat_id, {NOBODY}, 3, role, status, content,"
            f" truncated, parts, 0, created_at, updated_at FROM outlived.messages WHERE run_id = {TALK} AND role = 'user'"
        ),
        "UPDATE outlived.chats SET next_position = 4 WHERE chat_id = 'talk'",
    ),
    "an active run whose log is cut": (
        "pruned",
        f"UPDATE outlived.runs SET first_seq = 2 WHERE id = {ACTIVE}",
        f"DELETE FROM outlived.events WHERE run_id = {ACTIVE} AND seq = 1",
    ),
    "a log called pruned": ("pruned", f"UPDATE outlived.runs SET pruned_at = now() WHERE id = {SHELL}"),
    "a pruned log that nobody says is pruned": (
        "pruned",
        f"UPDATE outlived.runs SET first_seq = last_seq + 1 WHERE id = {SHELL}",
        f"DELETE FROM outlived.events WHERE run_id = {SHELL}",
    ),
    "a step without its event": ("step", f"INSERT INTO outlived.steps VALUES ({TALK}, 9, 'x', 'null', 2)"),
    "a step of a pruned run": (
        "step",
        f"UPDATE outlived.runs SET first_seq = last_seq + 1, pruned_at = now() WHERE id = {SHELL}",
        f"DELETE FROM outlived.events WHERE run_id = {SHELL}",
        f"INSERT INTO outlived.steps VALUES ({SHELL}, 9, 'x', 'null', 2)",
    ),
    "a step of nobody": ("step", f"INSERT INTO outlived.steps VALUES ({NOBODY}, 1, 'x', 'null', 2)"),
    "two active runs": (
        "slot",
        "DROP INDEX outlived.runs_one_active_per_chat",
        (
            "UPDATE outlived.messages SET chat_id = 'active', position = position + 2 WHERE run_id = (SELECT id FROM"
            " outlived.runs WHERE chat_id = 'active-2')"
        ),
        "UPDATE outlived.runs SET chat_id = 'active', position = position + 2 WHERE chat_id = 'active-2'",
        (
            "UPDATE outlived.chats SET next_position = CASE chat_id WHEN 'active' THEN 5 ELSE 1 END"
            " WHERE chat_id IN ('active', 'active-2')"
        ),
    ),
}
"""What it is called -> (the complaints it must make, what is done)."""

LIVING = f"""INSERT INTO outlived.owners SELECT {NOBODY}, home_id, host, boot_id, pid_namespace, pid, start_ticks, socket,
    version, now() - interval '1 hour', 60, now() + interval '60 s' FROM outlived.owners LIMIT 1"""
DEAD = "UPDATE outlived.owners SET lease_seconds = 0.01, dead_at = now() - interval '1 hour'"
EXPIRED = "UPDATE outlived.owners SET lease_seconds = 0.01, lease_until = now() - interval '1 hour'"


@contextmanager
def killing(daemon: Daemon) -> Iterator[None]:
    """At the end, whatever it is, the daemon is killed."""
    try:
        yield
    finally:
        daemon.kill()


@pytest.fixture(scope="module")
def healthy(postgres: Postgres, short_dir) -> str:
    """A database in which everything has happened once; its daemon was killed with runs under way."""
    database = postgres.create_database()
    begin_audit(database)
    daemon = Daemon(make_home(short_dir), database=database, config=CONFIG).start()
    with killing(daemon), daemon.connect() as wire:
        perform(wire, chat_id="talk", input="one two three", metadata={"demo": {"delay_ms": 1}})
        perform(wire, chat_id="talk-2", input="one two", metadata={"demo": {"fail": "x", "delay_ms": 0}})
        perform(wire, chat_id="cut", input="ä" * 400, metadata={"demo": {"delay_ms": 0, "repeat": 3}})
        perform(wire, chat_id="outspoken", agent="outspoken")
        perform(wire, chat_id="outspoken", input="")
        stop(wire, start_endless(wire, chat_id="stopped")["id"], reason="enough")
        perform(wire, chat_id="shell", command=["sh", "-c", "echo a; echo b >&2; exit 3"])
        start_endless(wire, chat_id="lost")
    daemon.start()
    with killing(daemon), daemon.connect() as wire:
        start_endless(wire, chat_id="active")
        start_endless(wire, chat_id="active-2")
    return database


class Damaged:
    """The healthy database with something changed in it, as one transaction sees it that is never committed."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def change(self, *statements: str, by_daemon: bool = False) -> "Damaged":
        """Change it as no daemon could, unless told otherwise: without any trigger and foreign key."""
        self._connection.rollback()
        if not by_daemon:
            self._connection.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            assert self._connection.execute(statement).rowcount != 0, statement
        return self

    def find(self, allowance: Allowance = ALLOWANCE) -> list[Problem]:
        """What the checker finds."""
        return list(Snapshot(self._connection, None).review(allowance, lambda _counts: None))

    def read_audit(self) -> list[str]:
        """What the audit has seen."""
        self._connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        return read_wrongs_here(self._connection)


@pytest.fixture
def damage(healthy: str) -> Iterator[Callable[..., Damaged]]:
    """Change the healthy database, for this test alone."""
    with psycopg.connect(healthy) as connection:
        yield Damaged(connection).change
        connection.rollback()


def test_a_healthy_history_is_clean(healthy: str):
    """Whatever has happened to its runs, a database that only daemons have written has no problem."""
    assert check_history(healthy) == []


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(damage, name: str):
    """Each kind of damage makes exactly its own complaints, all of them about the run it was done to."""
    kinds, *statements = DAMAGE[name]
    problems = damage(*statements).find()
    assert " ".join(sorted({problem.kind for problem in problems})) == kinds, [str(each) for each in problems]
    assert len({problem.run_id for problem in problems} - {None}) <= 1


def test_a_pruned_log_is_not_folded(damage):
    """A log whose beginning was removed, as its row says, is checked as far as it is there."""
    prune = (
        f"UPDATE outlived.runs SET first_seq = 3 WHERE id = {TALK}",
        f"DELETE FROM outlived.events WHERE run_id = {TALK} AND seq < 3",
    )
    assert damage(*prune).find() == []
    whole = prune[0].replace("first_seq = 3", "first_seq = last_seq + 1, pruned_at = now()")
    assert damage(whole, f"DELETE FROM outlived.events WHERE run_id = {TALK}").find() == []
    hole = f"DELETE FROM outlived.events WHERE run_id = {TALK} AND seq = 4"
    assert [problem.kind for problem in damage(*prune, hole).find()] == ["gap"]


@pytest.mark.parametrize("end", [DEAD, EXPIRED])
def test_a_run_left_behind_is_stuck(damage, end: str):
    """An active run of a dead or expired owner is a problem, once a living daemon has had time to sweep it."""
    problems = damage(end, LIVING).find(BRIEFLY)
    assert [problem.kind for problem in problems] == ["stuck", "stuck"]
    assert damage(end, LIVING).find(Allowance(sweep_seconds=3600)) == []


def test_a_run_nobody_could_sweep_is_not_stuck(damage):
    """Without a daemon, with one that came a moment ago, or with a process to adopt, a run may wait."""
    newcomer = LIVING.replace("now() - interval '1 hour'", "clock_timestamp()")
    adoptable = "UPDATE outlived.runs SET process_pid = 1 WHERE status = 'running'"
    long_lease = DEAD.replace("0.01", "3600")  # counted from Postgres's start too
    for statements in ([EXPIRED], [DEAD, newcomer], [DEAD, LIVING, adoptable], [long_lease, LIVING]):
        assert damage(*statements).find(Allowance(0.1, 3600)) == [], statements


def test_a_lost_start_is_missed(healthy: str):
    """A start that was acknowledged and is not in the database is a problem."""
    assert check_history(healthy, acknowledged={NOBODY.strip("'")}) == [
        f"acknowledged run {NOBODY.strip(chr(39))} is not there"
    ]


def test_a_reader_that_saw_something_else_is_missed(healthy: str):
    """What a reader was shown must begin the log: another event, a gap or a surplus is a problem."""
    with psycopg.connect(healthy) as connection:
        [run_id] = connection.execute(f"SELECT id::text FROM outlived.runs WHERE id = {TALK}").fetchone()
        rows = connection.execute(
            "SELECT seq, type, data::jsonb FROM outlived.events WHERE run_id = %s ORDER BY seq", [run_id]
        )
        log = [{"seq": seq, "type": type_, "data": data} for seq, type_, data in rows]
    assert check_readers(healthy, {run_id: [log, log[:3], []]}) == []
    for shown in (log[1:], log[:1] + log[2:], [*log, log[-1]], [{**log[0], "data": {}}]):
        assert len(check_readers(healthy, {run_id: [log, shown]})) == 1


AUDITED = {
    "two active runs": (
        "had two active runs at once",
        "DROP INDEX outlived.runs_one_active_per_chat",
        "UPDATE outlived.runs SET chat_id = 'active', position = 3, status = 'queued' WHERE chat_id = 'active-2'",
        "UPDATE outlived.runs SET status = 'running' WHERE position = 3 AND chat_id = 'active'",
        "UPDATE outlived.runs SET status = 'queued' WHERE position = 3 AND chat_id = 'active'",
    ),
    "an outcome that was replaced": (
        "changed after its settlement",
        "ALTER TABLE outlived.runs DISABLE TRIGGER runs_terminal_is_final",
        f"UPDATE outlived.runs SET status = 'failed' WHERE id = {TALK}",
    ),
    "an epoch that fell": (
        "its epoch fell",
        f"UPDATE outlived.runs SET epoch = 0 WHERE id = {ACTIVE}",
    ),
    "an owner without an epoch": (
        "within epoch",
        f"UPDATE outlived.runs SET owner = (SELECT owner FROM outlived.runs WHERE id = {TALK}) WHERE id = {ACTIVE}",
    ),
    "a row written for a dead owner": (
        "stale write",
        "UPDATE outlived.owners SET dead_at = clock_timestamp() WHERE dead_at IS NULL",
        f"UPDATE outlived.runs SET last_seq = last_seq + 1 WHERE id = {ACTIVE}",
    ),
    "an event of a dead owner": (
        "stale write",
        "UPDATE outlived.owners SET dead_at = clock_timestamp() WHERE dead_at IS NULL",
        f"INSERT INTO outlived.events VALUES ({ACTIVE}, 99, 1, now(), 'log', '{{}}')",
    ),
    "an event of an epoch that is over": (
        "stale write",
        f"INSERT INTO outlived.events VALUES ({ACTIVE}, 99, 0, now(), 'log', '{{}}')",
    ),
    "an event that was removed": ("changed or removed", f"DELETE FROM outlived.events WHERE {LAST}"),
    "an owner that revived": (
        "revived",
        "UPDATE outlived.owners SET dead_at = NULL WHERE dead_at IS NOT NULL",
    ),
    "a batch of a dead owner": (
        "revived",
        "UPDATE outlived.owners SET dead_at = clock_timestamp() WHERE dead_at IS NULL",
        "UPDATE outlived.owners SET batch_no = batch_no + 1 WHERE dead_at IS NOT NULL",
    ),
}
"""What it is called -> (what the audit says, what is done)."""


@pytest.mark.parametrize("name", AUDITED)
def test_the_audit_sees_what_is_gone_again(damage, name: str):
    """What must not happen at any instant is seen although the tables are in order afterwards."""
    said, *statements = AUDITED[name]
    wrongs = damage(*statements, by_daemon=True).read_audit()
    assert wrongs
    assert all(said in wrong for wrong in wrongs), wrongs
