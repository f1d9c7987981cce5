-- Events of settled runs leave when they are old enough. Only the database's clock judges age.

-- name: plan_quickly
-- A piece takes less time than compiling its plan would.
SELECT set_config('jit', 'off', true);

-- name: prune
-- One piece of work: events of the runs that are settled for longest, from the oldest on, a bounded number.
--
-- due: the front of runs_prunable, each run with the room that those before it leave; from where the last piece ended,
-- for before that the index is full of what was just pruned. A message that is not stored up to the end of the log
-- keeps the log.
-- piece: those that nobody else is pruning, locked, with the first_seq they have under the lock.
-- Rows go by ctid, found by index run by run: however many are due, no plan reads a whole table.
-- A run has no more steps than events: with each piece as many steps go as it has events, and none is left.
WITH front AS (
    SELECT r.id, r.first_seq, r.last_seq, r.finished_at FROM outlived.runs r
    WHERE r.pruned_at IS NULL AND r.finished_at < statement_timestamp() - make_interval(secs => %(keep)s)
      AND r.finished_at >= coalesce(%(since)s::timestamptz, '-infinity') AND r.status IN {terminal}
      AND (SELECT m.as_of_seq FROM outlived.messages m WHERE m.id = r.message_id) >= r.last_seq
    ORDER BY r.finished_at LIMIT %(runs)s
), due AS (
    SELECT f.id, %(events)s::bigint - coalesce(sum(f.last_seq - f.first_seq + 1) OVER (
        ORDER BY f.finished_at, f.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS room
    FROM front f
), piece AS (
    SELECT r.id, r.first_seq, r.last_seq, least(r.last_seq, r.first_seq - 1 + d.room) AS upto
    FROM due d JOIN outlived.runs r ON r.id = d.id
    WHERE d.room > 0 AND r.pruned_at IS NULL
    ORDER BY r.id
    FOR NO KEY UPDATE OF r SKIP LOCKED
), gone AS (
    DELETE FROM outlived.events WHERE ctid = ANY(ARRAY(
        SELECT found.row FROM piece p CROSS JOIN LATERAL (
            SELECT e.ctid AS row FROM outlived.events e
            WHERE e.run_id = p.id AND e.seq >= p.first_seq AND e.seq <= p.upto
            ORDER BY e.seq LIMIT %(events)s) found))
    RETURNING 1
), steps_gone AS (
    DELETE FROM outlived.steps WHERE ctid = ANY(ARRAY(
        SELECT found.row FROM piece p CROSS JOIN LATERAL (
            SELECT s.ctid AS row FROM outlived.steps s
            WHERE s.run_id = p.id ORDER BY s.position LIMIT p.upto - p.first_seq + 1) found))
), moved AS (
    UPDATE outlived.runs r
    SET first_seq = p.upto + 1, pruned_at = CASE WHEN p.upto = p.last_seq THEN clock_timestamp() END
    FROM piece p WHERE r.id = p.id
    RETURNING r.pruned_at, r.finished_at
)
SELECT (SELECT count(*) FROM gone), count(*), count(pruned_at), max(finished_at) FROM moved;
