"""A settled run of 100,000 events of 200 bytes, read again from the beginning through ``run/tail``.

Counted are the bytes of the events' data, which is what COPY writes too; the lines on the socket are twice as long.
The limit is ``psql COPY … TO STDOUT`` of the same rows in the same order.
"""

from __future__ import annotations

import time

import trio

from bench.audience import open_readers, read_heard
from bench.figures import Broken, Figure, Limit, at_least
from bench.fill import fill_long_run
from bench.readers import Heard
from bench.stage import Daemon, Stage

NAME = "reread"

EVENTS = 100_000
DATA_BYTES = 200
TIMES = 5
TARGET = 40
COPY = "COPY (SELECT seq, at, type, data FROM outlived.events WHERE run_id = '{}' ORDER BY seq) TO STDOUT"


async def measure(stage: Stage) -> list[Figure]:
    events = stage.size(EVENTS)
    megabytes = events * DATA_BYTES / 1e6
    async with stage.open_daemon() as daemon:
        run_id = await trio.to_thread.run_sync(fill_long_run, daemon.database, events, DATA_BYTES)
        stage.say(f"{events} events of {DATA_BYTES} bytes")
        limit = Limit("psql COPY", megabytes / await _copy(stage, daemon.database, run_id))
        with stage.meter(daemon) as meter:
            heard = [await _read_again(stage, daemon, run_id, events) for _ in range(TIMES)]
    best = min((each.last - each.asked) / 1e9 for each in heard)
    cpu = meter.per(TIMES * megabytes)
    wire = heard[0].bytes / 1e6
    return [
        Figure(
            "tail from 0", "MB/s", megabytes / best, limit=limit, target=at_least(TARGET), cpu=cpu,
            note=f"{wire / best:.0f} MB/s on the socket, {events / best:,.0f} events/s",
        )
    ]  # fmt: skip


async def _copy(stage: Stage, dsn: str, run_id: str) -> float:
    """Seconds that psql takes at best, its own start left out."""
    empty: list[float] = []
    whole: list[float] = []
    for _ in range(TIMES):
        for statement, times in (("SELECT 1", empty), (COPY.format(run_id), whole)):
            started = time.perf_counter()
            await stage.run_program("psql", "-Xqo", "/dev/null", "-c", statement, dsn=dsn)
            times.append(time.perf_counter() - started)
    return min(whole) - min(empty)


async def _read_again(stage: Stage, daemon: Daemon, run_id: str, events: int) -> Heard:
    """One reader, from 0 to the end."""
    async with open_readers(stage, daemon.socket, run_id, 1, timed=False) as (readers, _):
        heard = await read_heard(readers)
    if heard.events != events + 1:  # and its tail_end
        raise Broken(f"{heard.events} lines of a run of {events} events came")
    return heard
