"""Reading a whole database for the history checker: in one snapshot, read-only, in bounded memory.

1. One transaction, REPEATABLE READ and READ ONLY: rows, logs and messages are of the same moment, and the server
   itself refuses to change anything.
2. Runs and events come through cursors in the same order, a page at a time, and are merged here.
3. A plain, waiting connection: this is a program of its own, not part of the daemon's loop.

Not here: what must be true of a run (``rules/history.py``), the command (``fsck.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import psycopg
from psycopg.types.string import TextLoader

from outlived.rules.history import LogRow, MessageRow, Problem, Review, RunRow
from outlived.store.migrate import NEWEST, SchemaRefused, check_readable
from outlived.store.postgres import DatabaseLost, WireTimeLoader
from outlived.store.queries import load_queries

SQL = load_queries("history.sql")
MIGRATIONS_SQL = load_queries("migrations.sql")

RUN_PAGE = 500
EVENT_PAGE = 100  # a row's data has up to 256 KiB
CONNECT_SECONDS = 10

_FOLDED = (
    "status", "attempt", "epoch", "owner", "step_count", "last_seq", "error", "created_at", "started_at",
    "finished_at", "updated_at", "stop_requested_at", "stop_reason", "input_tokens", "output_tokens",
    "cached_tokens", "cost_micro_usd",
)  # fmt: skip


@attrs.frozen
class Allowance:
    """How long a run may lie with a dead owner, besides the owner's lease. In seconds."""

    sweep_seconds: float = 15.0
    adopt_seconds: float = 120.0


@attrs.define
class Counts:
    """What was looked at so far. ``orphaned``: unsettled runs that wait for a daemon."""

    runs: int = 0
    events: int = 0
    unsettled: int = 0
    orphaned: int = 0


class Snapshot:
    """What one transaction sees of a database. ``counts`` grows while ``review`` goes on."""

    def __init__(self, connection: psycopg.Connection[Any], workspace: str | None) -> None:
        connection.adapters.register_loader("uuid", TextLoader)
        connection.adapters.register_loader("timestamptz", WireTimeLoader)
        self._connection = connection
        self._where = {"workspace": workspace}
        self.counts = Counts()

    def review(self, allowance: Allowance, on_run: Callable[[Counts], None]) -> Iterator[Problem]:
        """Everything that is wrong, as it is found; ``on_run`` is called at every run."""
        yield from self._compare_runs(allowance)
        yield from self._review_runs(on_run)
        unsettled = self._connection.execute(SQL["count_unsettled"], self._where).fetchone()
        self.counts.unsettled, self.counts.orphaned = unsettled or (0, 0)

    def _ask(self, name: str, page: int, **params: Any) -> Iterator[tuple[Any, ...]]:
        with self._connection.cursor(name) as cursor:
            cursor.itersize = page
            cursor.execute(SQL[name], {**self._where, **params})
            yield from cursor

    def _compare_runs(self, allowance: Allowance) -> Iterator[Problem]:
        """What runs have to do with each other, with their chats and with their owners."""
        for workspace, chat, ids in self._ask("find_crowded_chats", RUN_PAGE):
            what = f"chat {chat} in {workspace} has {len(ids)} active runs: {', '.join(ids)}"
            yield Problem("slot", what)
        for message, run_id in self._ask("find_stray_messages", RUN_PAGE):
            yield Problem("stray", f"message {message} is of run {run_id}, which is not there")
        for run_id, position in self._ask("find_stray_steps", RUN_PAGE):
            yield Problem("step", f"step {position} has a result, and its log does not say so", run_id)
        for workspace, chat, following, number, positions, first, last in self._ask(
            "find_gapped_chats", RUN_PAGE
        ):
            has = f"{number} messages at {positions} positions from {first} to {last}"
            yield Problem("position", f"chat {chat} in {workspace} has {has}, the next is to be {following}")
        for run_id, position in self._ask("find_misplaced_runs", RUN_PAGE):
            what = f"no question of its own is at its position {position} in the chat"
            yield Problem("position", what, run_id)
        limits = {"sweep": allowance.sweep_seconds, "adopt": allowance.adopt_seconds}
        for run_id, status, owner, dead, seconds, allowed in self._ask("find_stuck_runs", RUN_PAGE, **limits):
            end = "dead" if dead else "expired"
            what = f"it is {status}, and its owner {owner} {end} for {seconds:.1f} s (allowed: {allowed:g} s)"
            yield Problem("stuck", what, run_id)

    def _review_runs(self, on_run: Callable[[Counts], None]) -> Iterator[Problem]:
        """Each run beside its log: two streams in one order."""
        log = self._ask("read_events", EVENT_PAGE)
        event = self._next_event(log)
        for row in self._ask("read_runs", RUN_PAGE):
            run = self._read_run(row)
            self.counts.runs += 1
            on_run(self.counts)
            while event is not None and event.run_id < run.id:
                event, stray = self._skip_log(log, event)
                yield stray
            review = Review(run)
            while event is not None and event.run_id == run.id:
                review.add(event)
                event = self._next_event(log)
            yield from review.finish()
        while event is not None:
            event, stray = self._skip_log(log, event)
            yield stray

    def _read_run(self, row: tuple[Any, ...]) -> RunRow:
        run_id, position, first_seq, *rest = row
        columns = dict(zip(_FOLDED, rest, strict=False))
        pruned, message_id, *stored = rest[len(_FOLDED) :]
        if message_id is None:
            return RunRow(run_id, position, first_seq, pruned, columns, None)
        message = MessageRow(*stored)
        if message.truncated:
            found = self._connection.execute(SQL["read_parts"], {"message_id": message_id}).fetchone()
            message = attrs.evolve(message, parts=found[0] if found else None)
        return RunRow(run_id, position, first_seq, pruned, columns, message)

    def _next_event(self, log: Iterator[tuple[Any, ...]]) -> LogRow | None:
        row = next(log, None)
        if row is None:
            return None
        self.counts.events += 1
        return LogRow(*row)

    def _skip_log(self, log: Iterator[tuple[Any, ...]], first: LogRow) -> tuple[LogRow | None, Problem]:
        """The first event behind a log that is no run's, and what is wrong."""
        number, event = 1, self._next_event(log)
        while event is not None and event.run_id == first.run_id:
            number, event = number + 1, self._next_event(log)
        return event, Problem("stray", f"{number} events are of run {first.run_id}, which is not there")


@contextmanager
def open_snapshot(dsn: str, *, workspace: str | None = None) -> Iterator[Snapshot]:
    """A snapshot of the database, of one workspace or of all. Raises DatabaseLost, SchemaRefused."""
    try:
        with psycopg.connect(
            dsn,
            connect_timeout=CONNECT_SECONDS,
            application_name="outlived fsck",
            client_encoding="UTF8",
            prepare_threshold=None,
        ) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            _check_schema(connection)
            yield Snapshot(connection, workspace)
    except psycopg.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatabaseLost(f"cannot read the database: {reason}") from error


def _check_schema(connection: psycopg.Connection[Any]) -> None:
    there = connection.execute(SQL["is_there"]).fetchone()
    if there is None or not there[0]:
        raise SchemaRefused("cannot check this database: no daemon was ever here")
    found = connection.execute(MIGRATIONS_SQL["read_version"]).fetchone()
    version, min_reader = found or (0, 0)
    check_readable(version, min_reader)
    if version < NEWEST:
        raise SchemaRefused(
            f"cannot check this database: its schema is version {version}, this program checks version {NEWEST}; "
            "a daemon of this program brings it up to date when it starts"
        )
