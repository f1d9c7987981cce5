-- For pgbench, on top of run_functions.sql: one bare commit, the owner's row and nothing else.
SELECT bench.raise_fence();
