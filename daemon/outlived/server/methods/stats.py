"""``server/stats``: how this daemon is doing.

1. Everything is read when somebody asks, from what is there anyway; only the journal's meter and the loop's watch
   count as things happen.
2. A subscriber's lag is what is committed, as far as this daemon knows, and not yet handed to its connection.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from outlive import wire
from outlived import processes
from outlived.rules.run import Status
from outlived.server.session import Call, Session
from outlived.server.subscription import Subscription
from outlived.supervisor import Supervisor
from outlived.supervisor.state import is_degraded


async def read_stats(session: Session, params: wire.NoParams, call: Call) -> wire.ServerStats:  # noqa: ARG001
    """All figures, of one moment; needs no database."""
    supervisor = session.supervisor
    journal, meter, loop = supervisor.journal, supervisor.journal.meter, supervisor.loop
    subscriptions = [each for one in session.sessions for each in one.subscriptions.values()]
    statuses = Counter(log.run.status for log in journal.logs.values())
    started_at = datetime.fromisoformat(supervisor.home.started_at)
    since = journal.waiting_since
    return wire.ServerStats(
        uptime_seconds=max(0.0, (datetime.now(UTC) - started_at).total_seconds()),
        database="degraded" if is_degraded(supervisor) else "ok",
        rss_bytes=processes.read_resident_bytes(),
        cpu_seconds=round(time.process_time(), 3),
        connections=len(session.sessions),
        subscribers=len(subscriptions),
        subscriber_lag_events=_find_lag(supervisor, subscriptions),
        runs_pending=statuses[Status.PENDING],
        runs_running=statuses[Status.RUNNING],
        runs_waiting=statuses[Status.WAITING],
        runs_started_total=meter.started,
        runs_taken_total=meter.taken,
        runs_claimed_total=meter.claimed,
        runs_released_total=meter.released,
        runs_succeeded_total=meter.settled[Status.SUCCEEDED],
        runs_failed_total=meter.settled[Status.FAILED],
        runs_aborted_total=meter.settled[Status.ABORTED],
        events_total=meter.events,
        commits_total=meter.commits,
        commit_items_total=meter.items,
        commit_items_p50=meter.read_size(0.5),
        commit_items_p99=meter.read_size(0.99),
        commit_p50_seconds=_shorten(meter.read_seconds(0.5)),
        commit_p99_seconds=_shorten(meter.read_seconds(0.99)),
        queue_items=journal.queued_items,
        queue_bytes=journal.queued_bytes,
        queue_oldest_seconds=0.0 if since is None else round(time.monotonic() - since, 6),
        loop_busy_ratio=round(loop.read_busy(), 4),
        loop_longest_seconds=round(loop.read_longest(), 6),
        loop_blocks_total=loop.blocks,
        replaced_characters_total=meter.replaced,
    )


def _find_lag(supervisor: Supervisor, subscriptions: Iterable[Subscription]) -> int:
    """How many events the subscriber that is furthest behind has still to get, as far as we know."""
    heard = {watched.run_id: watched.last_seq for watched in supervisor.hub.list_watched()}
    logs = supervisor.journal.logs
    lag = 0
    for subscription in subscriptions:
        run_id = subscription.run_id
        ours = logs.get(run_id)
        last_seq = ours.run.last_seq if ours is not None else heard.get(run_id, 0)
        lag = max(lag, max(last_seq, subscription.last_seq) - subscription.cursor)
    return lag


def _shorten(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
