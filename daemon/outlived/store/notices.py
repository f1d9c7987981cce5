"""Hints from daemon to daemon, over LISTEN and NOTIFY: they save waiting, and nothing relies on them.

Theory of operation. What another daemon did is found by asking (``docs/decisions/0011``); a hint only says *ask
now*. It carries no data, it may be lost, it may come for nothing. Its channel says what it is about and of whom:

- ``stop`` to an owner: somebody wrote a stop mark into a run of yours.
- ``watch`` to an owner: somebody elsewhere follows runs of yours; give news for a while.
- ``news`` of an owner: it has committed something.

News are given only while somebody has asked for them, so that daemons nobody follows from elsewhere send nothing.

1. A hint is never part of another transaction, and has a link of its own: NOTIFY takes a lock at its commit for which
   every other one in the cluster waits.
2. What is hinted within ``PAUSE_SECONDS`` goes out together, each channel once. ``hint`` never waits.
3. Listening has a connection of its own, which is asked now and then whether it is still there. After a new
   connection everything may have been missed: all hints are taken as heard.
4. A transaction pooler has no session that could listen. That is noticed before anything is said to it, told in one
   line, and costs the hints. Sending works through it.

Not here: what is done about a hint (``chores/hints.py``, ``journal/elsewhere.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import psycopg
import structlog
import trio
from psycopg import sql

from outlived.bell import Bell
from outlived.store.postgres import DatabaseLost, Link, QueryRefused, TrioConnection, connect

log = structlog.get_logger("outlived.notices")

PAUSE_SECONDS = 0.05
CHECK_SECONDS = 10.0
ANSWER_SECONDS = 5.0
FIRST_RETRY = 0.2
LONGEST_RETRY = 5.0


class Hint(Enum):
    """What a hint is about."""

    STOP = "stop"
    WATCH = "watch"
    NEWS = "news"


Heard: TypeAlias = Callable[[Hint], None]


class CannotListen(Exception):
    """Nothing can be heard over this connection, nor over any other like it."""


def name_channel(hint: Hint, owner: str) -> str:
    return f"outlived_{hint.value}_{owner}"


class Notices:
    """The hints of one daemon: those it gives, and those it wants to hear. ``listening``: to which channels it is."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._link = Link(dsn, "hints")
        self._pending: set[str] = set()
        self._given = Bell()
        self._owner: str | None = None
        self._followed: frozenset[str] = frozenset()
        self._waiting = trio.CancelScope()
        self.listening: frozenset[str] = frozenset()

    # ---- what others of this daemon say

    def hint(self, hint: Hint, owner: str) -> None:
        """Let it be known soon, or never."""
        self._pending.add(name_channel(hint, owner))
        self._given.ring()

    def begin_term(self, owner: str) -> None:
        """Hear what is for this owner, instead of the last one."""
        self._owner = owner
        self._waiting.cancel()

    def follow(self, owners: frozenset[str]) -> None:
        """Hear the news of these owners, and of no others."""
        if owners != self._followed:
            self._followed = owners
            self._waiting.cancel()

    def close(self) -> None:
        self._link.close()

    # ---- the actors

    async def send(self) -> None:
        """Actor: send what is hinted."""
        complained = False
        while True:
            await self._given.wait()
            channels, self._pending = sorted(self._pending), set()
            try:
                await self._link.query(
                    "SELECT pg_notify(channel, '') FROM unnest(%(channels)s::text[]) AS channel",
                    {"channels": channels},
                    ANSWER_SECONDS,
                )
            except (DatabaseLost, QueryRefused) as error:
                if isinstance(error, QueryRefused) and not complained:
                    log.warning("cannot give hints to other daemons: they poll", reason=str(error))
                    complained = True
            await trio.sleep(PAUSE_SECONDS)

    async def listen(self, heard: Heard) -> None:
        """Actor: tell ``heard`` of every hint. Returns only where listening is impossible."""
        retry = FIRST_RETRY
        while True:
            began = trio.current_time()
            try:
                await self._listen_once(heard)
            except CannotListen as error:
                log.info("hints of other daemons cannot be heard here; polling instead", reason=str(error))
                return
            except DatabaseLost:
                pass  # the heartbeat says so
            except (psycopg.Error, OSError, trio.TooSlowError) as error:
                log.info("no longer listening for hints; connecting again", reason=_one_line(error))
            stable = trio.current_time() - began > CHECK_SECONDS
            retry = FIRST_RETRY if stable else min(2 * retry, LONGEST_RETRY)
            await trio.sleep(retry)

    async def _listen_once(self, heard: Heard) -> None:
        """Until the connection ends. Raises CannotListen, DatabaseLost, psycopg.Error, OSError, TooSlowError."""
        connection = await connect(self._dsn, "listen")
        try:
            connection.add_notify_handler(lambda notify: heard(_read_hint(notify.channel)))
            if not connection.direct:
                raise CannotListen("a connection pooler stands before the database")
            while True:
                while (wanted := self._list_wanted()) != self.listening:
                    await self._tune(connection, wanted, heard)
                self._waiting = trio.CancelScope(relative_deadline=CHECK_SECONDS)
                with self._waiting:
                    await trio.lowlevel.wait_readable(connection.pgconn.socket)
                connection.pgconn.consume_input()
                while (notify := connection.pgconn.notifies()) is not None:
                    heard(_read_hint(notify.relname.decode()))
                if self._waiting.cancelled_caught:
                    await _ask(connection, sql.SQL("SELECT 1"))
        finally:
            self.listening = frozenset()
            connection.pgconn.finish()

    def _list_wanted(self) -> frozenset[str]:
        wanted = {name_channel(Hint.NEWS, owner) for owner in self._followed}
        if self._owner is not None:
            wanted |= {name_channel(hint, self._owner) for hint in (Hint.STOP, Hint.WATCH)}
        return frozenset(wanted)

    async def _tune(self, connection: TrioConnection, wanted: frozenset[str], heard: Heard) -> None:
        """Listen first, then let everything be looked at: what was said before is lost."""
        added, removed = sorted(wanted - self.listening), sorted(self.listening - wanted)
        try:
            for channel in removed:
                await _ask(connection, sql.SQL("UNLISTEN {}").format(sql.Identifier(channel)))
            for channel in added:
                await _ask(connection, sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:  # some databases that speak like Postgres cannot
            raise CannotListen(_one_line(error)) from error
        self.listening = wanted
        for channel in added:
            heard(_read_hint(channel))


async def _ask(connection: TrioConnection, statement: sql.SQL | sql.Composed) -> list[tuple[object, ...]]:
    with trio.fail_after(ANSWER_SECONDS):
        cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


def _read_hint(channel: str) -> Hint:
    return Hint(channel.split("_")[1])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
