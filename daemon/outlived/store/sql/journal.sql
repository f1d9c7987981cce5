-- The statements of one batch, in the order of its locks: the owner's row, chats by key, runs by id, new
-- runs last. journal/plan.py decides between the first half (what is so) and the second (what to write).
-- Every parameter has a cast, which says how it is sent; every time is read as the wire writes it ({utc}); see
-- store/exchange.py.

-- name: begin
BEGIN;

-- name: limit_time
-- No statement of a batch waits long: it would hold the fence. And its plan is ours: every statement looks rows up
-- by key, so the plan that is right for a table of millions is the one to keep, though it was first made, and kept by a
-- prepared statement, when the table was empty.
SELECT set_config('lock_timeout', %(lock_ms)s::text, true),
       set_config('statement_timeout', %(statement_ms)s::text, true),
       set_config('idle_in_transaction_session_timeout', %(statement_ms)s::text, true),
       set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true);

-- name: fence
-- The owner's row is locked, not looked at: a takeover cannot slip in between.
UPDATE outlived.owners
SET batch_no = %(batch_no)s::bigint, batch_at = clock_timestamp(),
    lease_until = greatest(lease_until, clock_timestamp() + make_interval(secs => %(lease)s::double precision))
WHERE id = %(me)s::uuid AND batch_no = %(batch_no)s::bigint - 1 AND dead_at IS NULL
RETURNING to_char(batch_at AT TIME ZONE 'UTC', {utc});

-- name: read_fence
-- Why the fence did not open: an earlier try of the same batch committed, or this owner is dead.
SELECT batch_no, dead_at IS NOT NULL AS dead FROM outlived.owners WHERE id = %(me)s::uuid;

-- name: lock_chats
-- Every chat of the batch that exists, in one order for all daemons.
SELECT c.workspace, c.chat_id, c.next_position
FROM outlived.chats c
JOIN unnest(%(workspaces)s::text[], %(chats)s::text[]) AS k (workspace, chat_id) USING (workspace, chat_id)
ORDER BY c.workspace, c.chat_id
FOR NO KEY UPDATE OF c;

-- name: lock_runs
-- The runs that settle: any daemon may have written a stop mark until now.
SELECT id, to_char(stop_requested_at AT TIME ZONE 'UTC', {utc}), stop_reason, stop_requested_by FROM outlived.runs
WHERE id = ANY(%(ids)s::uuid[]) AND owner = %(me)s::uuid AND status NOT IN {terminal}
ORDER BY id
FOR NO KEY UPDATE;

-- name: lock_takeable
-- The runs to take: still unsettled, and their owner dead, none, or this one (which lost sight of them). Their
-- messages come along, so there are as many as fit into a batch; the first one always does.
WITH free AS MATERIALIZED (
    SELECT r.* FROM outlived.runs r
    WHERE r.id = ANY(%(ids)s::uuid[]) AND r.status NOT IN {terminal}
      AND (r.owner IS NULL OR r.owner = %(me)s::uuid
           OR EXISTS (SELECT 1 FROM outlived.owners o WHERE o.id = r.owner AND o.dead_at IS NOT NULL))
    ORDER BY r.id
    FOR NO KEY UPDATE OF r SKIP LOCKED)
SELECT r.id, r.workspace, r.chat_id, r.status, r.attempt, r.epoch, r.owner, r.last_seq, r.step_count,
       r.input_tokens, r.output_tokens, r.cached_tokens, r.cost_micro_usd,
       to_char(r.stop_requested_at AT TIME ZONE 'UTC', {utc}), r.stop_reason,
       to_char(r.created_at AT TIME ZONE 'UTC', {utc}), to_char(r.started_at AT TIME ZONE 'UTC', {utc}),
       to_char(r.updated_at AT TIME ZONE 'UTC', {utc}),
       r.message_id, r.parts, r.truncated, r.as_of_seq
FROM (SELECT free.*, m.parts, m.truncated, m.as_of_seq,
             sum(octet_length(m.parts)) OVER (ORDER BY free.id) - octet_length(m.parts) AS before
      FROM free JOIN outlived.messages m ON m.id = free.message_id) r
WHERE r.before < %(bytes)s::bigint ORDER BY r.id;

-- name: find_keys
-- Runs that were started with the same key.
SELECT r.workspace, r.idempotency_key, r.id, r.request_digest
FROM outlived.runs r
JOIN unnest(%(workspaces)s::text[], %(keys)s::text[]) AS k (workspace, idempotency_key)
  USING (workspace, idempotency_key);

-- name: find_active
-- Runs that hold the slot of a chat. The chats are locked: nobody changes the answer before the commit.
SELECT r.workspace, r.chat_id, r.id
FROM outlived.runs r
JOIN unnest(%(workspaces)s::text[], %(chats)s::text[]) AS k (workspace, chat_id) USING (workspace, chat_id)
WHERE r.status IN {active};

-- name: insert_chats
INSERT INTO outlived.chats (workspace, chat_id, next_position, created_at, active_at)
SELECT workspace, chat_id, next_position, %(at)s::timestamptz, %(at)s::timestamptz
FROM unnest(%(workspaces)s::text[], %(chats)s::text[], %(positions)s::bigint[])
     AS c (workspace, chat_id, next_position);

-- name: update_chats
UPDATE outlived.chats c SET next_position = n.next_position, active_at = %(at)s::timestamptz
FROM unnest(%(workspaces)s::text[], %(chats)s::text[], %(positions)s::bigint[])
     AS n (workspace, chat_id, next_position)
WHERE c.workspace = n.workspace AND c.chat_id = n.chat_id;

-- name: update_runs
-- Owner and epoch are the second line behind the fence: if a run is not ours, the whole batch is refused.
WITH written AS (UPDATE outlived.runs r
SET status = n.status, attempt = n.attempt, epoch = n.epoch, owner = n.owner, step_count = n.step_count,
    last_seq = n.last_seq, error = n.error, input_tokens = n.input_tokens, output_tokens = n.output_tokens,
    cached_tokens = n.cached_tokens, cost_micro_usd = n.cost_micro_usd, started_at = n.started_at,
    finished_at = n.finished_at, updated_at = %(at)s::timestamptz,
    stop_requested_at = coalesce(r.stop_requested_at, n.stop_requested_at),
    stop_reason = CASE WHEN r.stop_requested_at IS NULL THEN n.stop_reason ELSE r.stop_reason END
FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(attempts)s::int[], %(epochs)s::bigint[],
            %(owners)s::uuid[], %(steps)s::int[], %(last_seqs)s::bigint[], %(errors)s::text[],
            %(input_tokens)s::bigint[], %(output_tokens)s::bigint[], %(cached_tokens)s::bigint[],
            %(costs)s::bigint[], %(starts)s::timestamptz[], %(finishes)s::timestamptz[],
            %(stops)s::timestamptz[], %(stop_reasons)s::text[], %(old_owners)s::uuid[], %(old_epochs)s::bigint[])
     AS n (id, status, attempt, epoch, owner, step_count, last_seq, error, input_tokens, output_tokens,
           cached_tokens, cost_micro_usd, started_at, finished_at, stop_requested_at, stop_reason,
           old_owner, old_epoch)
WHERE r.id = n.id AND r.owner IS NOT DISTINCT FROM n.old_owner AND r.epoch = n.old_epoch
RETURNING 1)
SELECT outlived.demand(count(*) = %(expected)s::bigint, 'a run of it is no longer of this owner') FROM written;

-- name: update_processes
UPDATE outlived.runs r
SET process_host = n.host, process_boot_id = n.boot_id, process_pid_namespace = n.pid_namespace,
    process_pid = n.pid, process_start_ticks = n.start_ticks, process_pgid = n.pgid
FROM unnest(%(ids)s::uuid[], %(hosts)s::text[], %(boot_ids)s::text[], %(pid_namespaces)s::text[],
            %(pids)s::int[], %(start_ticks)s::bigint[], %(pgids)s::int[])
     AS n (id, host, boot_id, pid_namespace, pid, start_ticks, pgid)
WHERE r.id = n.id AND r.owner = %(me)s::uuid;

-- name: update_positions
-- How far the output of commands was read: in the commit of the events made of it.
UPDATE outlived.runs r
SET stdout_offset = n.stdout_offset, stderr_offset = n.stderr_offset, reader_state = n.reader_state
FROM unnest(%(ids)s::uuid[], %(stdouts)s::bigint[], %(stderrs)s::bigint[], %(states)s::text[])
     AS n (id, stdout_offset, stderr_offset, reader_state)
WHERE r.id = n.id AND r.owner = %(me)s::uuid;

-- name: insert_runs
INSERT INTO outlived.runs (id, workspace, chat_id, position, agent, command, input, trigger, created_by,
    peer_uid, message_id, metadata, detached, on_owner_loss, idempotency_key, request_digest, cwd, env,
    status, epoch, owner, last_seq, created_at, updated_at)
SELECT id, workspace, chat_id, position, agent, command, input, trigger, created_by,
    peer_uid, message_id, metadata, detached, on_owner_loss, idempotency_key, request_digest, cwd, env,
    'pending', 1, %(me)s::uuid, 1, %(at)s::timestamptz, %(at)s::timestamptz
FROM unnest(%(ids)s::uuid[], %(workspaces)s::text[], %(chats)s::text[], %(positions)s::bigint[],
            %(agents)s::text[], %(commands)s::text[], %(inputs)s::text[], %(triggers)s::text[],
            %(created_bys)s::text[], %(peer_uids)s::bigint[], %(message_ids)s::uuid[], %(metadatas)s::text[],
            %(detacheds)s::boolean[], %(on_owner_losses)s::text[], %(keys)s::text[], %(digests)s::text[],
            %(cwds)s::text[], %(envs)s::text[])
     AS n (id, workspace, chat_id, position, agent, command, input, trigger, created_by, peer_uid, message_id,
           metadata, detached, on_owner_loss, idempotency_key, request_digest, cwd, env);

-- name: insert_messages
INSERT INTO outlived.messages (id, workspace, chat_id, run_id, position, role, status, content, parts,
                               as_of_seq, created_at, updated_at)
SELECT id, workspace, chat_id, run_id, position, role, status, content, parts, 0, %(at)s::timestamptz, %(at)s::timestamptz
FROM unnest(%(ids)s::uuid[], %(workspaces)s::text[], %(chats)s::text[], %(run_ids)s::uuid[],
            %(positions)s::bigint[], %(roles)s::text[], %(statuses)s::text[], %(contents)s::text[],
            %(parts)s::text[])
     AS n (id, workspace, chat_id, run_id, position, role, status, content, parts);

-- name: update_messages
UPDATE outlived.messages m
SET content = n.content, parts = n.parts, truncated = n.truncated, as_of_seq = n.as_of_seq,
    status = n.status, updated_at = %(at)s::timestamptz
FROM unnest(%(ids)s::uuid[], %(contents)s::text[], %(parts)s::text[], %(truncateds)s::boolean[],
            %(as_of_seqs)s::bigint[], %(statuses)s::text[])
     AS n (id, content, parts, truncated, as_of_seq, status)
WHERE m.id = n.id;

-- name: insert_events
INSERT INTO outlived.events (run_id, seq, epoch, at, type, data)
SELECT run_id, seq, epoch, %(at)s::timestamptz, type, data
FROM unnest(%(run_ids)s::uuid[], %(seqs)s::bigint[], %(epochs)s::bigint[], %(types)s::text[], %(datas)s::text[])
     AS n (run_id, seq, epoch, type, data);

-- name: insert_steps
-- What steps have returned, with the events that say so: the run's next attempt will not perform them again.
INSERT INTO outlived.steps (run_id, position, name, result, seq)
SELECT run_id, position, name, result, seq
FROM unnest(%(run_ids)s::uuid[], %(positions)s::int[], %(names)s::text[], %(results)s::text[], %(seqs)s::bigint[])
     AS n (run_id, position, name, result, seq);

-- name: keep_sessions
-- The conversations that agent programs keep themselves. A chat has one active run, so nobody else writes its rows now.
INSERT INTO outlived.sessions AS s (workspace, chat_id, agent, host, session_id, note, run_id, updated_at)
SELECT workspace, chat_id, agent, host, session_id, note, run_id, %(at)s::timestamptz
FROM unnest(%(workspaces)s::text[], %(chats)s::text[], %(agents)s::text[], %(hosts)s::text[], %(session_ids)s::text[],
            %(notes)s::text[], %(run_ids)s::uuid[])
     AS n (workspace, chat_id, agent, host, session_id, note, run_id)
ON CONFLICT (workspace, chat_id, agent) DO UPDATE
SET host = excluded.host, session_id = excluded.session_id, note = excluded.note, run_id = excluded.run_id,
    updated_at = excluded.updated_at;

-- name: commit
COMMIT;

-- name: rollback
ROLLBACK;
