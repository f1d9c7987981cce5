"""Tokens into the journal, from 1, 100 and 1,000 runs: at 50 per second each, and as fast as they are taken.

A token is five characters, one ``emit_text``. What is counted is durable: tokens that agents said, divided by the time
from the common beginning to the commit of the last of them (the event's own time). Afterwards the database is asked
whether every character of every run is in its log, in order. Neighbours committed together are one row: rows are counted
beside the tokens.

Limits: as fast as they are taken, a bare loop that inserts each token as a row, by ``unnest`` or COPY, whichever
is faster, 1,000 rows per commit; at 50 per second, the same agents on bare Trio with nobody listening (a task that is
woken 50 times a second costs as much as what it says).
"""

from __future__ import annotations

import hashlib
import json
import time

import attrs
import trio

from bench.agents import TOKEN_CHARS, TOKENS
from bench.audience import read_line
from bench.figures import Broken, Figure, Limit, Target, at_least
from bench.load import call_all, quiet
from bench.stage import Daemon, Stage

NAME = "events"

RUNS = (1, 100, 1000)
SECONDS = 6.0
PACE = 50
TARGET = 50_000

WHOLE = "".join(TOKENS)

LOGS = """
SELECT r.id::text, r.status, m.status, octet_length(m.content), m.truncated,
       (SELECT data FROM outlived.events e WHERE e.run_id = r.id AND e.type = 'data') AS said,
       t.digest, t.rows, extract(epoch FROM t.last)::float
FROM outlived.runs r JOIN outlived.messages m ON m.id = r.message_id
CROSS JOIN LATERAL (
    SELECT md5(string_agg(e.data::json ->> 'text', '' ORDER BY e.seq)) AS digest, count(*) AS rows, max(e.at) AS last
    FROM outlived.events e WHERE e.run_id = r.id AND e.type = 'text.delta') AS t
WHERE r.agent = 'recite'
"""


@attrs.frozen
class Recital:
    """``said`` tokens in ``rows`` rows, durable within ``seconds``; CPU of each token."""

    said: int
    rows: int
    seconds: float
    cpu: dict[str, float]


async def measure(stage: Stage) -> list[Figure]:
    """Paced, then as fast as it goes, for each number of runs."""
    figures = []
    for runs in RUNS:
        bare = Limit("bare Trio", await _recite_bare(stage, runs))
        stage.say(f"{runs} runs, {PACE} tokens per second each")
        recital = await _recite(stage, runs, PACE)
        figures += _make_figures(f"{_name(runs)}, {PACE}/s each", recital, bare, None)
    for runs in RUNS:
        limit = await _find_insert_limit(stage, runs)
        stage.say(f"{runs} runs, as fast as it goes")
        recital = await _recite(stage, runs, 0)
        target = at_least(TARGET) if runs == RUNS[-1] else None
        figures += _make_figures(f"{_name(runs)}, as fast as it goes", recital, limit, target)
    return figures


def _name(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs:,} runs"


def _make_figures(name: str, recital: Recital, limit: Limit, target: Target | None) -> list[Figure]:
    rate = recital.said / recital.seconds
    return [
        Figure(name, "tokens/s", rate, limit=limit, target=target, cpu=recital.cpu),
        Figure(f"{name}, rows", "rows/s", recital.rows / recital.seconds),
    ]


# ---- the daemon


async def _recite(stage: Stage, runs: int, rate: int) -> Recital:
    """Start everybody, let them begin together, wait for all, and look at what is durable."""
    seconds = max(1.0, stage.seconds(SECONDS))
    gate = f"gate-{time.monotonic_ns()}"
    asked = [
        {"gate": gate, "seconds": seconds, "rate": rate, "phase": number / runs} for number in range(runs)
    ]
    async with stage.open_daemon() as daemon:
        starts = [{"agent": "recite", "metadata": each} for each in asked]
        started = await call_all(daemon.socket, "run/start", starts)
        await _wait_running(stage, daemon, runs)
        with quiet(), stage.meter(daemon) as meter:
            began = await daemon.call("run/start", agent="begin", metadata={"gate": gate})
            waits = [{"run_id": each["run"]["id"]} for each in [*started, began]]
            await call_all(daemon.socket, "run/wait", waits)
        return await _check(stage, daemon, runs, meter.cpu)


async def _wait_running(stage: Stage, daemon: Daemon, runs: int) -> None:
    """Until nothing of the starts is left to do."""
    with trio.fail_after(60):
        sql = "SELECT count(*) FROM outlived.runs WHERE status = 'running'"
        while (await stage.ask(daemon.database, sql))[0][0] < runs:
            await trio.sleep(0.05)


async def _check(stage: Stage, daemon: Daemon, runs: int, cpu: dict[str, float]) -> Recital:
    """Every character of every run, in order. Raises Broken."""
    [(began,)] = await stage.ask(
        daemon.database,
        "SELECT (e.data::json ->> 'value')::float FROM outlived.events e JOIN outlived.runs r ON r.id = e.run_id"
        " WHERE r.agent = 'begin' AND e.type = 'data'",
    )
    logs = await stage.ask(daemon.database, LOGS)
    if len(logs) != runs:
        raise Broken(f"{runs} runs recited, {len(logs)} are in the database")
    said = [_check_log(*log[:7]) for log in logs]
    return Recital(
        sum(said),
        sum(log[7] for log in logs),
        max(log[8] for log in logs) - began,
        {name: seconds * 1000 / sum(said) for name, seconds in cpu.items()},
    )


def _check_log(
    run_id: str,
    status: str,
    message_status: str,
    content: int,
    truncated: bool,
    datum: str,
    digest: str,
) -> int:
    """How many tokens the run said. Raises Broken if not all of them are in its log and its message."""
    said = int(json.loads(datum)["value"])
    times, rest = divmod(said, len(TOKENS))
    wanted = hashlib.md5((WHOLE * times + WHOLE[: rest * TOKEN_CHARS]).encode()).hexdigest()  # noqa: S324 - a checksum
    if (status, message_status) != ("succeeded", "completed") or digest != wanted:
        raise Broken(f"run {run_id} ({status}) said {said} tokens, and its log is not that")
    if content != said * TOKEN_CHARS and not truncated:
        raise Broken(f"run {run_id} said {said} tokens, and its message holds {content} bytes")
    return said


# ---- limits


async def _recite_bare(stage: Stage, runs: int) -> float:
    stage.say(f"limit: {runs} reciting on bare Trio")
    words = (runs, max(1.0, stage.seconds(3)), PACE)
    async with stage.open_program(["python", "-m", "bench.limits.recite", *map(str, words)]) as process:
        return float(await read_line(process))


async def _find_insert_limit(stage: Stage, runs: int) -> Limit:
    found = []
    for way in ("unnest", "copy"):
        stage.say(f"limit: bare {way} loop, {runs} runs")
        dsn = await stage.create_schema()
        words = (dsn, runs, max(1.0, stage.seconds(3)), way)
        async with stage.open_program(["python", "-m", "bench.limits.insert", *map(str, words)]) as process:
            found.append(Limit(f"rows/s by {way}", float(await read_line(process))))
        await stage.drop_database(dsn)
    return max(found, key=lambda limit: limit.value)
