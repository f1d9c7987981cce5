"""One run and its subscribers: how much reaches how many, and how soon.

Saturated: the agent speaks as fast as the journal takes it; deliveries per second from its first word until the
last subscriber has the end. A text counts once per subscriber. *tokens* that are committed together travel as one
event, *lines* each as one of their own. Paced: from the agent's word to the subscriber's ``recv``.

The limit is raw Trio fan-out of lines of the same length, without persistence (``limits/fanout.py``), to the same readers.
Then a healthy reader's p99 while 200 readers that never read hang on the same run; its limit is its p99 without them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from statistics import median

import trio

from bench.audience import open_readers, read_heard, read_line
from bench.figures import Broken, Figure, Limit, at_least, at_most, at_most_of
from bench.processes import Meter, read_rss
from bench.readers import Heard
from bench.speakers import SPEAKERS
from bench.stage import Daemon, Stage

NAME = "fanout"

SATURATED = {1: 60_000, 10: 60_000, 100: 20_000, 1000: 3_000}
"""Subscribers: texts, enough for about a second or more."""
PACED = {1: 100, 10: 100, 100: 100, 1000: 10}
"""Subscribers: texts per second. 1,000 at 100 each would be 100,000 sends a second: saturated."""
PACED_SECONDS = 5
TOKEN_CHARS = 20
LINE_BYTES = 290
"""An event's line with such a text."""
TARGET = 300_000
MUTES = 200
FLOOD_BYTES = 4 << 20
"""What is in the log before they come: more than their connections and the daemon hold for them."""
FLOOD_SECONDS = 3
"""For the daemon to fill them, and find that they do not read. After 30 s it closes them."""
MUTE_SECONDS = 5
MUTE_TURNS = 3
FLOW_CHARS = 20_000
"""100 of these a second: 2 MB/s."""


async def measure(stage: Stage) -> list[Figure]:
    async with stage.open_daemon(config=SPEAKERS) as daemon:
        figures = []
        for subscribers, count in SATURATED.items():
            figures += await _measure_saturated(stage, daemon, subscribers, stage.size(count))
        for subscribers, rate in PACED.items():
            figures.append(await _measure_paced(stage, daemon, subscribers, rate))
        figures += await _measure_mutes(stage, daemon)
    return figures


async def _measure_saturated(stage: Stage, daemon: Daemon, subscribers: int, count: int) -> list[Figure]:
    stage.say(f"{subscribers} subscribers, saturated")
    raw = await _hear_raw(stage, subscribers, 5 * count if subscribers < 100 else count, 0)
    limit = Limit("raw Trio fan-out", raw.texts / _seconds(raw))
    figures = []
    for agent in ("tokens", "lines"):
        heard, meter = await _hear(stage, daemon, agent, subscribers, {"count": count, "size": TOKEN_CHARS})
        figures.append(
            Figure(
                f"{agent} to {subscribers}",
                "deliveries/s",
                heard.texts / _seconds(heard),
                limit=limit,
                target=at_least(TARGET) if subscribers == 100 and agent == "tokens" else None,
                cpu=meter.per(heard.texts),
                note=f"{heard.texts / heard.events:.3g} per event, {heard.bytes / _seconds(heard) / 1e6:.0f} MB/s",
            )
        )
    return figures


async def _measure_paced(stage: Stage, daemon: Daemon, subscribers: int, rate: int) -> Figure:
    stage.say(f"{subscribers} subscribers, {rate} texts per second")
    count = max(rate // 2, round(stage.seconds(PACED_SECONDS) * rate))
    raw = await _hear_raw(stage, subscribers, count, rate)
    asked = {"count": count, "rate": rate, "size": TOKEN_CHARS}
    heard, meter = await _hear(stage, daemon, "tokens", subscribers, asked)
    return Figure(
        f"{rate}/s to {subscribers}",
        "ms",
        heard.p50,
        better="less",
        p99=heard.p99,
        limit=Limit("raw Trio fan-out", raw.p50),
        cpu=meter.per(heard.texts),
        note=f"raw p99 {raw.p99:.2f} ms",
    )


async def _measure_mutes(stage: Stage, daemon: Daemon) -> list[Figure]:
    """The same run with one reader, and with one beside those who never read; in turn, and the medians of that."""
    stage.say(f"one reader, and {MUTES} that never read")
    count = max(100, round(stage.seconds(MUTE_SECONDS) * 100))
    asked = {"count": count, "rate": 100, "size": FLOW_CHARS, "flood": FLOOD_BYTES}
    alone, beside, grown, meters = [], [], [], []
    for _ in range(MUTE_TURNS):
        alone.append((await _hear(stage, daemon, "flood", 1, asked))[0])
        before = read_rss(daemon.pid)
        heard, meter = await _hear(stage, daemon, "flood", 1, asked, mutes=MUTES)
        grown.append((read_rss(daemon.pid) - before) / (1 << 20))
        beside.append(heard)
        meters.append(meter)
    limit = Limit("without them", median(each.p99 for each in alone))
    p50 = median(each.p50 for each in beside), median(each.p50 for each in alone)
    return [
        Figure(
            f"p99 beside {MUTES} mute readers",
            "ms",
            median(each.p99 for each in beside),
            better="less",
            limit=limit,
            target=at_most_of(2, limit),
            cpu=meters[0].per(count),
            note=f"p50 {p50[0]:.2f} ms, without them {p50[1]:.2f} ms",
        ),
        Figure(f"RSS for {MUTES} mute readers", "MiB", grown[0], better="less", target=at_most(64)),
    ]


async def _hear(
    stage: Stage, daemon: Daemon, agent: str, subscribers: int, asked: Mapping[str, int], mutes: int = 0
) -> tuple[Heard, Meter]:
    """A run that speaks once everyone listens; what they heard, and what it cost. Raises Broken."""
    gate = stage.directory / f"gate-{trio.current_time()}"
    started = await daemon.call("run/start", agent=agent, input="", metadata={**asked, "gate": str(gate)})
    run_id = started["run"]["id"]
    async with contextlib.AsyncExitStack() as stack:
        readers, pid = await stack.enter_async_context(
            open_readers(stage, daemon.socket, run_id, subscribers)
        )
        if mutes:
            await stack.enter_async_context(
                open_readers(stage, daemon.socket, run_id, mutes, timed=False, mute=True)
            )
        if "flood" in asked:
            await trio.sleep(FLOOD_SECONDS)
        with stage.meter(daemon, readers=pid) as meter:
            gate.touch()
            heard = await read_heard(readers)
    if heard.texts != asked["count"] * subscribers:
        raise Broken(f"{subscribers} subscribers heard {heard.texts} texts of {asked['count']} each")
    return heard, meter


async def _hear_raw(stage: Stage, subscribers: int, count: int, rate: int) -> Heard:
    path = stage.directory / f"raw-{trio.current_time()}"
    words = (subscribers, count, rate, LINE_BYTES)
    async with stage.open_program(
        ["python", "-m", "bench.limits.fanout", str(path), *map(str, words)]
    ) as server:
        await read_line(server)
        async with open_readers(stage, path, "-", subscribers) as (readers, _):
            heard = await read_heard(readers)
    if heard.texts != count * subscribers:
        raise Broken(f"{subscribers} raw subscribers heard {heard.texts} texts of {count} each")
    return heard


def _seconds(heard: Heard) -> float:
    return (heard.last - heard.first) / 1e9
