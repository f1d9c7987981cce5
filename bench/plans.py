"""How Postgres means to carry out the daemon's statements: which of them would read a whole large table.

Every named statement of ``daemon/outlived/store/sql`` is explained with example parameters, on the filled database.
A statement that is new needs an example only where a parameter is new.

Not here: how long they take (``scale.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from typing import Any, cast

import attrs
import psycopg

from outlived.store.queries import load_queries
from outlived.store.rows import COLUMNS

LARGE = {"runs", "events", "messages"}
EXPLAINABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
SAMPLE = 64
"""Runs and chats in an example's arrays: a batch of a busy daemon."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@attrs.frozen
class Plans:
    """``whole``: statements with the large table that they read from end to end; ``unseen``: those without an example."""

    explained: int
    whole: list[str]
    unseen: list[str]


def explain_all(dsn: str) -> Plans:
    """Explain every statement; nothing is carried out."""
    whole, unseen, explained = [], [], 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.prepare_threshold = None
        reading, writing = _choose_examples(connection)
        for file in _list_files():
            examples = writing if file == "journal.sql" else reading
            for name, sql in load_queries(file, COLUMNS).items():
                if not sql.startswith(EXPLAINABLE):
                    continue
                try:
                    plan = _explain(connection, sql, examples)
                except psycopg.Error as error:
                    unseen.append(f"{name} ({str(error).splitlines()[0]})")
                    continue
                explained += 1
                whole += [f"{name}: {table}" for table in _find_whole(plan) if table in LARGE]
    return Plans(explained, whole, unseen)


def _list_files() -> list[str]:
    """Those the daemon lives by; a number begins the name of a migration, which runs once, as fsck's history does."""
    names = (entry.name for entry in resources.files("outlived.store").joinpath("sql").iterdir())
    return sorted(
        name for name in names if name not in {"migrations.sql", "history.sql"} and not name[0].isdigit()
    )


def _explain(connection: psycopg.Connection[Any], sql: str, params: dict[str, Any]) -> dict[str, Any]:
    [[plan]] = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}", params).fetchall()
    return cast("dict[str, Any]", plan[0]["Plan"])


def _find_whole(plan: dict[str, Any]) -> Iterator[str]:
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for inner in plan.get("Plans", ()):
        yield from _find_whole(inner)


def _choose_examples(connection: psycopg.Connection[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters by name, for reading and for writing: runs in the middle of the history, as many as a batch has."""
    rows = connection.execute(
        "SELECT r.id::text, r.workspace, r.chat_id, r.message_id::text, r.owner::text FROM outlived.runs r"
        " WHERE r.id >= (SELECT id FROM outlived.runs ORDER BY id OFFSET (SELECT count(*) / 2 FROM outlived.runs)"
        " LIMIT 1) ORDER BY r.id LIMIT %s",
        [SAMPLE],
    ).fetchall()
    ids, workspaces, chats, messages, owners = (list(column) for column in zip(*rows, strict=True))
    many = len(ids)
    shared = {
        "me": owners[0], "id": owners[0], "ids": ids, "at": NOW, "lease": 60.0, "batch_no": 1, "expected": many,
        "lock_ms": 2000, "statement_ms": 20_000, "bytes": 8 << 20, "each": 64,
    }  # fmt: skip
    reading = {
        "run_id": ids[0], "workspace": workspaces[0], "chat_id": chats[0], "before": ids[0], "after": 2,
        "agent": "writer", "statuses": ["failed"], "limit": 51, "upto": 200,
        "types": ["text.delta"], "after_workspace": workspaces[0], "after_chat": chats[0], "agents": ["demo"],
        "backstop": 600.0, "backstop_open": True, "reason": "x", "by": "x", "proved": True, "title": None,
        "metadata": "{}", "home_id": owners[0], "host": "x", "boot_id": "x", "pid_namespace": "x", "pid": 1,
        "start_ticks": 1, "socket": "x", "version": "0",
        "keep": 600_000.0, "since": None, "runs": 100, "events": 1000, "uid": 1000, "position": 1, "adopt": 120.0,
        "allowed": None, "after_run": None, "before_position": 100,
    }  # fmt: skip
    writing = {
        **{name: [1] * many for name in _NUMBERS},
        **{name: ["x"] * many for name in _TEXTS},
        **{name: [NOW] * many for name in ("starts", "finishes", "stops")},
        "run_ids": ids, "workspaces": workspaces, "chats": chats, "message_ids": messages, "keys": chats,
        "owners": owners, "old_owners": owners, "detacheds": [True] * many, "truncateds": [False] * many,
    }  # fmt: skip
    return {**shared, **reading}, {**shared, **writing}


_NUMBERS = (
    "positions", "attempts", "epochs", "old_epochs", "steps", "last_seqs", "input_tokens", "output_tokens",
    "cached_tokens", "costs", "peer_uids", "as_of_seqs", "seqs", "pids", "pgids", "start_ticks", "stdouts", "stderrs",
)  # fmt: skip
_TEXTS = (
    "agents", "boot_ids", "commands", "contents", "created_bys", "cwds", "datas", "digests", "envs", "errors", "hosts",
    "inputs", "metadatas", "names", "on_owner_losses", "parts", "pid_namespaces", "results", "roles", "statuses", "stop_reasons",
    "triggers", "types", "states", "notes", "session_ids",
)  # fmt: skip
