-- Migration 1: owners, chats, runs, messages, events, steps.
--
-- Times are clock_timestamp(): now() stands still inside a batch. Nothing that changes with every batch is
-- indexed (last_seq, updated_at, lease_until, batch_no), so those updates stay heap-only (HOT).
-- {active} and {terminal} are filled in from rules/run.py: no status list is written by hand.

CREATE TABLE outlived.owners (
    id             uuid PRIMARY KEY,
    home_id        uuid NOT NULL,           -- the state directory: the same daemon after a restart
    host           text NOT NULL,
    boot_id        text NOT NULL,
    pid_namespace  text NOT NULL,
    pid            integer NOT NULL,
    start_ticks    bigint NOT NULL,
    socket         text NOT NULL,
    version        text NOT NULL,
    registered_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_seconds  double precision NOT NULL,
    lease_until    timestamptz NOT NULL,
    batch_no       bigint NOT NULL DEFAULT 0, -- the fence: every batch of the journal raises it by one
    batch_at       timestamptz,               -- the time of the batch that raised it
    dead_at        timestamptz,               -- once set, never cleared: a dead owner does not revive
    dead_reason    text
) WITH (fillfactor = 20); -- few rows, updated for ever: room for HOT updates on the page

CREATE INDEX owners_dead ON outlived.owners (dead_at) WHERE dead_at IS NOT NULL;

CREATE TABLE outlived.chats (
    workspace      text NOT NULL,
    chat_id        text NOT NULL,
    title          text,
    metadata       text NOT NULL DEFAULT '{}',
    next_position  bigint NOT NULL DEFAULT 1, -- numbers the chat's runs and messages; "latest" means position
    created_at     timestamptz NOT NULL,
    active_at      timestamptz NOT NULL,      -- its last start; changes once per run, not per batch
    PRIMARY KEY (workspace, chat_id)
) WITH (fillfactor = 80);

CREATE INDEX chats_by_activity ON outlived.chats (active_at, workspace, chat_id);

CREATE TABLE outlived.runs (
    id                uuid PRIMARY KEY,
    workspace         text NOT NULL,
    chat_id           text NOT NULL,
    position          bigint NOT NULL,
    -- what was asked
    agent             text,
    command           text,                  -- JSON array
    input             text NOT NULL,         -- JSON: a string or a list of parts
    trigger           text NOT NULL,
    created_by        text,                  -- claimed by the caller
    peer_uid          bigint NOT NULL,       -- seen on the socket
    message_id        uuid NOT NULL,
    metadata          text NOT NULL DEFAULT '{}',
    detached          boolean NOT NULL,
    on_owner_loss     text NOT NULL CHECK (on_owner_loss IN ('abort', 'resume')),
    idempotency_key   text,
    request_digest    text,                  -- of what a key stands for
    cwd               text,
    env               text,                  -- JSON object; never returned
    -- the fold of its log
    status            text NOT NULL CHECK (status IN {all}),
    attempt           integer NOT NULL DEFAULT 1,
    epoch             bigint NOT NULL DEFAULT 1,
    owner             uuid REFERENCES outlived.owners (id),
    step_count        integer NOT NULL DEFAULT 0,
    first_seq         bigint NOT NULL DEFAULT 1,
    last_seq          bigint NOT NULL DEFAULT 0,
    error             text,                  -- JSON object
    input_tokens      bigint,
    output_tokens     bigint,
    cached_tokens     bigint,
    cost_micro_usd    bigint,
    stop_requested_at timestamptz,           -- may be written by any daemon; everything else by the owner
    stop_reason       text,
    stop_requested_by text,
    created_at        timestamptz NOT NULL,
    started_at        timestamptz,
    finished_at       timestamptz,
    updated_at        timestamptz NOT NULL,
    -- its process, where it has one
    process_host          text,
    process_boot_id       text,
    process_pid_namespace text,
    process_pid           integer,
    process_start_ticks   bigint,
    process_pgid          integer,
    stdout_offset         bigint NOT NULL DEFAULT 0,
    stderr_offset         bigint NOT NULL DEFAULT 0,
    FOREIGN KEY (workspace, chat_id) REFERENCES outlived.chats (workspace, chat_id),
    UNIQUE (workspace, chat_id, position)
) WITH (fillfactor = 70);

-- The promise: a chat has at most one active run.
CREATE UNIQUE INDEX runs_one_active_per_chat ON outlived.runs (workspace, chat_id) WHERE status IN {active};
CREATE UNIQUE INDEX runs_key ON outlived.runs (workspace, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_unsettled ON outlived.runs (owner) WHERE status NOT IN {terminal};
CREATE INDEX runs_by_workspace ON outlived.runs (workspace, id);

-- A settled run is settled: whatever a statement says, nothing that is the fold of its log changes any more.
CREATE FUNCTION outlived.refuse_unsettling() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'cannot change run %: it is settled (%)', OLD.id, OLD.status
        USING ERRCODE = 'check_violation', CONSTRAINT = 'runs_terminal_is_final';
END $$;

CREATE TRIGGER runs_terminal_is_final BEFORE UPDATE ON outlived.runs FOR EACH ROW
    WHEN (OLD.status IN {terminal}
        AND (OLD.status, OLD.attempt, OLD.epoch, OLD.owner, OLD.step_count, OLD.last_seq, OLD.error,
             OLD.input_tokens, OLD.output_tokens, OLD.cached_tokens, OLD.cost_micro_usd,
             OLD.stop_requested_at, OLD.stop_reason, OLD.created_at, OLD.started_at, OLD.finished_at, OLD.updated_at)
        IS DISTINCT FROM
            (NEW.status, NEW.attempt, NEW.epoch, NEW.owner, NEW.step_count, NEW.last_seq, NEW.error,
             NEW.input_tokens, NEW.output_tokens, NEW.cached_tokens, NEW.cost_micro_usd,
             NEW.stop_requested_at, NEW.stop_reason, NEW.created_at, NEW.started_at, NEW.finished_at, NEW.updated_at))
    EXECUTE FUNCTION outlived.refuse_unsettling();

CREATE TABLE outlived.messages (
    id          uuid PRIMARY KEY,
    workspace   text NOT NULL,
    chat_id     text NOT NULL,
    run_id      uuid,
    position    bigint NOT NULL,
    role        text NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
    status      text NOT NULL CHECK (status IN ('streaming', 'completed', 'failed', 'aborted')),
    content     text NOT NULL DEFAULT '',
    truncated   boolean NOT NULL DEFAULT false,
    parts       text NOT NULL DEFAULT '[]',   -- JSON array
    as_of_seq   bigint NOT NULL DEFAULT 0,    -- the run's event up to which content and parts are
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    UNIQUE (workspace, chat_id, position)
) WITH (fillfactor = 80);

-- No foreign key to runs: it would cost a look-up per event, and only the fenced owner inserts here.
CREATE TABLE outlived.events (
    run_id  uuid NOT NULL,
    seq     bigint NOT NULL,
    epoch   bigint NOT NULL,
    at      timestamptz NOT NULL,
    type    text NOT NULL,
    data    text NOT NULL,                    -- JSON object, byte for byte as delivered
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE outlived.steps (
    run_id    uuid NOT NULL,
    position  integer NOT NULL,
    name      text NOT NULL,
    result    text NOT NULL,                  -- JSON
    seq       bigint NOT NULL,                -- its step.finished
    PRIMARY KEY (run_id, position)
);

-- A batch that finds less than it was planned for must not commit: it ends here, and the journal plans anew.
CREATE FUNCTION outlived.demand(ok boolean, complaint text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT ok THEN
        RAISE EXCEPTION 'cannot commit this batch: %', complaint USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN true;
END $$;
