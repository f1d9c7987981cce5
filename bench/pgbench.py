"""What Postgres alone reaches with the daemon's rows: pgbench on the daemon's own tables, no daemon anywhere.

1. The scripts are in ``limits/``; plans are kept (`-M prepared`), one round trip per commit: as fast as it can be asked.
2. The best number of clients is the limit for rates; one client for what happens one after another.

Not here: limits that are not SQL (``limits/echo.py`` and its like).
"""

from __future__ import annotations

import re
import resource
import tempfile
from pathlib import Path

import attrs

from bench.figures import Limit, percentile
from bench.stage import Stage

LIMITS = Path(__file__).parent / "limits"
CLIENTS = (1, 4, 16, 64)


@attrs.frozen
class Found:
    """Of one script with one number of clients: transactions per second, their latency in ms, CPU ms of each."""

    clients: int
    rate: float
    p50: float
    p99: float
    cpu: dict[str, float]


async def run_script(
    stage: Stage, script: str, *, clients: int, seconds: float, fence: bool = False
) -> Found:
    """Run one script of ``limits/`` on a new database; ``fence``: with the owner's row in every commit."""
    dsn = await stage.create_schema()
    functions = str(LIMITS / "run_functions.sql")
    await stage.run_program("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", functions, dsn=dsn)
    directory = Path(tempfile.mkdtemp(dir=stage.directory))
    options = ["-n", "-M", "prepared", "-f", str(LIMITS / script), "-D", "turn=0", "-D", f"fence={fence}"]
    crowd = ["-c", str(clients), "-j", str(min(clients, 2)), "-T", str(max(1, round(seconds)))]
    before = _read_children_cpu()
    with stage.meter() as meter:
        said = await stage.run_program("pgbench", *options, *crowd, "-l", dsn=dsn, cwd=directory)
    found = re.search(r"tps = ([\d.]+) \(without", said)
    assert found is not None, said
    meter.cpu["load"] = _read_children_cpu() - before
    took = _read_latencies(directory)
    await stage.drop_database(dsn)
    return Found(
        clients, float(found[1]), percentile(took, 0.5), percentile(took, 0.99), meter.per(len(took))
    )


def _read_latencies(directory: Path) -> list[float]:
    """Of every transaction that pgbench logged, in ms."""
    lines = (line for log in directory.iterdir() for line in log.read_text("ascii").splitlines())
    return [int(line.split()[2]) / 1000 for line in lines]


def _read_children_cpu() -> float:
    """Seconds of CPU of programs that have ended, pgbench among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def find_best(stage: Stage, script: str) -> tuple[Limit, Found]:
    """The highest rate over CLIENTS, and where it was."""

    async def find() -> Found:
        found = []
        for clients in CLIENTS:
            stage.say(f"limit: pgbench, {script}, {clients} clients")
            found.append(await run_script(stage, script, clients=clients, seconds=stage.seconds(5)))
        return max(found, key=lambda each: each.rate)

    best = await stage.once(f"best of {script}", find)
    return Limit(f"pgbench, {best.clients} clients", best.rate), best


async def time_commits(stage: Stage, script: str) -> Found:
    """One client, one transaction of the script after another, the owner's row in every commit."""

    async def find() -> Found:
        stage.say(f"limit: pgbench, {script}, one after another")
        return await run_script(stage, script, clients=1, seconds=stage.seconds(5), fence=True)

    return await stage.once(f"one by one, {script}", find)
