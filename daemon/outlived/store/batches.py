"""One batch of the journal in the database: what is so, then what to write, then the commit.

Theory of operation. ``read_truth`` opens a transaction, raises the owner's fence and takes every lock that the
batch will need, in the one order all daemons follow; what it reads under those locks cannot change before the
commit. The journal decides, in memory, what to write (``journal/plan.py``). ``write_batch`` writes exactly
that, in a fixed number of set-based statements, and commits. Two round trips, whatever the batch's size.

1. Order of locks: the owner's row, chats by key, runs by id, new runs last.
2. Nothing is decided here. If the database holds less than was planned for, the commit does not happen.
3. The one time of a batch is the time at which its fence opened.

Not here: retrying, halving, ambiguous commits (``journal/writer.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import psycopg

from outlived.rules.run import USAGE_FIELDS, Run, Status, Usage
from outlived.store.adoption import Position
from outlived.store.exchange import Answer, exchange, load_statements
from outlived.store.owners import StopMark
from outlived.store.past import NewSession
from outlived.store.postgres import DatabaseLost, TrioConnection
from outlived.store.stops import RunProcess

SQL = load_statements("journal.sql")
LIMITS: dict[str, Any] = {"lock_ms": 2000, "statement_ms": 20_000}

TAKE_BYTES = 8 << 20
"""So much of messages is taken over in one batch: of runs of a dead owner, one and whatever else fits."""

ChatKey = tuple[str, str]
"""(workspace, chat_id)"""


@attrs.frozen
class Fence:
    """The owner a batch is written for, and the number it must have."""

    owner: str
    batch_no: int
    lease_seconds: float


@attrs.frozen
class Questions:
    """What a batch has to know before it can be decided."""

    chats: frozenset[ChatKey] = frozenset()
    slots: frozenset[ChatKey] = frozenset()
    keys: frozenset[tuple[str, str]] = frozenset()
    settling: frozenset[str] = frozenset()
    taking: frozenset[str] = frozenset()


@attrs.frozen
class Takeable:
    """A run that is nobody's, as its row says; ``message_id`` and the stored draft beside it."""

    id: str
    workspace: str
    chat_id: str
    run: Run
    message_id: str
    parts: str
    truncated: bool
    as_of_seq: int


@attrs.frozen
class Truth:
    """The answers, true until the commit. ``at`` is the batch's time."""

    at: str
    chats: dict[ChatKey, int]
    active: dict[ChatKey, str]
    keys: dict[tuple[str, str], tuple[str, str | None]]
    marks: dict[str, StopMark | None]
    takeable: list[Takeable]


@attrs.frozen
class FenceState:
    """Why a fence stayed shut."""

    batch_no: int
    dead: bool


class NewRun(NamedTuple):
    """A run to insert, pending and owned by the batch's owner."""

    id: str
    workspace: str
    chat_id: str
    position: int
    agent: str | None
    command: str | None
    input: str
    trigger: str
    created_by: str | None
    peer_uid: int
    message_id: str
    metadata: str
    detached: bool
    on_owner_loss: str
    key: str | None
    digest: str | None
    cwd: str | None
    env: str | None


class NewMessage(NamedTuple):
    """A message to insert."""

    id: str
    workspace: str
    chat_id: str
    run_id: str
    position: int
    role: str
    status: str
    content: str
    parts: str


@attrs.frozen
class RunChange:
    """A run's row after the batch, and the owner and epoch it must have before."""

    id: str
    run: Run
    error: str | None
    old_owner: str | None
    old_epoch: int


class MessageChange(NamedTuple):
    """A message as the batch leaves it."""

    id: str
    content: str
    parts: str
    truncated: bool
    as_of_seq: int
    status: str


class NewEvent(NamedTuple):
    """A row of a log; ``data`` is JSON text."""

    run_id: str
    seq: int
    epoch: int
    type: str
    data: str


class NewStep(NamedTuple):
    """A step that is done; ``result`` is JSON text, ``seq`` its event."""

    run_id: str
    position: int
    name: str
    result: str
    seq: int


@attrs.define
class Batch:
    """Everything one commit writes."""

    at: str
    new_chats: dict[ChatKey, int] = attrs.Factory(dict)
    moved_chats: dict[ChatKey, int] = attrs.Factory(dict)
    run_changes: list[RunChange] = attrs.Factory(list)
    processes: list[tuple[str, RunProcess]] = attrs.Factory(list)
    positions: dict[str, Position] = attrs.Factory(dict)
    new_runs: list[NewRun] = attrs.Factory(list)
    new_messages: list[NewMessage] = attrs.Factory(list)
    message_changes: list[MessageChange] = attrs.Factory(list)
    events: list[NewEvent] = attrs.Factory(list)
    steps: list[NewStep] = attrs.Factory(list)
    sessions: dict[tuple[str, str, str], NewSession] = attrs.Factory(dict)


async def read_truth(connection: TrioConnection, fence: Fence, questions: Questions) -> Truth | None:
    """Open the transaction, the fence and the locks. None: the fence is shut, nothing is open.

    Raises DatabaseLost when the fence is held: an earlier try of this owner, or its reaper, is not done yet.
    """
    raised = {"me": fence.owner, "batch_no": fence.batch_no, "lease": fence.lease_seconds}
    opening: list[tuple[str, dict[str, Any]]] = [("begin", {}), ("limit_time", LIMITS), ("fence", raised)]
    asked = [
        ("lock_chats", _pairs(questions.chats, "workspaces", "chats")),
        ("lock_runs", _ids(questions.settling, fence.owner)),
        ("lock_takeable", _ids(questions.taking, fence.owner, bytes=TAKE_BYTES)),
        ("find_keys", _pairs(questions.keys, "workspaces", "keys")),
        ("find_active", _pairs(questions.slots, "workspaces", "chats")),
    ]
    asked = [*opening, *((name, values) for name, values in asked if values)]
    answers: list[Answer] = []
    try:
        await exchange(connection, [(SQL[name], values) for name, values in asked], answers)
    except psycopg.errors.LockNotAvailable as error:
        if len(answers) >= len(opening):  # the fence opened: it was another lock
            raise
        raise DatabaseLost(f"cannot raise the fence of owner {fence.owner} yet: its row is locked") from error
    told: dict[str, Answer] = {name: rows for (name, _), rows in zip(asked, answers, strict=True)}
    if not told["fence"]:
        await exchange(connection, [(SQL["rollback"], {})])
        return None
    return _read_truth(told)


def _read_truth(told: Mapping[str, Any]) -> Truth:
    [(at,)] = told["fence"]
    return Truth(
        at=at,
        chats={(workspace, chat): int(position) for workspace, chat, position in told.get("lock_chats", ())},
        active={(workspace, chat): run_id for workspace, chat, run_id in told.get("find_active", ())},
        keys={
            (workspace, key): (run_id, digest) for workspace, key, run_id, digest in told.get("find_keys", ())
        },
        marks={run: StopMark(at, why, by) if at else None for run, at, why, by in told.get("lock_runs", ())},
        takeable=[_read_takeable(row) for row in told.get("lock_takeable", ())],
    )


async def read_fence(connection: TrioConnection, owner: str) -> FenceState:
    """How far the owner's batches are, and whether it is declared dead."""
    [rows] = await exchange(connection, [(SQL["read_fence"], {"me": owner})])
    return FenceState(int(rows[0][0] or 0), rows[0][1] == "t") if rows else FenceState(-1, dead=True)


async def write_batch(connection: TrioConnection, fence: Fence, batch: Batch) -> None:
    """Write and commit. An error here leaves the outcome to be found out by the fence's number."""
    shared = {"at": batch.at, "me": fence.owner}
    asked = [(SQL[statement], {**params, **shared}) for statement, params in _statements(batch)]
    await exchange(connection, [*asked, (SQL["commit"], {})])


def _pairs(pairs: frozenset[tuple[str, str]], first: str, second: str) -> dict[str, Any]:
    ordered = sorted(pairs)
    return {first: [pair[0] for pair in ordered], second: [pair[1] for pair in ordered]} if pairs else {}


def _ids(ids: frozenset[str], me: str, **more: int) -> dict[str, Any]:
    return {"ids": sorted(ids), "me": me, **more} if ids else {}


def _read_takeable(row: tuple[Any, ...]) -> Takeable:
    (
        run_id, workspace, chat_id, status, attempt, epoch, owner, last_seq, steps, tokens_in, tokens_out, cached,
        cost, stop_at, stop_reason, created_at, started_at, updated_at, message_id, parts, truncated, as_of_seq,
    ) = row  # fmt: skip
    usage = (None if amount is None else int(amount) for amount in (tokens_in, tokens_out, cached, cost))
    run = Run(
        status=Status(status), attempt=int(attempt), epoch=int(epoch), owner=owner, created_at=created_at,
        updated_at=updated_at, last_seq=int(last_seq), step_count=int(steps), usage=Usage(*usage),
        stop_requested_at=stop_at, stop_reason=stop_reason, started_at=started_at,
    )  # fmt: skip
    return Takeable(run_id, workspace, chat_id, run, message_id, parts, truncated == "t", int(as_of_seq))


def _statements(batch: Batch) -> list[tuple[str, dict[str, Any]]]:
    """The statements of a batch in the order of its locks; one that has nothing to write is left out."""
    wanted = [
        ("insert_chats", _chats(batch.new_chats)),
        ("update_chats", _chats(batch.moved_chats)),
        ("update_runs", _run_changes(batch.run_changes)),
        ("update_processes", _processes(batch.processes)),
        ("update_positions", _positions(batch.positions)),
        ("insert_runs", _columns(batch.new_runs, _RUN_COLUMNS)),
        ("insert_messages", _columns(batch.new_messages, _MESSAGE_COLUMNS)),
        ("update_messages", _columns(batch.message_changes, _CHANGE_COLUMNS)),
        ("insert_events", _columns(batch.events, _EVENT_COLUMNS)),
        ("insert_steps", _columns(batch.steps, _STEP_COLUMNS)),
        ("keep_sessions", _columns([new for _, new in sorted(batch.sessions.items())], _SESSION_COLUMNS)),
    ]
    return [(statement, params) for statement, params in wanted if params]


_RUN_COLUMNS = (
    "ids", "workspaces", "chats", "positions", "agents", "commands", "inputs", "triggers", "created_bys", "peer_uids",
    "message_ids", "metadatas", "detacheds", "on_owner_losses", "keys", "digests", "cwds", "envs",
)  # fmt: skip
_MESSAGE_COLUMNS = (
    "ids", "workspaces", "chats", "run_ids", "positions", "roles", "statuses", "contents", "parts",
)  # fmt: skip
_CHANGE_COLUMNS = ("ids", "contents", "parts", "truncateds", "as_of_seqs", "statuses")
_EVENT_COLUMNS = ("run_ids", "seqs", "epochs", "types", "datas")
_SESSION_COLUMNS = ("workspaces", "chats", "agents", "hosts", "session_ids", "notes", "run_ids")
_STEP_COLUMNS = ("run_ids", "positions", "names", "results", "seqs")


def _columns(rows: Sequence[tuple[Any, ...]], columns: tuple[str, ...]) -> dict[str, Any]:
    """Rows turned into one array per column; a row's fields are in the columns' order."""
    return dict(zip(columns, zip(*rows, strict=True), strict=True)) if rows else {}


def _chats(positions: dict[ChatKey, int]) -> dict[str, Any]:
    if not positions:
        return {}
    ordered = sorted(positions)
    return {
        "workspaces": [workspace for workspace, _ in ordered],
        "chats": [chat for _, chat in ordered],
        "positions": [positions[key] for key in ordered],
    }


_USAGE_ARRAYS = dict(
    zip(USAGE_FIELDS, ("input_tokens", "output_tokens", "cached_tokens", "costs"), strict=True)
)


def _run_changes(changes: list[RunChange]) -> dict[str, Any]:
    if not changes:
        return {}
    runs = [change.run for change in changes]
    usage = {array: [getattr(run.usage, field) for run in runs] for field, array in _USAGE_ARRAYS.items()}
    return {
        **usage,
        "expected": len(changes),
        "ids": [change.id for change in changes],
        "statuses": [run.status.value for run in runs],
        "attempts": [run.attempt for run in runs],
        "epochs": [run.epoch for run in runs],
        "owners": [run.owner for run in runs],
        "steps": [run.step_count for run in runs],
        "last_seqs": [run.last_seq for run in runs],
        "errors": [change.error for change in changes],
        "starts": [run.started_at for run in runs],
        "finishes": [run.finished_at for run in runs],
        "stops": [run.stop_requested_at for run in runs],
        "stop_reasons": [run.stop_reason for run in runs],
        "old_owners": [change.old_owner for change in changes],
        "old_epochs": [change.old_epoch for change in changes],
    }


def _processes(found: list[tuple[str, RunProcess]]) -> dict[str, Any]:
    if not found:
        return {}
    return {
        "ids": [run_id for run_id, _ in found],
        "hosts": [process.host for _, process in found],
        "boot_ids": [process.identity.boot_id for _, process in found],
        "pid_namespaces": [process.identity.pid_namespace for _, process in found],
        "pids": [process.identity.pid for _, process in found],
        "start_ticks": [process.identity.start_ticks for _, process in found],
        "pgids": [process.pgid for _, process in found],
    }


def _positions(found: dict[str, Position]) -> dict[str, Any]:
    if not found:
        return {}
    return {
        "ids": list(found),
        "stdouts": [position.stdout for position in found.values()],
        "stderrs": [position.stderr for position in found.values()],
        "states": [position.state for position in found.values()],
    }
