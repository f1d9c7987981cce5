"""Durable runs per second, from one after another to 512 in flight.

A run is one step and one text event, settled: three commits of its own (the start, the step's end, the end). It is
started by ``run/start`` and seen settled by ``run/wait``, pipelined over four connections.

Limit of the rates: pgbench with the same rows in three commits, at the best of 1, 4, 16 and 64 clients. Limit of
runs one after another: pgbench with one client, the same rows and the owner's row in each commit, so the time of the
run's own bare commits; three with a step, two without.
"""

from __future__ import annotations

from bench.figures import Broken, Figure, Limit, Target, at_least, at_least_of, at_most_of, percentile
from bench.load import Loop, observe
from bench.pgbench import find_best, time_commits
from bench.stage import Daemon, Stage

NAME = "rates"

WARM_UP = 1.0
SECONDS = 6.0
EVENTS = {"step": 6, "say": 4}
"""Of each run: created, started, (step.started, step.finished,) text.delta, settled."""


async def measure(stage: Stage) -> list[Figure]:
    """Rates at four loads, and the time of one run after another."""
    limit, best = await find_best(stage, "step.sql")
    figures = [Figure("pgbench, three commits", "runs/s", best.rate, cpu=best.cpu, note=limit.name)]
    targets = {16: at_least(1500), 512: at_least_of(1.0, limit)}
    for in_flight in (16, 64, 512):
        figures += await _measure_rate(stage, in_flight, limit, targets.get(in_flight))
    for agent, name, script in (("step", "three commits", "step.sql"), ("say", "two commits", "say.sql")):
        bare = await time_commits(stage, script)
        figures += await _measure_one_by_one(stage, agent, name, Limit(f"its {name}", bare.p50))
    return figures


async def _measure_rate(stage: Stage, in_flight: int, limit: Limit, target: Target | None) -> list[Figure]:
    loop, figure = await _run_loop(stage, "step", in_flight)
    took = loop.settled
    return [
        Figure(
            f"{in_flight} in flight",
            "runs/s",
            figure.value,
            cpu=figure.cpu,
            limit=limit,
            target=target,
        ),
        Figure(
            f"{in_flight} in flight, start to settled",
            "ms",
            percentile(took, 0.5) * 1000,
            "less",
            p99=percentile(took, 0.99) * 1000,
        ),
    ]


async def _measure_one_by_one(stage: Stage, agent: str, name: str, limit: Limit) -> list[Figure]:
    loop, figure = await _run_loop(stage, agent, 1)
    took = loop.settled
    return [
        Figure(
            f"one after another, {name}",
            "ms",
            percentile(took, 0.5) * 1000,
            "less",
            p99=percentile(took, 0.99) * 1000,
            cpu=figure.cpu,
            limit=limit,
            target=at_most_of(2.5, limit),
        ),
        Figure(f"one after another, {name}, rate", "runs/s", figure.value),
    ]


async def _run_loop(stage: Stage, agent: str, in_flight: int) -> tuple[Loop, Figure]:
    """A window of a closed loop on a new daemon, checked in the database; the rate and its CPU as a figure."""
    stage.say(f"{agent}, {in_flight} in flight")
    async with stage.open_daemon() as daemon:
        loop = Loop(daemon.socket, agent, in_flight)
        meter = await observe(
            loop,
            warm_up=stage.seconds(WARM_UP),
            seconds=stage.seconds(SECONDS),
            window=lambda: stage.meter(daemon),
        )
        await check_runs(stage, daemon, loop.started, EVENTS[agent])
    done = len(loop.settled)
    if not done:
        raise Broken(f"no run was settled with {in_flight} in flight")
    return loop, Figure("", "runs/s", done / meter.seconds, cpu=meter.per(done))


async def check_runs(stage: Stage, daemon: Daemon, started: int, events: int) -> None:
    """Every run that was started succeeded, with a dense log and its message. Raises Broken."""
    [runs] = await stage.ask(
        daemon.database,
        "SELECT count(*), count(*) FILTER (WHERE r.status = 'succeeded' AND r.last_seq = %(events)s"
        " AND m.status = 'completed' AND m.content = 'done')"
        " FROM outlived.runs r JOIN outlived.messages m ON m.id = r.message_id",
        {"events": events},
    )
    [(rows,)] = await stage.ask(daemon.database, "SELECT count(*) FROM outlived.events")
    if (*runs, rows) != (started, started, started * events):
        raise Broken(
            f"{started} runs were started; in the database: {runs[0]}, whole {runs[1]}, events {rows}"
        )
