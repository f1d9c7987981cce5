-- One run in its commits, without any daemon: the rows that outlived writes, on its own tables and indexes.
-- Each function is one commit in one round trip, with plans that are kept: as fast as this can be asked for.
-- `n` numbers the run; keys made of it grow, as UUIDv7 do: an index is extended at its end, not everywhere.
-- `fence`: also raise the owner's row, as every batch of the journal does. Concurrent clients would queue for it.
CREATE SCHEMA bench;

INSERT INTO outlived.owners (id, home_id, host, boot_id, pid_namespace, pid, start_ticks, socket, version, lease_seconds,
                             lease_until)
VALUES ('01900000-0000-7000-8000-000000000000', gen_random_uuid(), 'here', '', '', 1, 1, '', '', 60, clock_timestamp());

CREATE FUNCTION bench.raise_fence() RETURNS void LANGUAGE sql AS $$
    UPDATE outlived.owners
    SET batch_no = batch_no + 1, batch_at = clock_timestamp(),
        lease_until = greatest(lease_until, clock_timestamp() + make_interval(secs => lease_seconds))
    WHERE id = '01900000-0000-7000-8000-000000000000' AND dead_at IS NULL;
$$;

-- A new chat, a pending run, the user's message and the assistant's, run.created.
CREATE FUNCTION bench.start(n text, fence boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    chat      text := '01900000-0000-7000-8000-' || n;
    run       uuid := '01900000-0000-7001-8000-' || n;
    question  uuid := '01900000-0000-7002-8000-' || n;
    answer    uuid := '01900000-0000-7003-8000-' || n;
    at        timestamptz := clock_timestamp();
BEGIN
    IF fence THEN PERFORM bench.raise_fence(); END IF;
    INSERT INTO outlived.chats (workspace, chat_id, next_position, created_at, active_at)
    VALUES ('default', chat, 3, at, at);
    INSERT INTO outlived.runs (id, workspace, chat_id, position, agent, input, trigger, peer_uid, message_id, metadata,
        detached, on_owner_loss, status, epoch, owner, last_seq, created_at, updated_at)
    VALUES (run, 'default', chat, 1, 'step', '"hello"', 'user', 0, answer, '{}', true, 'abort', 'pending', 1,
        '01900000-0000-7000-8000-000000000000', 1, at, at);
    INSERT INTO outlived.messages (id, workspace, chat_id, run_id, position, role, status, content, parts, as_of_seq,
        created_at, updated_at)
    VALUES (question, 'default', chat, run, 1, 'user', 'completed', 'hello', '[{"type":"text","text":"hello"}]', 0, at, at),
           (answer, 'default', chat, run, 2, 'assistant', 'streaming', '', '[]', 0, at, at);
    INSERT INTO outlived.events (run_id, seq, epoch, at, type, data)
    VALUES (run, 1, 1, at, 'run.created', '{"trigger":"user","agent":"step","status":"pending",'
        '"owner":"01900000-0000-7000-8000-000000000000","epoch":1}');
END $$;

-- The end of a step: run.started, step.started, step.finished.
CREATE FUNCTION bench.step(n text, fence boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    run  uuid := '01900000-0000-7001-8000-' || n;
    at   timestamptz := clock_timestamp();
BEGIN
    IF fence THEN PERFORM bench.raise_fence(); END IF;
    UPDATE outlived.runs SET status = 'running', step_count = 1, last_seq = 4, started_at = at, updated_at = at
    WHERE id = run;
    INSERT INTO outlived.events (run_id, seq, epoch, at, type, data)
    VALUES (run, 2, 1, at, 'run.started', '{"attempt":1,"owner":"01900000-0000-7000-8000-000000000000","epoch":1}'),
           (run, 3, 1, at, 'step.started', '{"step":1,"name":"work"}'),
           (run, 4, 1, at, 'step.finished', '{"step":1,"name":"work"}');
END $$;

-- The text and the settlement; `step`: whether one was before (if not, run.started is here).
CREATE FUNCTION bench.settle(n text, step boolean, fence boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    run     uuid := '01900000-0000-7001-8000-' || n;
    answer  uuid := '01900000-0000-7003-8000-' || n;
    seq     bigint := CASE WHEN step THEN 4 ELSE 2 END;
    at      timestamptz := clock_timestamp();
BEGIN
    IF fence THEN PERFORM bench.raise_fence(); END IF;
    UPDATE outlived.runs SET status = 'succeeded', last_seq = seq + 2, started_at = coalesce(started_at, at),
        finished_at = at, updated_at = at
    WHERE id = run;
    UPDATE outlived.messages SET content = 'done', parts = '[{"type":"text","text":"done"}]', as_of_seq = seq + 2,
        status = 'completed', updated_at = at
    WHERE id = answer;
    IF NOT step THEN
        INSERT INTO outlived.events (run_id, seq, epoch, at, type, data)
        VALUES (run, 2, 1, at, 'run.started', '{"attempt":1,"owner":"01900000-0000-7000-8000-000000000000","epoch":1}');
    END IF;
    INSERT INTO outlived.events (run_id, seq, epoch, at, type, data)
    VALUES (run, seq + 1, 1, at, 'text.delta', '{"text":"done"}'),
           (run, seq + 2, 1, at, 'run.settled',
            '{"status":"succeeded","error":null,"stop_requested_at":null,"stop_reason":null}');
END $$;
