-- For pgbench, on top of run_functions.sql: one run without a step, two commits. -D fence=true or false.
\set turn :turn + 1
\set n 100000000000 + :client_id * 1000000000 + :turn
SELECT bench.start(:n::text, :fence::boolean);
SELECT bench.settle(:n::text, false, :fence::boolean);
