-- Migration 5: agent programs' own conversations, by chat.
--
-- A program that keeps conversations itself is told in the next turn of the chat to go on with its own.

CREATE TABLE outlived.sessions (
    workspace   text NOT NULL,
    chat_id     text NOT NULL,
    agent       text NOT NULL,
    host        text NOT NULL,             -- where the program keeps it
    session_id  text,                      -- the program's name for it; null: forget what was kept
    note        text NOT NULL,             -- JSON object: what has to be known to go on
    run_id      uuid NOT NULL,             -- the run that said so last
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (workspace, chat_id, agent),
    FOREIGN KEY (workspace, chat_id) REFERENCES outlived.chats (workspace, chat_id)
) WITH (fillfactor = 80);
