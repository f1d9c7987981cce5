-- name: lock
-- One daemon migrates at a time; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(7811894);

-- name: read_encoding
-- What the database can store: agents say anything.
SELECT getdatabaseencoding();

-- name: prepare
-- The schema and its own history; harmless when they are there.
CREATE SCHEMA IF NOT EXISTS outlived;
CREATE TABLE IF NOT EXISTS outlived.schema_version (
    version    integer PRIMARY KEY,
    min_reader integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: is_prepared
-- Whether a daemon was ever here: a plain look, so that an up-to-date schema needs no right to create.
SELECT to_regclass('outlived.schema_version') IS NOT NULL;

-- name: read_version
-- What is applied, and the oldest daemon that may still read it.
SELECT coalesce(max(version), 0), coalesce(max(min_reader), 0) FROM outlived.schema_version;

-- name: record
-- One migration is applied.
INSERT INTO outlived.schema_version (version, min_reader) VALUES (%(version)s, %(min_reader)s);
