"""Other sessions of the database, and waiting for one to be blocked by another: interleavings forced, not hoped for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
import trio

T = TypeVar("T")

SECONDS = 15.0
PAUSE = 0.003


async def wait_for(condition: Callable[[], T], what: str = "", seconds: float = SECONDS) -> T:
    """Return the condition's first true value while everything else goes on; fail after ``seconds``."""
    with trio.move_on_after(seconds):
        while True:
            if value := condition():
                return value
            await trio.sleep(PAUSE)
    raise AssertionError(f"not within {seconds:g} s: {what or condition}")


class Session:
    """A session of the test's own. Whatever blocks belongs into another thread; this one only does what does not."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self.pid = self._connection.info.backend_pid

    def ask(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement; its rows."""
        cursor = self._connection.execute(sql, params or None)
        return cursor.fetchall() if cursor.description else []

    def ask_one(self, sql: str, *params: Any) -> Any:
        """The only value of the only row."""
        [[value]] = self.ask(sql, *params)
        return value

    def lock(self, sql: str, *params: Any) -> None:
        """Begin a transaction that holds what the statement locks, until ``release``."""
        if self._connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE:
            self.ask("BEGIN")
        assert self.ask(sql, *params), f"nothing to lock: {sql}"

    def release(self) -> None:
        """End the transaction: everything it did is committed, everything it locked is free."""
        self.ask("COMMIT")

    def close(self) -> None:
        self._connection.close()

    # ---- what the other sessions do

    def list_pids(self, purpose: str) -> list[int]:
        """The daemon's sessions for that purpose, on this database."""
        self.ask("SELECT pg_stat_clear_snapshot()")  # inside a transaction, each look would see the first
        rows = self.ask(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
            f"outlived {purpose}",
        )
        return [pid for (pid,) in rows]

    async def wait_gone(self, purpose: str, pid: int) -> None:
        """Wait until that session has ended."""
        await wait_for(lambda: pid not in self.list_pids(purpose), f"session {purpose} {pid} has ended")

    async def wait_blocked(self, purpose: str, *by: int) -> int:
        """Wait until that session waits for a lock, of one of these pids if any are named; its pid."""

        def is_blocked() -> int | None:
            self.ask("SELECT pg_stat_clear_snapshot()")
            rows = self.ask(
                "SELECT pid, pg_blocking_pids(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = %s AND wait_event_type = 'Lock'",
                f"outlived {purpose}",
            )
            return next((pid for pid, blockers in rows if not by or set(by) & set(blockers)), None)

        return await wait_for(is_blocked, f"session {purpose} is blocked by {by or 'any'}")


@contextmanager
def open_session(dsn: str) -> Iterator[Session]:
    """A session, closed at the end."""
    session = Session(dsn)
    try:
        yield session
    finally:
        session.close()
