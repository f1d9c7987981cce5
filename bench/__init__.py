"""Measures the daemon, and beside it what the machine allows: `python -m bench`.

A *benchmark* is a module of this package with three things, and its name in ``BENCHMARKS`` below:

    NAME = "echo"                                     one word, for the command line and the file
    '''A docstring: what is measured, and what its limit is.'''
    async def measure(stage: Stage) -> list[Figure]   under Trio, in this process

This process is the load generator: the daemon and Postgres are processes of their own. What ``stage`` gives:

    stage.quick, stage.seconds(5)                     `--quick` measures for a tenth, to try things out
    stage.say("16 in flight")                         progress, on stderr
    async with stage.open_daemon() as daemon:         `outlived serve` on a new database; all are stopped on the way out
        await daemon.call("run/start", agent="say")   one request on a connection of its own
        daemon.socket, daemon.pid, daemon.database    for load.py, for /proc, for SQL
        with stage.meter(daemon) as meter: ...        CPU and wall time of what happens inside; then
        meter.seconds, meter.per(runs)                {"daemon": ms, "postgres": ms, "load": ms} per unit
    await stage.create_database()                     an empty database; its DSN
    await stage.create_schema()                       one with the real tables, and no daemon
    await stage.ask(dsn, "SELECT …", params)          rows, from a thread
    await stage.run_program("pgbench", …, dsn=…)      a program of Postgres; its output
    async with stage.open_program(["python", …]):     another process, such as a server in ``limits/``
    await stage.once("pgbench", function)             something that one measurement per repetition suffices for

and ``figures.py`` has what is returned: `Figure(name, unit, value, better="more", p99=…, limit=Limit(name, value),
target=at_least(1500), cpu=meter.per(n))`. Names are unique within a benchmark and stable: `--compare` goes by them.

Rules:
1. Every figure stands beside the limit that was measured in the same run, by a script that is here too (``limits/``).
2. A figure that lost something is no figure: a benchmark ends by asking the database that all of it is there,
   and raises ``Broken`` if not.
3. Measured windows begin after a warm-up; numbers are chosen on purpose and written down beside the figure.
4. Agents for the daemon are in ``agents.py``; ``AGENTS`` there is the configuration that every stage's daemon has.

The modules: ``stage`` where it happens, ``processes`` CPU and memory from /proc, ``load`` requests as fast as they go,
``figures`` what is found, ``report`` files, ``table`` what is printed, ``page`` and ``picture`` what docs show.
"""

BENCHMARKS = ("rates", "latency", "curve", "events", "fanout", "reread", "silent", "scale", "startup")
"""In the order in which they run."""
