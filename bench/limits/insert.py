"""A bare insert loop into the daemon's own events table: ``python -m bench.limits.insert DSN RUNS SECONDS unnest|copy``.

One connection, one commit per ROWS rows, a row per token of ``agents.TOKENS``, evenly from RUNS runs, with the log's
numbers and times as the daemon writes them. Prints one number: rows per second.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable

import psycopg

from bench.agents import TOKENS

ROWS = 1000

UNNEST = """
INSERT INTO outlived.events (run_id, seq, epoch, at, type, data)
SELECT run_id, seq, 1, %s::timestamptz, 'text.delta', data
FROM unnest(%s::uuid[], %s::bigint[], %b::text[]) AS n (run_id, seq, data)
"""
COPY = "COPY outlived.events (run_id, seq, epoch, at, type, data) FROM STDIN"
AT = "2026-01-01T00:00:00.000000Z"

Batch = tuple[list[str], list[int], list[str]]


def make_batch(ids: list[str], number: int) -> Batch:
    """The ``number``-th ROWS rows: run ids, sequence numbers, data."""
    each = ROWS // len(ids)
    first = number * each + 1
    data = [f'{{"text":"{TOKENS[row % len(TOKENS)]}"}}' for row in range(ROWS)]
    return (
        [run_id for run_id in ids for _ in range(each)],
        list(range(first, first + each)) * len(ids),
        data,
    )


def insert_unnest(connection: psycopg.Connection, batch: Batch) -> None:
    """As set-based statements do it."""
    connection.execute(UNNEST, (AT, *batch))


def insert_copy(connection: psycopg.Connection, batch: Batch) -> None:
    """As bulk loading does it."""
    lines = (
        f"{run_id}\t{seq}\t1\t{AT}\ttext.delta\t{data}\n" for run_id, seq, data in zip(*batch, strict=True)
    )
    with connection.cursor().copy(COPY) as copy:
        copy.write("".join(lines))


WAYS: dict[str, Callable[[psycopg.Connection, Batch], None]] = {"unnest": insert_unnest, "copy": insert_copy}


def main(dsn: str, runs: str, seconds: str, way: str) -> None:
    """Insert for a while."""
    ids = sorted(str(uuid.uuid4()) for _ in range(int(runs)))
    insert = WAYS[way]
    done = 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        start = time.perf_counter()
        while time.perf_counter() < start + float(seconds):
            insert(connection, make_batch(ids, done))
            done += 1
        print(done * ROWS / (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
