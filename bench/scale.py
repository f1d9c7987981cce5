"""The same questions to a daemon with 1,000,000 settled runs (10,000,000 events) behind it, and to one with 250.

Figures are the p99 with the full tables; the limit is the p99 with the nearly empty ones (enough for full pages),
asked in turn, so that both meet the same machine. Also: statements of the daemon that would read a whole large table,
what was read that way while it was asked, and how many updates of a load of runs were heap-only (HOT).

``BENCH_RUNS`` sets the number of runs; ``--quick`` takes 20,000.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from bench.figures import Broken, Figure, Limit, at_most, at_most_of, percentile
from bench.fill import RUNS_PER_CHAT, fill
from bench.load import Caller, Loop, observe, quiet
from bench.plans import LARGE, explain_all
from bench.stage import Daemon, Stage
from outlived.store.owners import read_living, read_takeable, read_unsettled
from outlived.store.postgres import Link

NAME = "scale"

FULL = 1_000_000
FULL_QUICK = 20_000
EMPTY = 250
ASKED = 2000
TURN = 50
"""Questions to one daemon before it is the other's turn."""
STARTS = 15
LOOKS = 21
REPORT_SECONDS = 1.5
"""A backend reports what it read once a second."""
READ_PER_RUN = 10
"""While a table has a page or two, reading it whole is right."""
FACTOR = 1.5
NOBODY = "00000000-0000-7000-8000-000000000000"

Ask = Callable[[], Awaitable[object]]


@attrs.frozen
class Side:
    """One daemon, its history, and who asks it."""

    daemon: Daemon
    runs: int
    caller: Caller
    link: Link
    random: random.Random

    @property
    def chat(self) -> dict[str, str]:
        """One of its chats, by chance."""
        number = self.random.randrange(self.runs // RUNS_PER_CHAT)
        return {"chat_id": f"chat-{number}", "workspace": "default" if number % 10 else "second"}

    def questions(self, ids: list[str]) -> dict[str, Ask]:
        """What a client or a daemon asks, by name. ``ids``: runs of the history, by chance."""

        def call(method: str, **params: Any) -> Awaitable[object]:
            return self.caller.call(method, **params)

        choose = self.random.choice
        return {
            "run/latest": lambda: call("run/latest", **self.chat),
            "run/get": lambda: call("run/get", run_id=choose(ids)),
            "run/list, newest": lambda: call("run/list"),
            "run/list, a chat's": lambda: call("run/list", **self.chat),
            "run/list, a workspace's": lambda: call("run/list", workspace="second", limit=20),
            "run/list, running ones": lambda: call("run/list", status=["pending", "running", "waiting"]),
            "run/list, failed ones": lambda: call("run/list", status=["failed"], limit=2),
            "run/list, aborted ones (none)": lambda: call("run/list", status=["aborted"]),
            "run/list, an agent's": lambda: call("run/list", agent="writer"),
            "run/list, an agent's without runs": lambda: call("run/list", agent="nobody"),
            "chat/list": lambda: call("chat/list"),
            "chat/messages": lambda: call("chat/messages", **self.chat),
            "the sweep's look": self.look,
            "the heartbeat's look": lambda: read_unsettled(self.link, NOBODY),
        }

    async def look(self) -> None:
        """What every sweep begins with."""
        await read_living(self.link, NOBODY)
        await read_takeable(self.link, agents=["demo"], backstop_seconds=600, backstop_open=True)


async def measure(stage: Stage) -> list[Figure]:
    runs = int(os.environ.get("BENCH_RUNS", FULL_QUICK if stage.quick else FULL))
    full, empty = await _fill(stage, runs), await _fill(stage, EMPTY)
    figures = [_judge_plans(await trio.to_thread.run_sync(explain_all, full))]
    figures += await _measure_start(stage, full, empty)
    async with stage.open_daemon(database=full) as big, stage.open_daemon(database=empty) as small:
        async with Caller.connect(big.socket) as first, Caller.connect(small.socket) as second:
            sides = [
                Side(daemon, count, caller, Link(daemon.database, "bench"), random.Random(1))  # noqa: S311 - the same questions every time
                for daemon, count, caller in ((big, runs, first), (small, EMPTY, second))
            ]
            figures += await _ask_all(stage, sides)
            for side in sides:
                side.link.close()
        figures += await _measure_updates(stage, big)
    async with stage.open_daemon() as new:
        figures.append(await _measure_new(stage, new))
    await stage.drop_database(full)
    return figures


async def _fill(stage: Stage, runs: int) -> str:
    dsn = await stage.create_schema()

    def insert() -> None:
        for done in fill(dsn, runs):
            stage.say(f"{done:,} of {runs:,} runs are in the tables")

    await trio.to_thread.run_sync(insert)
    return dsn


def _judge_plans(plans: Any) -> Figure:
    return Figure(
        "statements reading a whole table", "of " + str(plans.explained), len(plans.whole) + len(plans.unseen),
        better="less", target=at_most(0), note="; ".join([*plans.whole, *plans.unseen]),
    )  # fmt: skip


async def _ask_all(stage: Stage, sides: list[Side]) -> list[Figure]:
    before = await _count_whole_reads(stage, sides[0].daemon.database)
    figures = []
    ids = [await _choose_ids(stage, side) for side in sides]
    asked = [side.questions(own) for side, own in zip(sides, ids, strict=True)]
    for name in asked[0]:
        stage.say(name)
        figures.append(await _compare(stage, name, [questions[name] for questions in asked]))
    await trio.sleep(REPORT_SECONDS)
    read = await _count_whole_reads(stage, sides[0].daemon.database) - before
    figures.append(Figure("rows read by whole reads", "rows", read, better="less", target=at_most(0)))
    return figures


async def _compare(stage: Stage, name: str, asks: list[Ask]) -> Figure:
    """Ask both in turn, until a number of questions or a time is reached."""
    times: list[list[float]] = [[], []]
    until = time.perf_counter() + stage.seconds(20)
    with quiet():
        for ask in asks * 5:
            await ask()
        while len(times[1]) < ASKED and (time.perf_counter() < until or len(times[1]) < 2):
            for ask, found in zip(asks, times, strict=True):
                for _ in range(TURN):
                    started = time.perf_counter()
                    await ask()
                    found.append((time.perf_counter() - started) * 1000)
                    if time.perf_counter() > until:
                        break
    return _judge(name, *times)


def _judge(name: str, full: list[float], empty: list[float]) -> Figure:
    limit = Limit("nearly empty tables", percentile(empty, 0.99))
    middle, slowest = percentile(full, 0.5), percentile(full, 0.99)
    return Figure(
        f"{name}, p99", "ms", slowest, better="less", limit=limit, target=at_most_of(FACTOR, limit),
        note=f"p50 {middle:.2f} ms, nearly empty {percentile(empty, 0.5):.2f} ms, of {len(full)}",
    )  # fmt: skip


async def _choose_ids(stage: Stage, side: Side) -> list[str]:
    rows = await stage.ask(
        side.daemon.database,
        "SELECT bench.id(n, 'run')::text FROM (SELECT floor(random() * %s)::bigint AS n"
        " FROM generate_series(1, 1000)) AS numbers",
        [side.runs],
    )
    return [row[0] for row in rows]


async def _count_whole_reads(stage: Stage, dsn: str) -> int:
    rows = await stage.ask(
        dsn,
        "SELECT coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables"
        " WHERE schemaname = 'outlived' AND relname = ANY(%s)",
        [sorted(LARGE)],
    )
    return int(rows[0][0])


async def _measure_start(stage: Stage, full: str, empty: str) -> list[Figure]:
    """Process start to the first answer, in turn."""
    stage.say("start-up")
    times: list[list[float]] = [[], []]
    for _ in range(max(3, stage.size(STARTS))):
        for database, found in zip((full, empty), times, strict=True):
            started = time.perf_counter()
            async with stage.open_daemon(database=database):
                found.append((time.perf_counter() - started) * 1000)
    return [_judge("start-up", *times)]


# ---------------------------------------------------------------- what updates cost


async def _measure_updates(stage: Stage, daemon: Daemon) -> list[Figure]:
    """A load of runs with one step each: which of their updates stayed on their page, and what they leave behind."""
    stage.say("a load of runs")
    looked = await _look(daemon)
    before = await _count_updates(stage, daemon.database)
    await _load(stage, daemon)
    after = await _count_updates(stage, daemon.database)
    limit = Limit("before the load", looked)
    dead = after["runs"][2]
    figures = [
        Figure("the heartbeat's look after a load", "ms", await _look(daemon), "less", limit=limit, note=f"{dead} dead rows")
    ]  # fmt: skip
    for table in ("owners", "chats", "runs", "messages"):
        updates, hot = (now - then for now, then in zip(after[table][:2], before[table], strict=False))
        figures.append(
            Figure(
                f"HOT updates of {table}",
                "%",
                100 * hot / updates if updates else 100.0,
                note=f"of {updates}",
            )
        )
    return figures


async def _measure_new(stage: Stage, daemon: Daemon) -> Figure:
    """Tables that grow from nothing before anybody has analyzed them: do plans that were made for empty tables stay?"""
    stage.say("a load of runs on new tables")
    runs = await _load(stage, daemon)
    read = await _count_whole_reads(stage, daemon.database)
    return Figure(
        "rows read by whole reads, new tables",
        "per run",
        read / runs,
        better="less",
        target=at_most(READ_PER_RUN),
    )


async def _load(stage: Stage, daemon: Daemon) -> int:
    """Some seconds of runs; how many."""
    loop = Loop(daemon.socket, "step", 64)
    await observe(loop, warm_up=0.5, seconds=stage.seconds(10), window=lambda: stage.meter(daemon))
    if not loop.settled:
        raise Broken("no run was settled under load")
    await trio.sleep(REPORT_SECONDS)
    return loop.started


async def _look(daemon: Daemon) -> float:
    """Milliseconds, in the middle, of the heartbeat's look at the runs of its owner."""
    async with Caller.connect(daemon.socket) as caller:
        owner = (await caller.call("server/info"))["instance_id"]
    link = Link(daemon.database, "bench")
    times = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        await read_unsettled(link, owner)
        times.append((time.perf_counter() - started) * 1000)
    link.close()
    return percentile(times, 0.5)


async def _count_updates(stage: Stage, dsn: str) -> dict[str, tuple[int, int, int]]:
    rows = await stage.ask(
        dsn,
        "SELECT relname, n_tup_upd, n_tup_hot_upd, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'outlived'",
    )
    return {name: (updates, hot, dead) for name, updates, hot, dead in rows}
