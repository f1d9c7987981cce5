"""The history checker: what must be true of any database that daemons have written, at any moment.

It reads tables and nothing else, and returns what is wrong in words; fault tests end in it.
"""

import json
from datetime import UTC
from typing import Any

import psycopg

from outlived.rules.lifecycle import fold
from outlived.rules.message import DEFAULT_LIMIT, Draft, read_content
from outlived.rules.run import ACTIVE, TERMINAL, Event

FIELDS = (
    "status", "attempt", "epoch", "owner", "step_count", "last_seq", "error", "created_at", "started_at",
    "finished_at", "updated_at", "stop_requested_at", "stop_reason",
)  # fmt: skip
MESSAGE_STATUS = {"succeeded": "completed", "failed": "failed", "aborted": "aborted"}


def check_history(
    dsn: str,
    *,
    acknowledged: set[str] | frozenset[str] = frozenset(),
    workspace: str | None = None,
    message_limit: int = DEFAULT_LIMIT,
) -> list[str]:
    """Everything that is wrong, in one workspace or in all; ``acknowledged``: ids of runs whose start was answered."""
    here = "" if workspace is None else "WHERE workspace = %(workspace)s"
    of_here = (
        f"WHERE run_id IN (SELECT id FROM outlived.runs {here})" if here else ""
    )  # else strays are found too
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        stepped = {
            str(run_id) for (run_id,) in connection.execute("SELECT DISTINCT run_id FROM outlived.steps")
        }
        runs = _read(connection, f"SELECT * FROM outlived.runs {here}", workspace)
        events = _read(connection, f"SELECT * FROM outlived.events {of_here} ORDER BY run_id, seq", workspace)
        messages = {
            row["id"]: row
            for row in _read(connection, f"SELECT * FROM outlived.messages {of_here}", workspace)
        }
    logs: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        logs.setdefault(event["run_id"], []).append(event)
    wrong = [f"acknowledged run {run} is not there" for run in acknowledged - {run["id"] for run in runs}]
    wrong += [
        f"events of run {run_id}, which is not there" for run_id in logs.keys() - {run["id"] for run in runs}
    ]
    wrong += _check_slots(runs)
    for run in runs:
        log = logs.get(run["id"], [])
        problems = _check_run(run, log, messages[run["message_id"]], message_limit)
        if run["pruned_at"] is not None and run["id"] in stepped:
            problems.append("it is pruned, and its steps are there")
        wrong += [f"run {run['id']}: {problem}" for problem in problems]
    return wrong


def assert_history(
    dsn: str,
    *,
    acknowledged: set[str] | frozenset[str] = frozenset(),
    settled: bool = False,
    workspace: str | None = None,
    message_limit: int = DEFAULT_LIMIT,
) -> None:
    """Fail with everything that is wrong; with ``settled``, also if any run (of whatever workspace) is not."""
    wrong = check_history(dsn, acknowledged=acknowledged, workspace=workspace, message_limit=message_limit)
    if settled:
        with psycopg.connect(dsn) as connection:
            left = connection.execute(
                "SELECT id, status FROM outlived.runs WHERE finished_at IS NULL"
            ).fetchall()
        wrong += [f"run {run_id} is still {status}" for run_id, status in left]
    assert not wrong, "\n".join(wrong)


def _read(connection: psycopg.Connection[Any], sql: str, workspace: str | None) -> list[dict[str, Any]]:
    cursor = connection.execute(sql, {"workspace": workspace})
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    return [
        {name: _plain(value) for name, value in zip(names, row, strict=True)} for row in cursor.fetchall()
    ]


def _plain(value: Any) -> Any:
    if hasattr(value, "astimezone"):
        return value.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    return str(value) if type(value).__name__ == "UUID" else value


def _check_slots(runs: list[dict[str, Any]]) -> list[str]:
    held: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run["status"] in ACTIVE:
            held.setdefault((run["workspace"], run["chat_id"]), []).append(run["id"])
    return [f"chat {chat} has {len(ids)} active runs: {ids}" for chat, ids in held.items() if len(ids) > 1]


def _check_run(
    run: dict[str, Any], log: list[dict[str, Any]], message: dict[str, Any], limit: int
) -> list[str]:
    if run["first_seq"] > 1:
        return _check_pruned(run, log, message)
    if [event["seq"] for event in log] != list(range(1, len(log) + 1)):
        return [f"its log is not dense: {[event['seq'] for event in log]}"]
    wrong = []
    settled_at = [event["seq"] for event in log if event["type"] == "run.settled"]
    if settled_at != ([run["last_seq"]] if run["status"] in TERMINAL else []):
        wrong.append(f"status {run['status']}, but run.settled at {settled_at} of {run['last_seq']}")
    epochs = [event["epoch"] for event in log]
    if epochs != sorted(epochs):
        wrong.append(f"epochs fall: {epochs}")
    facts = [Event(event["seq"], event["at"], event["type"], json.loads(event["data"])) for event in log]
    return wrong + _check_fold(run, facts) + _check_message(run, facts, message, limit)


def _check_pruned(run: dict[str, Any], log: list[dict[str, Any]], message: dict[str, Any]) -> list[str]:
    """A pruned log has no fold: what is left of it is its end, and its message holds what it said."""
    first, last, wrong = run["first_seq"], run["last_seq"], []
    if run["status"] not in TERMINAL:
        wrong.append(f"its log begins at {first}, and it is {run['status']}")
    if [event["seq"] for event in log] != list(range(first, last + 1)):
        wrong.append(f"its log is not {first} to {last}: {[event['seq'] for event in log]}")
    if log and [event["seq"] for event in log if event["type"] == "run.settled"] != [last]:
        wrong.append("its log does not end with run.settled")
    if (run["pruned_at"] is not None) != (first > last):
        wrong.append(f"pruned_at is {run['pruned_at']}, its log {first} to {last}")
    return wrong + _check_message_end(run, message)


def _check_fold(run: dict[str, Any], facts: list[Event]) -> list[str]:
    try:
        folded = fold(facts)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a log is a finding
        return [f"its log cannot be: {error}"]
    row = {**run, "error": json.loads(run["error"]) if run["error"] else None}
    wrong = [
        f"{field} is {row[field]!r}, its log says {getattr(folded, field)!r}"
        for field in FIELDS
        if row[field] != getattr(folded, field)
        # a stop mark may lead the log until the settlement
        and not (field.startswith("stop_") and not folded.settled and getattr(folded, field) is None)
    ]
    wrong += [
        f"{field} is {row[field]}, its log says {getattr(folded.usage, field)}"
        for field in ("input_tokens", "output_tokens", "cached_tokens", "cost_micro_usd")
        if row[field] != getattr(folded.usage, field)
    ]
    return wrong


def _check_message(run: dict[str, Any], facts: list[Event], message: dict[str, Any], limit: int) -> list[str]:
    wrong = _check_message_end(run, message)
    draft = Draft(limit)
    for fact in facts:
        if fact.seq <= message["as_of_seq"]:
            draft.add(fact)
    if message["content"] != read_content(draft.parts) or json.loads(message["parts"]) != draft.parts:
        wrong.append("its message is not what its log says")
    return wrong


def _check_message_end(run: dict[str, Any], message: dict[str, Any]) -> list[str]:
    wanted = MESSAGE_STATUS.get(run["status"], "streaming")
    wrong = [] if message["status"] == wanted else [f"message {message['status']}, run {run['status']}"]
    if run["status"] in TERMINAL and message["as_of_seq"] != run["last_seq"]:
        wrong.append(f"its message ends at event {message['as_of_seq']}, its log at {run['last_seq']}")
    return wrong
