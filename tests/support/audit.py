"""An audit of a test's database: triggers that write down, in order of the commits, what a final look cannot show.

1. *One active run per chat at every instant.* A run that begins or ceases to hold its chat is noted at the end of its
   transaction, under a lock that is held over the commit: the notes of a chat are in the order of its commits.
2. *No stale write.* An event, or a change of a run, whose owner is declared dead, an event of another epoch than its
   run's, an epoch that falls, an owner that changes without a new epoch, a dead owner that revives.
3. *A settled run never changes*, whatever the daemons' own trigger thinks.

None of it relies on the daemons' indexes and triggers: it would see what they let through.
"""

from typing import Any

import psycopg

from outlived.rules.run import ACTIVE, TERMINAL
from tests.support.journals import make_schema


def _listed(statuses: frozenset[str]) -> str:
    return "(" + ", ".join(f"'{status}'" for status in sorted(statuses)) + ")"


AUDIT = f"""
CREATE SCHEMA audit;
CREATE TABLE audit.slots (
    n bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    workspace text NOT NULL, chat_id text NOT NULL, run_id uuid NOT NULL, held boolean NOT NULL
);
CREATE TABLE audit.wrongs (at timestamptz NOT NULL DEFAULT clock_timestamp(), what text NOT NULL);
CREATE TABLE audit.epochs (
    at timestamptz NOT NULL DEFAULT clock_timestamp(), run_id uuid NOT NULL, status text NOT NULL,
    epoch bigint NOT NULL, owner uuid
);

CREATE FUNCTION audit.note_slot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.workspace || chr(1) || NEW.chat_id, 0));
    INSERT INTO audit.slots (workspace, chat_id, run_id, held)
    VALUES (NEW.workspace, NEW.chat_id, NEW.id, NEW.status IN {_listed(ACTIVE)});
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER audit_taken AFTER INSERT ON outlived.runs DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.status IN {_listed(ACTIVE)}) EXECUTE FUNCTION audit.note_slot();
CREATE CONSTRAINT TRIGGER audit_changed AFTER UPDATE ON outlived.runs DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ((NEW.status IN {_listed(ACTIVE)}) <> (OLD.status IN {_listed(ACTIVE)}))
    EXECUTE FUNCTION audit.note_slot();

CREATE FUNCTION audit.look_at_run() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong text;
BEGIN
    IF OLD.status IN {_listed(TERMINAL)} AND (NEW.status, NEW.epoch, NEW.last_seq, NEW.error, NEW.finished_at)
       IS DISTINCT FROM (OLD.status, OLD.epoch, OLD.last_seq, OLD.error, OLD.finished_at) THEN
        wrong := format('changed after its settlement: %s became %s', OLD.status, NEW.status);
    ELSIF NEW.epoch < OLD.epoch THEN
        wrong := format('its epoch fell from %s to %s', OLD.epoch, NEW.epoch);
    ELSIF NEW.owner IS DISTINCT FROM OLD.owner AND NEW.owner IS NOT NULL AND NEW.epoch = OLD.epoch THEN
        wrong := format('owner %s became %s within epoch %s', OLD.owner, NEW.owner, NEW.epoch);
    ELSIF NEW.last_seq <> OLD.last_seq AND EXISTS (
            SELECT 1 FROM outlived.owners WHERE id = NEW.owner AND dead_at IS NOT NULL) THEN
        wrong := format('stale write: changed for owner %s, which is dead', NEW.owner);
    END IF;
    IF wrong IS NOT NULL THEN
        INSERT INTO audit.wrongs (what) VALUES (format('run %s: %s', NEW.id, wrong));
    END IF;
    IF (NEW.epoch, NEW.status) IS DISTINCT FROM (OLD.epoch, OLD.status) THEN
        INSERT INTO audit.epochs (run_id, status, epoch, owner) VALUES (NEW.id, NEW.status, NEW.epoch, NEW.owner);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_run AFTER UPDATE ON outlived.runs FOR EACH ROW EXECUTE FUNCTION audit.look_at_run();

CREATE FUNCTION audit.look_at_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.wrongs (what)
    SELECT format('run %s: stale write: event %s of epoch %s, the run has epoch %s and owner %s (%s)',
                  e.run_id, e.seq, e.epoch, r.epoch, r.owner, CASE WHEN o.dead_at IS NULL THEN 'lives' ELSE 'dead' END)
    FROM written e LEFT JOIN outlived.runs r ON r.id = e.run_id LEFT JOIN outlived.owners o ON o.id = r.owner
    WHERE r.id IS NULL OR e.epoch > r.epoch OR o.dead_at IS NOT NULL
       OR e.epoch <> r.epoch AND NOT EXISTS (SELECT 1 FROM written w WHERE w.run_id = e.run_id AND w.epoch = r.epoch);
    RETURN NULL;
END $$;
CREATE TRIGGER audit_events AFTER INSERT ON outlived.events REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION audit.look_at_events();

CREATE FUNCTION audit.look_at_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.wrongs (what) VALUES (format('run %s: event %s was changed or removed', OLD.run_id, OLD.seq));
    RETURN NULL;
END $$;
CREATE TRIGGER audit_log AFTER UPDATE OR DELETE ON outlived.events FOR EACH ROW EXECUTE FUNCTION audit.look_at_log();

CREATE FUNCTION audit.look_at_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.wrongs (what) VALUES (format('owner %s: revived, or wrote, after it was declared dead', OLD.id));
    RETURN NULL;
END $$;
CREATE TRIGGER audit_owner AFTER UPDATE ON outlived.owners FOR EACH ROW
    WHEN (OLD.dead_at IS NOT NULL AND (NEW.dead_at IS DISTINCT FROM OLD.dead_at OR NEW.batch_no <> OLD.batch_no
          OR NEW.lease_until <> OLD.lease_until))
    EXECUTE FUNCTION audit.look_at_owner();
"""


def begin_audit(dsn: str) -> None:
    """Make the schema and its audit, before any daemon comes."""
    make_schema(dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute(AUDIT)


def read_wrongs(dsn: str) -> list[str]:
    """What the audit has seen that must not be; nothing where there is no audit."""
    with psycopg.connect(dsn) as connection:
        return read_wrongs_here(connection)


def read_wrongs_here(connection: psycopg.Connection[Any]) -> list[str]:
    """The same, as this transaction sees it."""
    there = connection.execute("SELECT to_regclass('audit.slots') IS NOT NULL").fetchone()
    if there is None or not there[0]:
        return []
    wrongs = [what for (what,) in connection.execute("SELECT what FROM audit.wrongs ORDER BY at")]
    slots = connection.execute("SELECT workspace, chat_id, run_id::text, held FROM audit.slots ORDER BY n")
    return wrongs + _replay(slots.fetchall())


def count_stale_writes(dsn: str) -> int:
    """How many writes of dead or replaced owners were accepted."""
    return sum("stale write" in wrong for wrong in read_wrongs(dsn))


def count_double_chats(dsn: str) -> int:
    """How many chats had two active runs at some instant."""
    return sum("two active runs" in wrong for wrong in read_wrongs(dsn))


def _replay(slots: list[tuple[str, str, str, bool]]) -> list[str]:
    """The chats that had more than one active run at some instant."""
    holders: dict[tuple[str, str], set[str]] = {}
    crowded = {}
    for workspace, chat, run_id, held in slots:
        now = holders.setdefault((workspace, chat), set())
        (now.add if held else now.discard)(run_id)
        if len(now) > 1:
            crowded.setdefault((workspace, chat), sorted(now))
    return [f"chat {chat} had two active runs at once: {runs}" for (_, chat), runs in crowded.items()]
