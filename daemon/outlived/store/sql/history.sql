-- What the history checker reads, in one snapshot. Every statement may be limited to one workspace (null: all).
-- Status lists come from rules/run.py.

-- name: is_there
-- Whether a daemon was ever here.
SELECT to_regclass('outlived.schema_version') IS NOT NULL;

-- name: read_runs
-- Every run and its assistant message. Large texts stay where they are: their digests are compared.
SELECT r.id, r.position, r.first_seq, r.status, r.attempt, r.epoch, r.owner, r.step_count, r.last_seq, r.error,
       r.created_at, r.started_at, r.finished_at, r.updated_at, r.stop_requested_at, r.stop_reason,
       r.input_tokens, r.output_tokens, r.cached_tokens, r.cost_micro_usd,
       r.pruned_at IS NOT NULL, m.id, m.status, m.truncated, m.as_of_seq, m.position,
       sha256(convert_to(m.content, 'UTF8')), sha256(convert_to(m.parts, 'UTF8'))
FROM outlived.runs r LEFT JOIN outlived.messages m ON m.id = r.message_id AND m.run_id = r.id
WHERE %(workspace)s::text IS NULL OR r.workspace = %(workspace)s
ORDER BY r.id;

-- name: read_parts
-- One message's parts: what a truncated message holds says where it was cut.
SELECT parts FROM outlived.messages WHERE id = %(message_id)s;

-- name: read_events
-- Every log, in the order of the runs.
SELECT e.run_id, e.seq, e.epoch, e.at, e.type, e.data FROM outlived.events e
WHERE %(workspace)s::text IS NULL
   OR e.run_id IN (SELECT r.id FROM outlived.runs r WHERE r.workspace = %(workspace)s)
ORDER BY e.run_id, e.seq;

-- name: find_crowded_chats
-- Chats with more than one active run.
SELECT workspace, chat_id, array_agg(id::text ORDER BY id) FROM outlived.runs
WHERE status IN {active} AND (%(workspace)s::text IS NULL OR workspace = %(workspace)s)
GROUP BY workspace, chat_id HAVING count(*) > 1 ORDER BY workspace, chat_id;

-- name: find_stray_messages
-- Messages of runs that are not there.
SELECT m.id, m.run_id FROM outlived.messages m
WHERE m.run_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM outlived.runs r WHERE r.id = m.run_id)
  AND (%(workspace)s::text IS NULL OR m.workspace = %(workspace)s)
ORDER BY m.id;

-- name: find_stray_steps
-- Results of steps without the event that says so, of a run that is not there, or whose whole log is pruned.
SELECT s.run_id, s.position FROM outlived.steps s
LEFT JOIN outlived.runs r ON r.id = s.run_id LEFT JOIN outlived.events e ON e.run_id = s.run_id AND e.seq = s.seq
WHERE (r.id IS NULL OR r.pruned_at IS NOT NULL OR (s.seq >= r.first_seq AND e.type IS DISTINCT FROM 'step.finished'))
  AND (%(workspace)s::text IS NULL OR r.workspace = %(workspace)s)
ORDER BY s.run_id, s.position;

-- name: find_gapped_chats
-- Chats whose messages are not numbered 1, 2, 3 … up to what the chat numbers next.
SELECT c.workspace, c.chat_id, c.next_position, count(m.id), count(DISTINCT m.position), min(m.position), max(m.position)
FROM outlived.chats c LEFT JOIN outlived.messages m USING (workspace, chat_id)
WHERE %(workspace)s::text IS NULL OR c.workspace = %(workspace)s
GROUP BY c.workspace, c.chat_id
HAVING (count(m.id), count(DISTINCT m.position), coalesce(min(m.position), 1), coalesce(max(m.position), 0))
       <> (c.next_position - 1, c.next_position - 1, 1, c.next_position - 1)
ORDER BY c.workspace, c.chat_id;

-- name: find_misplaced_runs
-- Runs whose place in the chat is another run's, or not that of what they were asked.
SELECT r.id, r.position FROM outlived.runs r
WHERE (%(workspace)s::text IS NULL OR r.workspace = %(workspace)s)
  AND NOT EXISTS (SELECT 1 FROM outlived.messages m WHERE m.workspace = r.workspace AND m.chat_id = r.chat_id
                  AND m.position = r.position AND m.run_id = r.id AND m.role = 'user')
ORDER BY r.id;

-- name: find_stuck_runs
-- Active runs whose owner has been dead or expired for longer than its lease and two sweeps, in which some daemon
-- lived to see it. Counted from what came last: the owner's end, a lease after the database's start (nobody could
-- renew before), the longest-living daemon's registration; up to the last sign of life of any daemon.
-- A run with a recorded process has adopt_seconds more: its own daemon may come back for it.
WITH living AS (
    SELECT min(registered_at) AS since,
           max(least(lease_until - make_interval(secs => lease_seconds), clock_timestamp())) AS seen
    FROM outlived.owners WHERE dead_at IS NULL AND lease_until >= clock_timestamp()
), lost AS (
    SELECT r.id, r.status, o.id AS owner, o.dead_at IS NOT NULL AS dead,
           extract(epoch FROM living.seen - greatest(least(o.dead_at, o.lease_until), living.since,
               pg_postmaster_start_time() + make_interval(secs => o.lease_seconds))) AS seconds,
           o.lease_seconds + 2 * %(sweep)s
               + CASE WHEN r.process_pid IS NULL THEN 0 ELSE %(adopt)s END AS allowed
    FROM outlived.runs r JOIN outlived.owners o ON o.id = r.owner CROSS JOIN living
    WHERE r.status IN {active} AND (o.dead_at IS NOT NULL OR o.lease_until < clock_timestamp())
      AND (%(workspace)s::text IS NULL OR r.workspace = %(workspace)s)
)
SELECT id, status, owner, dead, seconds::float8, allowed::float8 FROM lost WHERE seconds > allowed ORDER BY id;

-- name: count_unsettled
-- Unsettled runs, and those of them that wait for somebody: without an owner, or with one that is gone.
SELECT count(*), count(*) FILTER (WHERE o.id IS NULL OR o.dead_at IS NOT NULL OR o.lease_until < clock_timestamp())
FROM outlived.runs r LEFT JOIN outlived.owners o ON o.id = r.owner
WHERE r.status NOT IN {terminal} AND (%(workspace)s::text IS NULL OR r.workspace = %(workspace)s);
