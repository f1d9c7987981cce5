-- Migration 4: what a command's output means can be read on where it was left.
--
-- stdout_offset and stderr_offset are there since the beginning; the state of the reader of stdout goes with them.

ALTER TABLE outlived.runs ADD COLUMN reader_state text; -- JSON object
