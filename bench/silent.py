"""What nothing costs: an idle daemon, 10,000 runs that say nothing for minutes, 5,000 connections that ask nothing.

RSS of the daemon per run and per connection above the empty one, the CPU it idles with, what a heartbeat over all those
runs costs. The limits: a process with the same imports, a bare Trio task in a cancel scope, a bare Trio socket
that has answered one line (``limits/memory.py``).
"""

from __future__ import annotations

import contextlib
import resource
from itertools import count
from pathlib import Path

import msgspec
import trio

from bench.audience import read_line
from bench.figures import Broken, Figure, Limit, at_most
from bench.load import Lines, format_request
from bench.processes import Meter, read_rss
from bench.stage import Daemon, Stage

NAME = "silent"

RUNS = 10_000
CONNECTIONS = 5_000
IDLE_SECONDS = 20
HEARTBEAT_SECONDS = 10.0
SETTLE_SECONDS = 2.0
"""For what a burst leaves behind to end."""
IN_FLIGHT = 128
CONFIG = f"[server]\nmax_connections = {2 * CONNECTIONS}\n"
KIB = 1 << 10


async def measure(stage: Stage) -> list[Figure]:
    _raise_limit(3 * CONNECTIONS)
    figures = []
    async with stage.open_daemon(config=CONFIG) as daemon:
        idle, found = await _measure_idle(stage, daemon)
        figures += found
        figures += await _measure_runs(stage, daemon, stage.size(RUNS), idle)
        stage.say("the daemon settles them and stops")
        stopping = trio.current_time()
    figures.append(Figure("stop with them", "s", trio.current_time() - stopping, better="less"))
    async with stage.open_daemon(config=CONFIG) as daemon:
        figures.append(await _measure_connections(stage, daemon, stage.size(CONNECTIONS)))
    return figures


def _raise_limit(wanted: int) -> None:
    """The daemon inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        raise Broken(f"cannot open {wanted} files: the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


async def _measure_idle(stage: Stage, daemon: Daemon) -> tuple[Meter, list[Figure]]:
    stage.say("an idle daemon")
    await trio.sleep(SETTLE_SECONDS)
    async with stage.open_program(["python", "-m", "bench.limits.memory", "tasks", "0"]) as bare:
        await read_line(bare)
        limit = Limit("same imports", read_rss(bare.pid) / KIB / KIB)
    with stage.meter(daemon) as meter:
        await trio.sleep(stage.seconds(IDLE_SECONDS))
    return meter, [
        Figure(
            "idle daemon", "MiB", read_rss(daemon.pid) / KIB / KIB, "less", limit=limit, target=at_most(60)
        ),
        Figure("idle CPU, no runs", "% of a core", 100 * meter.part()["daemon"], "less"),
    ]


async def _measure_runs(stage: Stage, daemon: Daemon, runs: int, idle: Meter) -> list[Figure]:
    stage.say(f"{runs} silent runs")
    limit = Limit("Trio task with a scope", await _weigh_tasks(stage, runs))
    before = read_rss(daemon.pid)
    await _start(daemon, runs)
    await trio.sleep(SETTLE_SECONDS)
    each = (read_rss(daemon.pid) - before) / KIB / runs
    with stage.meter(daemon) as meter:
        await trio.sleep(stage.seconds(IDLE_SECONDS))
    await _check_running(stage, daemon, runs)
    beats = meter.seconds / HEARTBEAT_SECONDS
    more = {
        name: 1000 * max(0.0, meter.cpu[name] - idle.cpu[name]) / beats for name in ("daemon", "postgres")
    }
    return [
        Figure("a silent run", "KiB", each, "less", limit=limit, target=at_most(12), note=f"of {runs}"),
        Figure("idle CPU, silent runs", "% of a core", 100 * meter.part()["daemon"], "less"),
        Figure("a heartbeat over them", "ms of CPU", more["daemon"], "less", cpu=more),
    ]


async def _weigh_tasks(stage: Stage, number: int) -> float:
    """KiB for one of so many tasks."""
    command = ["python", "-m", "bench.limits.memory", "tasks", str(number)]
    async with stage.open_program(command) as bare:
        await read_line(bare)
        before = read_rss(bare.pid)
        await read_line(bare)
        return (read_rss(bare.pid) - before) / KIB / number


async def _start(daemon: Daemon, runs: int) -> None:
    """Start them, a bounded number at a time, and see each reply."""
    request = format_request(0, "run/start", agent="wait", input="think about it for ten minutes")
    head, _, tail = request.partition(b'"id":0')
    numbers = count(1)
    async with Lines.connect(daemon.socket) as lines:
        sent = replied = 0
        while replied < runs:
            if sent < runs and sent - replied < IN_FLIGHT:
                more = min(IN_FLIGHT - (sent - replied), runs - sent)
                await lines.send(b"".join(b'%b"id":%d%b' % (head, next(numbers), tail) for _ in range(more)))
                sent += more
            for line in await lines.read():
                if b'"result"' not in line[:60]:
                    raise Broken(f"a start was refused: {line.decode()}")
                replied += 1


async def _check_running(stage: Stage, daemon: Daemon, runs: int) -> None:
    found = await stage.ask(daemon.database, "SELECT count(*) FROM outlived.runs WHERE status = 'running'")
    if found[0][0] not in {0, runs}:  # a start that nothing follows may still be to be written
        raise Broken(f"{found[0][0]} of {runs} silent runs are running")


async def _measure_connections(stage: Stage, daemon: Daemon, number: int) -> Figure:
    stage.say(f"{number} idle connections")
    path = stage.directory / "bare"
    async with stage.open_program(["python", "-m", "bench.limits.memory", "sockets", str(path)]) as bare:
        await read_line(bare)
        limit = Limit("Trio socket", await _weigh_connections(path, bare.pid, number))
    each = await _weigh_connections(daemon.socket, daemon.pid, number)
    return Figure("an idle connection", "KiB", each, "less", limit=limit, note=f"of {number}")


async def _weigh_connections(path: Path, pid: int, number: int) -> float:
    """KiB for one of so many, each having asked once."""
    request = format_request(1, "server/info")
    before = read_rss(pid)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(number):
            lines = await stack.enter_async_context(Lines.connect(path))
            await lines.send(request)
            for line in await lines.read():
                msgspec.json.decode(line)
        await trio.sleep(SETTLE_SECONDS)
        return (read_rss(pid) - before) / KIB / number
