-- Commands that outlived their daemon. Reading only: taking a run is an item of the journal.

-- name: read_orphans
-- Runs with a process that earlier owners of this home have left, with all that is needed to go on with them.
SELECT {run_columns}, r.input, r.cwd, r.env, r.peer_uid, m.id,
       r.process_boot_id, r.process_pid_namespace, r.process_pid, r.process_start_ticks,
       r.stdout_offset, r.stderr_offset, r.reader_state,
       extract(epoch FROM clock_timestamp() - coalesce(CASE WHEN r.attempt > 1 THEN
           (SELECT max(e.at) FROM outlived.events e WHERE e.run_id = r.id AND e.type = 'run.started') END,
           r.started_at, r.created_at))::float8,
       o.id, o.home_id, o.host, o.boot_id, o.pid_namespace, o.pid, o.start_ticks,
       o.lease_until < clock_timestamp() AS expired, o.dead_at IS NOT NULL AS dead
FROM outlived.owners o
JOIN outlived.runs r ON r.owner = o.id AND r.status NOT IN {terminal}
JOIN outlived.messages m ON m.workspace = r.workspace AND m.chat_id = r.chat_id AND m.position = r.position
WHERE o.home_id = %(home_id)s::uuid AND o.id <> %(me)s::uuid AND r.process_pid IS NOT NULL
  AND (%(after_run)s::uuid IS NULL OR r.id > %(after_run)s::uuid)
ORDER BY r.id LIMIT %(limit)s;

-- name: list_settled
SELECT id::text FROM outlived.runs WHERE id = ANY(%(ids)s::uuid[]) AND status IN {terminal};

-- name: read_awaited
-- A daemon of the home that started its process may come back for the run: for so long after the end of the lease.
SELECT 1 FROM outlived.runs r JOIN outlived.owners o ON o.id = r.owner
WHERE r.id = %(run_id)s AND r.process_pid IS NOT NULL AND o.home_id <> %(home_id)s::uuid AND %(adopt)s > 0
  AND o.lease_until > clock_timestamp() - make_interval(secs => %(adopt)s);
