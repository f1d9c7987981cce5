-- What a run may know of what was before it in its chat. Reading only: a session is kept by an item of the journal.

-- name: read_history
-- The newest messages before a position, as many as fit, oldest first; the newest one always fits. All of them are
-- complete: a chat has one active run, and these are of runs before it.
SELECT {message_columns} FROM (
    SELECT m.*, row_number() OVER newest_first AS place,
           sum(octet_length(m.content) + octet_length(m.parts)) OVER newest_first AS size
    FROM (SELECT * FROM outlived.messages
          WHERE workspace = %(workspace)s AND chat_id = %(chat_id)s AND position < %(before_position)s
          ORDER BY position DESC LIMIT %(limit)s) m
    WINDOW newest_first AS (ORDER BY m.position DESC)
) m WHERE m.size <= %(bytes)s OR m.place = 1 ORDER BY m.position;

-- name: read_last_finished_step
-- The highest number of a step that any attempt has finished.
SELECT max((data::json ->> 'step')::bigint) FROM outlived.events
WHERE run_id = %(run_id)s AND type = 'step.finished';

-- name: read_session
-- The session that a program of this host has for the chat.
SELECT session_id, note FROM outlived.sessions
WHERE workspace = %(workspace)s AND chat_id = %(chat_id)s AND agent = %(agent)s AND host = %(host)s
  AND session_id IS NOT NULL;
