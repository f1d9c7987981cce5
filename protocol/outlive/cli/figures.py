"""A daemon's figures for a person who glances at them.

1. What is at rest is not mentioned: no empty queue, no lag of nobody, no kind of run of which there is none.
2. Every figure has its unit in words, and what asks for attention its colour.

Not here: the figures (``wire.ServerStats``), sheets (``layout.py``); ``--json``, which shows all of them.
"""

from __future__ import annotations

from outlive.cli.layout import Paint, brief, plain, sheet, size, span
from outlive.wire import ServerStats


def figures(stats: ServerStats, paint: Paint = plain) -> list[str]:
    """How the daemon is doing, a line for each of its parts."""
    return sheet(
        {
            "runs now": _list(_runs_now(stats)) or "none",
            "runs so far": _runs_so_far(stats),
            "database": stats.database,
            "commits": _commits(stats),
            "queue": _queue(stats),
            "clients": _clients(stats),
            "loop": _loop(stats),
            "memory": f"{size(stats.rss_bytes)} (CPU time {span(stats.cpu_seconds)})",
            "replaced": _replaced(stats),
        },
        paint=paint,
        styles={
            "database": "" if stats.database == "ok" else "yellow",
            "loop": "yellow" if stats.loop_blocks_total else "",
        },
    )


def _runs_now(stats: ServerStats) -> dict[str, int]:
    return {"pending": stats.runs_pending, "running": stats.runs_running, "waiting": stats.runs_waiting}


def _runs_so_far(stats: ServerStats) -> str | None:
    kinds = {
        "started": stats.runs_started_total,
        "taken over": stats.runs_taken_total,
        "claimed": stats.runs_claimed_total,
        "released": stats.runs_released_total,
        "succeeded": stats.runs_succeeded_total,
        "failed": stats.runs_failed_total,
        "aborted": stats.runs_aborted_total,
    }
    told = _list(kinds)
    return f"{told} (in {span(stats.uptime_seconds)})" if told else None


def _commits(stats: ServerStats) -> str | None:
    if not stats.commits_total:
        return None
    told = f"{stats.commits_total:,}"
    if stats.commit_p50_seconds is not None and stats.commit_p99_seconds is not None:
        told += f"; lately {brief(stats.commit_p50_seconds)} each (p99 {brief(stats.commit_p99_seconds)})"
    if stats.commit_items_p50 is not None:
        told += f", {_count(stats.commit_items_p50, 'item')} each (p99 {stats.commit_items_p99})"
    return told


def _queue(stats: ServerStats) -> str | None:
    if stats.queue_items == 0:
        return None
    items = _count(stats.queue_items, "item")
    return f"{items}, {size(stats.queue_bytes)}; the oldest waits {brief(stats.queue_oldest_seconds)}"


def _clients(stats: ServerStats) -> str:
    told = _count(stats.connections, "connection")
    if stats.subscribers:
        told += f", {_count(stats.subscribers, 'subscriber')}"
    if stats.subscriber_lag_events:
        told += f"; the slowest is {_count(stats.subscriber_lag_events, 'event')} behind"
    return told


def _loop(stats: ServerStats) -> str:
    lately = f"{stats.loop_busy_ratio:.0%} busy, {brief(stats.loop_longest_seconds)} at the longest"
    if not stats.loop_blocks_total:
        return lately
    return f"{lately}; blocked {_count(stats.loop_blocks_total, 'time')} (the log names who)"


def _replaced(stats: ServerStats) -> str | None:
    replaced = stats.replaced_characters_total
    return f"{_count(replaced, 'character')} that cannot be stored" if replaced else None


def _list(kinds: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in kinds.items() if number)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
