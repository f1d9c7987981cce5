"""Fills the tables with settled runs, as daemons would have left them after months, set by set in SQL.

Ten events a run, a chat per five runs, every 100th run without a good end; ids are UUIDv7 in the order of time, so the
indexes have the shape that real ids give them. Triggers and indexes are in place; at the end VACUUM and ANALYZE,
as autovacuum would have done by then.

Not here: measuring (``scale.py``, ``reread.py``).
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

EVENTS_PER_RUN = 10
RUNS_PER_CHAT = 5
SLICE = 50_000
"""Runs in one transaction."""

PREPARE = """
CREATE SCHEMA IF NOT EXISTS bench;
-- A UUIDv7 of the n-th millisecond of the history; the same n and kind give the same id.
CREATE OR REPLACE FUNCTION bench.id(n bigint, kind text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid
    FROM md5(kind || n) AS m (h)
$$;
CREATE OR REPLACE FUNCTION bench.at(n bigint, milliseconds bigint DEFAULT 0) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT to_timestamp((1700000000000 + n + milliseconds) / 1000.0)
$$;
INSERT INTO outlived.owners (id, home_id, host, boot_id, pid_namespace, pid, start_ticks, socket, version,
                             lease_seconds, lease_until, dead_at, dead_reason)
VALUES (bench.id(0, 'owner'), bench.id(0, 'home'), 'bench', 'boot', 'ns', 1, 1, '/nowhere', '0', 60, bench.at(0),
        bench.at(0), 'retired')
ON CONFLICT DO NOTHING;
"""

# Runs with %(chats)s chats take turns: run n is the (n / chats)-th of chat n %% chats.
CHATS = """
INSERT INTO outlived.chats (workspace, chat_id, title, next_position, created_at, active_at)
SELECT CASE WHEN c %% 10 = 0 THEN 'second' ELSE 'default' END, 'chat-' || c, 'Chat number ' || c,
       2 * %(per_chat)s + 1, bench.at(c), bench.at(c + %(chats)s::bigint * (%(per_chat)s - 1))
FROM generate_series(0, %(chats)s - 1) AS c
"""
RUNS = """
INSERT INTO outlived.runs (id, workspace, chat_id, position, agent, input, trigger, peer_uid, message_id, metadata,
    detached, on_owner_loss, status, epoch, owner, step_count, last_seq, error, input_tokens, output_tokens,
    created_at, started_at, finished_at, updated_at)
SELECT bench.id(n, 'run'), CASE WHEN n %% %(chats)s %% 10 = 0 THEN 'second' ELSE 'default' END,
       'chat-' || n %% %(chats)s, 2 * (n / %(chats)s) + 1, 'writer', '"Write me a paragraph about number ' || n || '"',
       'user', 1000, bench.id(n, 'assistant'), '{"source":"bench"}', true, 'abort',
       CASE WHEN n %% 100 = 0 THEN 'failed' ELSE 'succeeded' END, 1, bench.id(0, 'owner'), 1, %(events)s,
       CASE WHEN n %% 100 = 0 THEN '{"code":"exception","message":"the model was away"}' END, 1200, 340,
       bench.at(n), bench.at(n, 2), bench.at(n, 9000), bench.at(n, 9000)
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""
MESSAGES = """
INSERT INTO outlived.messages (id, workspace, chat_id, run_id, position, role, status, content, parts, as_of_seq,
                               created_at, updated_at)
SELECT bench.id(n, role), CASE WHEN n %% %(chats)s %% 10 = 0 THEN 'second' ELSE 'default' END,
       'chat-' || n %% %(chats)s, bench.id(n, 'run'), 2 * (n / %(chats)s) + 1 + shift, role,
       CASE WHEN shift = 1 AND n %% 100 = 0 THEN 'failed' ELSE 'completed' END, text,
       '[{"type":"text","text":"' || text || '"}]', CASE shift WHEN 1 THEN %(events)s ELSE 0 END,
       bench.at(n), bench.at(n, 9000)
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n,
     (VALUES ('user', 0, 'Write me a paragraph'), ('assistant', 1, repeat('some words of an answer ', 14)))
         AS m (role, shift, text)
"""
EVENTS = """
INSERT INTO outlived.events (run_id, seq, epoch, at, type, data)
SELECT bench.id(n, 'run'), seq, 1, bench.at(n, seq * 900),
       CASE seq WHEN 1 THEN 'run.created' WHEN 2 THEN 'run.started' WHEN 3 THEN 'step.started'
                WHEN %(events)s - 1 THEN 'step.finished' WHEN %(events)s THEN 'run.settled' ELSE 'text.delta' END,
       CASE seq
           WHEN 1 THEN '{"trigger":"user","agent":"writer","status":"pending","owner":"' || bench.id(0, 'owner') || '","epoch":1}'
           WHEN 2 THEN '{"attempt":1,"owner":"' || bench.id(0, 'owner') || '","epoch":1}'
           WHEN 3 THEN '{"step":1,"name":"answer"}'
           WHEN %(events)s - 1 THEN '{"step":1,"name":"answer"}'
           WHEN %(events)s THEN '{"status":"succeeded","error":null,"stop_requested_at":null,"stop_reason":null}'
           ELSE '{"text":"' || repeat('some words of an answer ', 3) || '"}' END
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n, generate_series(1, %(events)s) AS seq
"""
LONG_RUN = """
INSERT INTO outlived.chats (workspace, chat_id, next_position, created_at, active_at)
VALUES ('default', 'long', 3, bench.at(-1), bench.at(-1));
INSERT INTO outlived.runs (id, workspace, chat_id, position, agent, input, trigger, peer_uid, message_id, detached,
    on_owner_loss, status, epoch, owner, step_count, last_seq, created_at, started_at, finished_at, updated_at)
VALUES (bench.id(-1, 'run'), 'default', 'long', 1, 'writer', '""', 'user', 1000, bench.id(-1, 'assistant'), true,
        'abort', 'succeeded', 1, bench.id(0, 'owner'), 1, {events}, bench.at(-1), bench.at(-1), bench.at(-1), bench.at(-1));
INSERT INTO outlived.messages (id, workspace, chat_id, run_id, position, role, status, as_of_seq, created_at, updated_at)
VALUES (bench.id(-1, 'assistant'), 'default', 'long', bench.id(-1, 'run'), 2, 'assistant', 'completed', {events},
        bench.at(-1), bench.at(-1));
INSERT INTO outlived.events (run_id, seq, epoch, at, type, data)
SELECT bench.id(-1, 'run'), seq, 1, bench.at(seq), 'log', '{{"stream":"stdout","text":"' || repeat('.', {bytes} - 29) || '"}}'
FROM generate_series(1, {events} - 1) AS seq
UNION ALL SELECT bench.id(-1, 'run'), {events}, 1, bench.at({events}), 'run.settled', '{{"status":"succeeded"}}';
SELECT bench.id(-1, 'run')::text
"""


def fill(dsn: str, runs: int) -> Iterator[int]:
    """Insert ``runs`` settled runs into a migrated database without any; yields how many are there by now."""
    chats = max(1, runs // RUNS_PER_CHAT)
    params = {"chats": chats, "per_chat": RUNS_PER_CHAT, "events": EVENTS_PER_RUN}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(PREPARE)
        connection.execute(CHATS, params)
        for first in range(0, runs, SLICE):
            bounds = {**params, "first": first, "last": min(first + SLICE, runs) - 1}
            with connection.transaction():
                for statement in (RUNS, MESSAGES, EVENTS):
                    connection.execute(statement, bounds)
            yield bounds["last"] + 1
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def fill_long_run(dsn: str, events: int, size: int) -> str:
    """Insert one settled run with ``events`` log events of ``size`` bytes; its id."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(PREPARE)
        cursor = connection.execute(LONG_RUN.format(events=events, bytes=size))
        while cursor.nextset():
            pass
        [[run_id]] = cursor.fetchall()
        connection.execute("VACUUM (ANALYZE)")
    return str(run_id)
