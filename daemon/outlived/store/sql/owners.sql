-- name: register
-- A new owner: one registration of one daemon.
INSERT INTO outlived.owners (id, home_id, host, boot_id, pid_namespace, pid, start_ticks, socket, version,
                             lease_seconds, lease_until)
VALUES (%(id)s, %(home_id)s, %(host)s, %(boot_id)s, %(pid_namespace)s, %(pid)s, %(start_ticks)s, %(socket)s,
        %(version)s, %(lease)s, clock_timestamp() + make_interval(secs => %(lease)s))
RETURNING extract(epoch FROM clock_timestamp())::float8;

-- name: renew
-- The heartbeat: renews the lease and leaves the fence alone. No row: this owner was declared dead.
UPDATE outlived.owners SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE id = %(me)s AND dead_at IS NULL
RETURNING extract(epoch FROM clock_timestamp())::float8;

-- name: read_unsettled
-- Every run that this owner still holds: the heartbeat compares it with the registry.
SELECT string_agg(id::text, ',') FROM outlived.runs
WHERE owner = %(me)s AND status NOT IN {terminal};

-- name: read_marked
-- Those of this owner's runs that somebody wants stopped: with each beat, and after a hint that there are some.
SELECT id, stop_requested_at, stop_reason, stop_requested_by FROM outlived.runs
WHERE owner = %(me)s AND status NOT IN {terminal} AND stop_requested_at IS NOT NULL;

-- name: read_living
-- Owners not yet declared dead, other than this one, for the sweep to judge; those silent for longest first.
SELECT id, home_id, host, boot_id, pid_namespace, pid, start_ticks, lease_until < clock_timestamp() AS expired
FROM outlived.owners
WHERE dead_at IS NULL AND id <> %(me)s
ORDER BY lease_until
LIMIT %(limit)s;

-- name: list_owners
-- For people: whoever lives, and of the dead those of the last day and those that still have something unsettled.
SELECT o.id, CASE WHEN o.dead_at IS NOT NULL THEN 'dead' WHEN o.lease_until < clock_timestamp() THEN 'expired'
             ELSE 'living' END,
       o.host, o.pid, o.version, o.socket, o.registered_at, o.lease_seconds,
       o.lease_seconds - extract(epoch FROM o.lease_until - clock_timestamp())::float8, o.dead_at, o.dead_reason, r.runs
FROM outlived.owners o CROSS JOIN LATERAL (
    SELECT count(*) AS runs FROM outlived.runs r WHERE r.owner = o.id AND r.status NOT IN {terminal}) r
WHERE o.dead_at IS NULL OR o.dead_at > clock_timestamp() - interval '1 day' OR r.runs > 0
ORDER BY o.dead_at IS NOT NULL, o.dead_at DESC, o.registered_at, o.id LIMIT %(limit)s;

-- name: read_holder
-- The owner of one run, for a start that finds its chat taken.
SELECT o.id, o.home_id, o.host, o.boot_id, o.pid_namespace, o.pid, o.start_ticks,
       o.lease_until < clock_timestamp() AS expired, o.dead_at IS NOT NULL AS dead
FROM outlived.runs r JOIN outlived.owners o ON o.id = r.owner
WHERE r.id = %(run_id)s AND r.status IN {active};

-- name: read_adopted
-- Whether the owner of an active run took it over and will not go on with it: then it is about to be settled. The next
-- daemon of the same home may go on with its command.
SELECT 1 FROM outlived.runs r JOIN outlived.owners o ON o.id = r.owner
WHERE r.id = %(run_id)s AND r.status IN {active} AND r.on_owner_loss = 'abort' AND r.epoch > r.attempt
  AND (r.process_pid IS NULL OR o.home_id <> (
       SELECT first.home_id FROM outlived.events e JOIN outlived.owners first ON first.id = (e.data::json ->> 'owner')::uuid
       WHERE e.run_id = r.id AND e.seq = 1))
  AND 'run.adopted' = (SELECT e.type FROM outlived.events e
                       WHERE e.run_id = r.id AND e.seq > r.last_seq - 10 AND e.type IN ('run.adopted', 'run.started')
                       ORDER BY e.seq DESC LIMIT 1);

-- name: declare_dead
-- Reaping: an owner whose death is proved, or whose lease ran out while Postgres was up for at least a lease.
UPDATE outlived.owners SET dead_at = clock_timestamp(), dead_reason = %(reason)s
WHERE id = %(id)s AND id <> %(me)s AND dead_at IS NULL
  AND (%(proved)s OR (lease_until < clock_timestamp()
       AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => lease_seconds)))
RETURNING id;

-- name: end_silent_holder
-- The session that holds an owner's row because its daemon fell silent in the middle of a batch (suspended, or cut
-- off): its transaction is the row's xmax. Postgres has no timeout for a client that does not finish sending. A daemon
-- that lives after all finds its connection broken, and tries its batch again.
SELECT pg_terminate_backend(a.pid) FROM outlived.owners o
JOIN pg_locks l ON l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.transactionid = o.xmax
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE o.id = %(id)s AND a.state IN ('active', 'idle in transaction') AND a.wait_event = 'ClientRead'
  AND a.state_change < clock_timestamp() - interval '1 second';

-- name: retire
-- A clean stop: nobody has to wait for this owner's lease.
UPDATE outlived.owners SET dead_at = clock_timestamp(), dead_reason = 'retired'
WHERE id = %(me)s AND dead_at IS NULL;

-- name: read_takeable
-- Unsettled runs that are nobody's: of dead owners at once, but for those with a process, which the next daemon of their
-- home may adopt for a while; those without an owner that somebody wants stopped; others without an owner (and not of a configured agent that this daemon has) only after the backstop,
-- and never queued or waiting ones.
SELECT r.id FROM outlived.runs r
JOIN outlived.owners o ON o.id = r.owner
WHERE r.status NOT IN {terminal} AND o.dead_at IS NOT NULL
  AND (r.process_pid IS NULL OR %(adopt)s = 0 OR o.lease_until < clock_timestamp() - make_interval(secs => %(adopt)s))
UNION ALL
SELECT r.id FROM outlived.runs r
WHERE r.owner IS NULL AND r.status IN ('pending', 'running')
  AND (r.stop_requested_at IS NOT NULL
       OR (%(backstop_open)s AND r.updated_at < clock_timestamp() - make_interval(secs => %(backstop)s)
           AND (r.agent IS NULL OR r.agent <> ALL(%(agents)s))))
LIMIT %(limit)s;
