-- Reading runs, chats, messages and events. A run's columns are listed once: {run_columns}, rows.py reads them.

-- name: read_run
SELECT {run_columns} FROM outlived.runs r WHERE r.id = %(run_id)s;

-- name: read_run_and_message
-- One statement, one snapshot: the message is as of its as_of_seq, the run says how far its log goes.
SELECT {run_columns}, {message_columns}
FROM outlived.runs r JOIN outlived.messages m ON m.id = r.message_id
WHERE r.id = %(run_id)s;

-- name: read_latest
SELECT {run_columns}, {message_columns}
FROM outlived.runs r JOIN outlived.messages m ON m.id = r.message_id
WHERE r.workspace = %(workspace)s AND r.chat_id = %(chat_id)s
ORDER BY r.position DESC LIMIT 1;

-- name: read_stoppable
-- The active run of a chat, else its latest.
SELECT r.id FROM outlived.runs r
WHERE r.workspace = %(workspace)s AND r.chat_id = %(chat_id)s
ORDER BY (r.status IN {active}) DESC, r.position DESC LIMIT 1;

-- name: mark_stop
-- The intent, durable whoever owns the run. The first stop's mark stays; a settled run takes none.
UPDATE outlived.runs r
SET stop_requested_at = clock_timestamp(), stop_reason = %(reason)s, stop_requested_by = %(by)s
WHERE r.id = %(run_id)s AND r.status NOT IN {terminal} AND r.stop_requested_at IS NULL;

-- name: read_stop
SELECT r.status, r.owner, r.stop_requested_at, r.stop_reason, r.stop_requested_by
FROM outlived.runs r WHERE r.id = %(run_id)s;

-- name: read_progress
-- For the tails and waits of runs that other daemons own: how far each log is.
SELECT id, last_seq, status, owner FROM outlived.runs WHERE id = ANY(%(ids)s::uuid[]);

-- name: read_first_seq
-- From where on a log is kept.
SELECT first_seq FROM outlived.runs WHERE id = %(run_id)s;

-- name: list_runs
-- Bounded in bytes as well as in rows; the first one always fits.
SELECT {run_columns}, r.found FROM (
    SELECT r.*, count(*) OVER () AS found,
           sum(octet_length(r.metadata) + coalesce(octet_length(r.command), 0)) OVER (ORDER BY r.id DESC)
           - octet_length(r.metadata) - coalesce(octet_length(r.command), 0) AS before
    FROM (SELECT * FROM outlived.runs r
          WHERE (%(workspace)s::text IS NULL OR r.workspace = %(workspace)s)
            AND (%(allowed)s::text[] IS NULL OR r.workspace = ANY(%(allowed)s))
            AND (%(chat_id)s::text IS NULL OR r.chat_id = %(chat_id)s)
            AND (%(statuses)s::text[] IS NULL OR r.status = ANY(%(statuses)s))
            AND (%(agent)s::text IS NULL OR r.agent = %(agent)s)
            AND (%(before)s::uuid IS NULL OR r.id < %(before)s)
          ORDER BY r.id DESC LIMIT %(limit)s) r
) r WHERE r.before < %(bytes)s ORDER BY r.id DESC;

-- name: read_events
-- One page of a log: bounded in rows here, in bytes by the running total; the first one always fits.
SELECT seq, at, type, data FROM (
    SELECT seq, at, type, data, sum(octet_length(data) + %(each)s) OVER (ORDER BY seq) AS total
    FROM outlived.events
    WHERE run_id = %(run_id)s AND seq > %(after)s::bigint AND seq <= %(after)s::bigint + %(limit)s::bigint
) page WHERE total <= %(bytes)s OR seq = %(after)s::bigint + 1 ORDER BY seq;

-- name: read_shaping_events
-- What a stored message has not seen yet: a page, bounded in rows and in bytes; the first one always fits. Beside it, in at
-- least one row, from where on the log is kept.
SELECT r.first_seq, p.seq, p.at, p.type, p.data, p.found
FROM outlived.runs r LEFT JOIN LATERAL (
    SELECT seq, at, type, data, count(*) OVER () AS found,
           sum(octet_length(data)) OVER (ORDER BY seq) - octet_length(data) AS before
    FROM (SELECT seq, at, type, data FROM outlived.events
          WHERE run_id = r.id AND seq > %(after)s AND seq <= %(upto)s AND type = ANY(%(types)s)
          ORDER BY seq LIMIT %(limit)s) e
) p ON p.before < %(bytes)s
WHERE r.id = %(run_id)s
ORDER BY p.seq;

-- name: read_processes
-- The process a run was given, where it was given one.
SELECT id, process_host, process_boot_id, process_pid_namespace, process_pid, process_start_ticks, process_pgid
FROM outlived.runs WHERE id = ANY(%(ids)s::uuid[]) AND process_pid IS NOT NULL;

-- name: create_chat
INSERT INTO outlived.chats (workspace, chat_id, title, metadata, created_at, active_at)
VALUES (%(workspace)s, %(chat_id)s, %(title)s, %(metadata)s, clock_timestamp(), clock_timestamp())
ON CONFLICT (workspace, chat_id) DO NOTHING
RETURNING 1;

-- name: read_chat
SELECT {chat_columns} FROM outlived.chats c WHERE c.workspace = %(workspace)s AND c.chat_id = %(chat_id)s;

-- name: list_chats
SELECT {chat_columns} FROM outlived.chats c
WHERE (%(workspace)s::text IS NULL OR c.workspace = %(workspace)s)
  AND (%(allowed)s::text[] IS NULL OR c.workspace = ANY(%(allowed)s))
  AND (%(at)s::timestamptz IS NULL
       OR (c.active_at, c.workspace, c.chat_id) < (%(at)s::timestamptz, %(after_workspace)s, %(after_chat)s))
ORDER BY c.active_at DESC, c.workspace DESC, c.chat_id DESC LIMIT %(limit)s;

-- name: list_messages
-- Bounded in bytes as well as in rows; the first one always fits.
SELECT {message_columns}, m.run_last_seq, m.found FROM (
    SELECT m.*, r.last_seq AS run_last_seq, count(*) OVER () AS found,
           sum(octet_length(m.content) + octet_length(m.parts)) OVER (ORDER BY m.position)
           - octet_length(m.content) - octet_length(m.parts) AS before
    FROM (SELECT * FROM outlived.messages
          WHERE workspace = %(workspace)s AND chat_id = %(chat_id)s AND position > %(after)s
          ORDER BY position LIMIT %(limit)s) m
    LEFT JOIN outlived.runs r ON r.id = m.run_id
) m WHERE m.before < %(bytes)s ORDER BY m.position;
