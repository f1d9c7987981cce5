"""Latency against load: from a run's due time until it is settled, at parts of the best rate.

Runs arrive as they please (``offer.py``), with one step each. The best rate is that of a closed loop with 512 in flight,
measured just before. The limit is the time of the run's own three bare commits, one after another. The picture in
docs/performance.md is drawn from this.
"""

from __future__ import annotations

import trio

from bench.figures import Broken, Figure, Limit, percentile
from bench.load import Loop, observe, quiet
from bench.offer import Offer
from bench.pgbench import time_commits
from bench.rates import EVENTS, check_runs
from bench.stage import Stage

NAME = "curve"

PARTS = (0.05, 0.1, 0.25, 0.5, 0.7, 0.85)
IN_FLIGHT, QUICK_IN_FLIGHT = 512, 64
QUICK_PARTS = (0.1, 0.5)
WARM_UP = 1.0
SECONDS = 6.0
RUNS = 20
"""At least, of each point."""


async def measure(stage: Stage) -> list[Figure]:
    """The best rate, and a point of the curve for each of PARTS."""
    commits = await time_commits(stage, "step.sql")
    in_flight = QUICK_IN_FLIGHT if stage.quick else IN_FLIGHT
    best = await find_rate(stage, in_flight)
    limit = Limit("its three commits", commits.p50)
    return [
        Figure("best rate", "runs/s", best, note=f"closed loop, {in_flight} in flight"),
        *[await _measure_point(stage, part, best, limit) for part in (QUICK_PARTS if stage.quick else PARTS)],
    ]


async def find_rate(stage: Stage, in_flight: int) -> float:
    """Runs per second of a closed loop on a new daemon."""
    stage.say(f"what {in_flight} in flight reach")
    async with stage.open_daemon() as daemon:
        loop = Loop(daemon.socket, "step", in_flight)
        seconds = max(1.0, stage.seconds(SECONDS))
        meter = await observe(
            loop,
            warm_up=max(0.5, stage.seconds(WARM_UP)),
            seconds=seconds,
            window=lambda: stage.meter(daemon),
        )
    return len(loop.settled) / meter.seconds


async def _measure_point(stage: Stage, part: float, best: float, limit: Limit) -> Figure:
    stage.say(f"{part:.0%} of the best rate")
    async with stage.open_daemon() as daemon:
        offer = Offer(daemon.socket, "step", part * best)
        async with offer.keep_going():
            await trio.sleep(max(0.3, stage.seconds(WARM_UP)))
            with quiet(), stage.meter(daemon) as meter:
                offer.begin()
                await trio.sleep(max(stage.seconds(SECONDS), RUNS / offer.rate))
                offer.end()
        await check_runs(stage, daemon, offer.started, EVENTS["step"])
    if not offer.settled:
        raise Broken(f"no run was due at {part:.0%} of the best rate")
    return Figure(
        f"{part:.0%} of the best rate",
        "ms",
        percentile(offer.settled, 0.5) * 1000,
        "less",
        p99=percentile(offer.settled, 0.99) * 1000,
        cpu=meter.per(len(offer.settled)),
        limit=limit,
        load=part * best,
    )
