"""How soon: start to reply, emit to subscriber, stop to settled; on an idle daemon and at half load.

Half load is half of what 16 in flight reach, arriving by themselves on other connections. One after another otherwise.

- start to reply: a run of the agent ``say`` each time, once the one before is settled.
- stop to settled: a run that waits for ever is stopped with ``wait_seconds``; until the reply says "stopped".
- emit to subscriber: an agent says its clock 100 times a second; until ``recv`` returns in the subscriber's process.

Limits: one bare commit (a row of pgbench's, p50) and the echo of a bare Trio socket, p50; for emit to subscriber one commit and
raw Trio fan-out of the same lines at the same pace to the same number of subscribers.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from bench.audience import open_readers, read_heard, read_line
from bench.curve import find_rate
from bench.figures import Broken, Figure, Limit, Target, percentile
from bench.load import Caller, quiet
from bench.offer import Offer
from bench.pgbench import time_commits
from bench.speakers import SPEAKERS
from bench.stage import Daemon, Stage

NAME = "latency"

SECONDS = 6.0
WARM_UP = 1.0
TOKENS_PER_SECOND = 100
TOKEN_CHARS = 20
LINE_BYTES = 290
"""An event's line with such a text: raw Trio sends lines of this length."""
SUBSCRIBERS = (1, 10, 100)

Probe = Callable[[Daemon, Caller], Awaitable[float]]
"""Does it once; seconds."""


@attrs.frozen
class Bare:
    """The limits, p50 in ms."""

    commit: float
    echo: float
    fanout: dict[int, float]


async def measure(stage: Stage) -> list[Figure]:
    """Everything idle, then everything at half load."""
    bare = Bare(
        (await time_commits(stage, "commit.sql")).p50,
        await _time_echo(stage),
        {subscribers: await _time_fanout(stage, subscribers) for subscribers in SUBSCRIBERS},
    )
    figures = [
        Figure("one bare commit", "ms", bare.commit, "less"),
        Figure("bare Trio echo", "ms", bare.echo, "less"),
    ]
    half = 0.5 * await find_rate(stage, 16)
    for rate, name in ((0.0, "idle"), (half, "half load")):
        async with stage.open_daemon(config=SPEAKERS) as daemon, _offer(daemon, rate):
            await trio.sleep(WARM_UP)
            figures += await _measure_all(stage, daemon, bare, name)
    return figures


@asynccontextmanager
async def _offer(daemon: Daemon, rate: float) -> AsyncIterator[None]:
    if not rate:
        yield
        return
    async with Offer(daemon.socket, "step", rate).keep_going():
        yield


async def _measure_all(stage: Stage, daemon: Daemon, bare: Bare, load: str) -> list[Figure]:
    request = Limit("commit + echo", bare.commit + bare.echo)
    figures = []
    for name, probe in (("start to reply", _time_start), ("stop to settled", _time_stop)):
        stage.say(f"{name}, {load}")
        took = await _repeat(stage, daemon, probe)
        figures.append(
            Figure(
                f"{name}, {load}",
                "ms",
                percentile(took, 0.5) * 1000,
                "less",
                p99=percentile(took, 0.99) * 1000,
                limit=request,
            )
        )
    for subscribers in SUBSCRIBERS:
        stage.say(f"emit to {subscribers}, {load}")
        figures.append(await _measure_emit(stage, daemon, bare, subscribers, load))
    return figures


# ---- requests


async def _repeat(stage: Stage, daemon: Daemon, probe: Probe) -> list[float]:
    """One after another, for a while; at least ten."""
    took: list[float] = []
    async with Caller.connect(daemon.socket) as caller:
        deadline = time.monotonic() + stage.seconds(SECONDS)
        with quiet():
            while time.monotonic() < deadline or len(took) < 10:
                took.append(await probe(daemon, caller))
    return took


async def _time_start(_daemon: Daemon, caller: Caller) -> float:
    before = time.perf_counter()
    started = await caller.call("run/start", agent="say", input="hello")
    took = time.perf_counter() - before
    await caller.call("run/wait", run_id=started["run"]["id"])
    return took


async def _time_stop(_daemon: Daemon, caller: Caller) -> float:
    started = await caller.call("run/start", agent="wait", input="hello")
    run_id = started["run"]["id"]
    while (
        started["run"]["status"] != "running"
    ):  # its first event is committed: nothing of the start is left to do
        started = await caller.call("run/get", run_id=run_id)
    before = time.perf_counter()
    stopped = await caller.call("run/stop", run_id=run_id, wait_seconds=60)
    took = time.perf_counter() - before
    if stopped["outcome"] != "stopped":
        raise Broken(f"a stop was answered {stopped['outcome']}")
    return took


async def _time_echo(stage: Stage) -> float:
    """p50 of one small line and back, in ms."""
    stage.say("limit: bare Trio echo")
    path = stage.directory / f"echo-{time.monotonic_ns()}"
    took = []
    async with stage.open_program(["python", "-m", "bench.limits.echo", str(path)]) as server:
        await read_line(server)
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        with sock:
            await sock.connect(str(path))
            deadline = time.monotonic() + stage.seconds(3)
            while time.monotonic() < deadline:
                before = time.perf_counter()
                await sock.send(b"x" * 100)
                await sock.recv(4096)
                took.append(time.perf_counter() - before)
    return percentile(took, 0.5) * 1000


# ---- emit to subscriber


async def _measure_emit(stage: Stage, daemon: Daemon, bare: Bare, subscribers: int, load: str) -> Figure:
    count = round(max(1.0, stage.seconds(SECONDS)) * TOKENS_PER_SECOND)
    gate = stage.directory / f"gate-{time.monotonic_ns()}"
    asked = {"count": count, "rate": TOKENS_PER_SECOND, "size": TOKEN_CHARS, "gate": str(gate)}
    started = await daemon.call("run/start", agent="tokens", metadata=asked)
    async with open_readers(stage, daemon.socket, started["run"]["id"], subscribers) as (readers, pid):
        with stage.meter(daemon, load=pid) as meter:
            gate.touch()
            heard = await read_heard(readers)
    if heard.texts != count * subscribers:
        raise Broken(f"{subscribers} subscribers heard {heard.texts} texts of {count} each")
    raw = bare.fanout[subscribers]
    return Figure(
        f"emit to {subscribers} subscriber{'s' if subscribers > 1 else ''}, {load}",
        "ms",
        heard.p50,
        "less",
        p99=heard.p99,
        limit=Limit("commit + raw Trio", bare.commit + raw),
        target=Target("≤ 2 commits + raw Trio", 2 * bare.commit + raw) if load == "idle" else None,
        cpu=meter.per(heard.texts) if load == "idle" else {},
    )


async def _time_fanout(stage: Stage, subscribers: int) -> float:
    """p50 of raw Trio fan-out at the same pace, in ms."""
    stage.say(f"limit: raw Trio fan-out to {subscribers}")
    path = stage.directory / f"raw-{time.monotonic_ns()}"
    count = round(max(1.0, stage.seconds(SECONDS)) * TOKENS_PER_SECOND)
    words = (path, subscribers, count, TOKENS_PER_SECOND, LINE_BYTES)
    async with stage.open_program(["python", "-m", "bench.limits.fanout", *map(str, words)]) as server:
        await read_line(server)
        async with open_readers(stage, path, "-", subscribers) as (readers, _):
            return (await read_heard(readers)).p50
