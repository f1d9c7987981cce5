"""The history checker of the tests: ``outlived fsck``, and what only a test knows.

Fault tests end in it: it knows which starts were acknowledged and what readers were shown. What happened at every
instant, and not only what is left of it, an audit says (``audit.py``).
"""

from typing import Any

import psycopg
from psycopg.rows import scalar_row

from outlived.rules.history import Problem
from outlived.store.history import Allowance, open_snapshot
from tests.support.audit import read_wrongs

Json = dict[str, Any]
ALLOWANCE = Allowance(sweep_seconds=15.0)


def find_problems(
    dsn: str, *, workspace: str | None = None, allowance: Allowance = ALLOWANCE
) -> list[Problem]:
    """What ``outlived fsck`` finds."""
    with open_snapshot(dsn, workspace=workspace) as snapshot:
        return list(snapshot.review(allowance, lambda _counts: None))


def check_history(
    dsn: str,
    *,
    acknowledged: set[str] | frozenset[str] = frozenset(),
    workspace: str | None = None,
    allowance: Allowance = ALLOWANCE,
) -> list[str]:
    """Everything that is wrong, in one workspace or in all; ``acknowledged``: ids of runs whose start was answered."""
    wrong = [str(problem) for problem in find_problems(dsn, workspace=workspace, allowance=allowance)]
    with psycopg.connect(dsn) as connection:
        lost = connection.cursor(row_factory=scalar_row).execute(
            "SELECT id::text FROM unnest(%s::uuid[]) AS a (id) WHERE NOT EXISTS"
            " (SELECT 1 FROM outlived.runs r WHERE r.id = a.id)",
            [sorted(acknowledged)],
        )
        wrong += [f"acknowledged run {run_id} is not there" for run_id in lost]
    return wrong + read_wrongs(dsn)


def check_readers(dsn: str, seen: dict[str, list[list[Json]]]) -> list[str]:
    """What is wrong with what readers were shown: run id -> the events of each reader, in the order of arrival.

    Each must be a beginning of the log, event for event.
    """
    wrong = []
    with psycopg.connect(dsn) as connection:
        for run_id, readers in seen.items():
            rows = connection.execute(
                "SELECT seq, type, data::jsonb FROM outlived.events WHERE run_id = %s ORDER BY seq", [run_id]
            )
            log = rows.fetchall()
            for events in readers:
                shown = [(event["seq"], event["type"], event["data"]) for event in events]
                if shown != log[: len(shown)]:
                    seqs = [seq for seq, _, _ in shown]
                    wrong.append(f"run {run_id}: a reader was shown {seqs}, which does not begin its log")
    return wrong


def assert_history(
    dsn: str,
    *,
    acknowledged: set[str] | frozenset[str] = frozenset(),
    settled: bool = False,
    workspace: str | None = None,
) -> None:
    """Fail with everything that is wrong; with ``settled``, also if any run (of whatever workspace) is not."""
    wrong = check_history(dsn, acknowledged=acknowledged, workspace=workspace)
    if settled:
        wrong += [f"run {run_id} is still {status}" for run_id, status in list_unsettled(dsn)]
    assert not wrong, "\n".join(wrong)


def assert_messages(dsn: str) -> None:
    """Fail if the message of any run is not what its log amounts to: the parts are the fold of the events."""
    wrong = [str(problem) for problem in find_problems(dsn) if problem.kind in {"message", "fold"}]
    assert not wrong, "\n".join(wrong)


def list_unsettled(dsn: str) -> list[tuple[str, str]]:
    """(id, status) of every run that is not settled."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT id::text, status FROM outlived.runs WHERE finished_at IS NULL")
        return rows.fetchall()
