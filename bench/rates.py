"""Durable runs per second, from one after another to 512 in flight."""

from __future__ import annotations

from bench.figures import Figure
from bench.load import Loop, observe
from bench.stage import Stage

NAME = "rates"


async def measure(stage: Stage) -> list[Figure]:
    figures = []
    async with stage.open_daemon() as daemon:
        for in_flight in (1, 16):
            stage.say(f"{in_flight} in flight")
            loop = Loop(daemon.socket, "step", in_flight)
            meter = await observe(
                loop, warm_up=1, seconds=stage.seconds(5), window=lambda: stage.meter(daemon)
            )
            done = len(loop.settled)
            figures.append(
                Figure(f"{in_flight} in flight", "runs/s", done / meter.seconds, cpu=meter.per(done))
            )
    return figures
