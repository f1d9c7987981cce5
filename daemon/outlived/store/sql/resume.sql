-- Runs that were released and what their earlier attempts have finished. Reading only: a claim is an item of the
-- journal.

-- name: read_released_agents
-- The agents for which released runs wait; null for ad-hoc commands. One look at the index of unsettled runs, which is
-- what naming the terminal statuses is for.
SELECT DISTINCT agent FROM outlived.runs
WHERE owner IS NULL AND status IN {released} AND status NOT IN {terminal} AND on_owner_loss = 'resume' AND stop_requested_at IS NULL;

-- name: read_claimable
-- Released runs of these agents, the oldest first. An ad-hoc command belongs where it was accepted: to the same home, or
-- to the same user on the same machine, in the same pid namespace.
SELECT {run_columns}, r.input, r.cwd, r.env, r.peer_uid, m.id
FROM outlived.runs r
JOIN outlived.messages m ON m.workspace = r.workspace AND m.chat_id = r.chat_id AND m.position = r.position
WHERE r.owner IS NULL AND r.status IN {released} AND r.status NOT IN {terminal}
  AND r.on_owner_loss = 'resume' AND r.stop_requested_at IS NULL
  AND (r.agent = ANY(%(agents)s::text[]) OR (r.agent IS NULL AND EXISTS (
        SELECT 1 FROM outlived.events e JOIN outlived.owners o ON o.id = (e.data::json ->> 'owner')::uuid
        WHERE e.run_id = r.id AND e.seq = 1
          AND (o.home_id = %(home_id)s::uuid
               OR (r.peer_uid = %(uid)s AND o.boot_id = %(boot_id)s AND o.pid_namespace = %(pid_namespace)s)))))
ORDER BY r.id LIMIT %(limit)s;

-- name: read_loss
-- Whether a run may have a next attempt if it is stopped by nobody, and how many it has lost with their owners.
SELECT r.on_owner_loss = 'resume' AND r.detached,
       (SELECT count(*) FROM outlived.events e
        WHERE r.on_owner_loss = 'resume' AND e.run_id = r.id AND e.type = 'run.released'
          AND e.data::json ->> 'reason' = 'owner_lost')
FROM outlived.runs r WHERE r.id = %(run_id)s;

-- name: read_last_step
SELECT max(position) FROM outlived.steps WHERE run_id = %(run_id)s;

-- name: read_step
SELECT name, result FROM outlived.steps WHERE run_id = %(run_id)s AND position = %(position)s;
