-- Migration 2: what is left to prune can be looked up.
--
-- The index holds the settled runs that still have events, by age. "Has events" has a column of its own: the
-- predicate first_seq <= last_seq would name last_seq, which every batch changes. See docs/decisions/0020.

ALTER TABLE outlived.runs ADD COLUMN pruned_at timestamptz; -- when the last of its events went

CREATE INDEX runs_prunable ON outlived.runs (finished_at) WHERE finished_at IS NOT NULL AND pruned_at IS NULL;
