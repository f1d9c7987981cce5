"""One tail on one connection: a cursor that is fed as the connection drains.

1. The reply comes first, then events, dense and in order, then exactly one ``run/tail_end``.
2. A page is read only when the connection has room for it, one subscription at a time: a connection's memory
   does not grow with its subscriptions.
3. A database that is away delays a tail, it does not end it. Events that are pruned before they were read do.

Not here: where events come from (``journal/tail.py``).
"""

from __future__ import annotations

import attrs
import structlog
import trio

from outlive import wire
from outlive.peer import encode_event, encode_notification
from outlived.journal.tail import LogPruned, Tail
from outlived.server.session import Session
from outlived.store.postgres import DatabaseLost

log = structlog.get_logger("outlived.subscription")

RETRY_SECONDS = 0.5


@attrs.define(eq=False)
class Subscription:
    """A running tail. ``upto``: a tail that does not follow ends when it has this. ``last_seq``: the run's, at its begin."""

    session: Session
    id: str
    run_id: str
    cursor: int
    upto: int | None
    last_seq: int
    holds_end: bool
    _scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    _reason: wire.TailEndReason = "settled"

    def end(self, reason: wire.TailEndReason) -> None:
        """End it early."""
        self._reason = reason
        self._scope.cancel()

    async def feed(self) -> None:
        """Deliver to the end."""
        try:
            with self._scope:
                try:
                    self._reason = await self._deliver()
                except LogPruned:
                    self._reason = "cursor_expired"
            end = wire.TailEnd(self.id, self.run_id, self._reason, self.cursor)
            self.session.outbox.add(encode_notification("run/tail_end", end))
        finally:
            self.session.subscriptions.pop(self.id, None)
            self.session.note_ended()

    async def _deliver(self) -> wire.TailEndReason:
        if self.holds_end:
            return "settled"
        supervisor = self.session.supervisor
        with supervisor.hub.watch(self.run_id) as watched:
            tail = Tail(watched, supervisor.store.reads, self.cursor)
            while True:
                seen = watched.changes
                delivered = await self._deliver_page(tail)
                if tail.settled:
                    return "settled"
                if self.upto is not None and (not delivered or self.cursor >= self.upto):
                    return "caught_up"
                if not delivered:
                    await watched.wait_change(seen)

    async def _deliver_page(self, tail: Tail) -> bool:
        """Read and queue one page; whether there was one."""
        async with self.session.turn():
            try:
                page = await tail.read()
            except DatabaseLost:
                page = None
            if page:
                self.session.outbox.add(
                    b"".join(
                        encode_event(self.id, self.run_id, event.seq, event.at, event.type, event.data)
                        for event in page
                    )
                )
                self.cursor = tail.cursor
        if page is None:
            await trio.sleep(RETRY_SECONDS)
            return True
        return bool(page)
