-- Migration 3: a million runs behind it must not slow a daemon down.
--
-- run/list for one agent, or for the few runs that failed, would read all of them from the newest back. Measured
-- with a million settled runs: 165 ms -> 0.04 ms for an agent without runs, at the cost of 0.01 ms per run.
CREATE INDEX runs_by_agent ON outlived.runs (agent, id) WHERE agent IS NOT NULL;
CREATE INDEX runs_failed ON outlived.runs (id) WHERE status = 'failed';
CREATE INDEX runs_aborted ON outlived.runs (id) WHERE status = 'aborted';
CREATE INDEX runs_ended_badly ON outlived.runs (id) WHERE status IN ('failed', 'aborted');

-- Every run leaves dead entries in runs_unsettled, which the heartbeat and the sweep walk over: 11 ms for 150,000.
-- Vacuum by number, not by a fifth of the table.
ALTER TABLE outlived.runs SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
                               autovacuum_vacuum_cost_delay = 0);
ALTER TABLE outlived.messages SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
                                   autovacuum_vacuum_cost_delay = 0);
