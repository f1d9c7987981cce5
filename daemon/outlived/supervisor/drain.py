"""The end of the daemon, as far as runs go: take no more, wait, end the rest, name what is left.

1. From the first moment no run is started. Commands that may be left to the next daemon (``[run] on_stop = "leave"``)
   are, at once: they go on, and are written down for whoever asks meanwhile. Other runs that are there have ``drain_seconds`` to end by themselves.
2. Then they are cancelled (``shutdown``) and have their grace; told twice, the daemon waits for nothing (``forced``).
   Those that may be resumed are released: they go on at another daemon, or at this one's next start.
3. Once the last agent has ended, the settlements have a deadline of their own. One that the database does not take
   until then stays unwritten: its run stays active, the log names it, and the daemon ends with status 1. The next
   owner settles it.

Not here: closing doors, stopping Postgres (``house.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from outlived.agents.command import wait_any
from outlived.supervisor import Supervisor
from outlived.supervisor.registry import Cause

log = structlog.get_logger("outlived.drain")

SETTLE_SECONDS = 10.0
KILL_SECONDS = 15.0


async def drain(
    supervisor: Supervisor, hurry: trio.Event, *, drain_seconds: float | None = None, leave: bool = True
) -> bool:
    """End every run; True if all of them are settled. ``hurry`` is set by a second request to stop.

    ``drain_seconds``: how long runs may go on, if not as configured. ``leave``: whether commands may be left to the next
    daemon, if they are to be.
    """
    supervisor.draining.set()
    settings = supervisor.settings.run
    seconds = settings.drain_seconds if drain_seconds is None else drain_seconds
    log.info("draining", runs=len(supervisor.registry), drain_seconds=seconds)
    registry = supervisor.registry
    if leave and settings.on_stop == "leave":
        for active in registry:
            if active.leavable:
                active.cancel(Cause.LEAVE)
    await _wait_unless(hurry, seconds, registry.wait_empty)
    if not hurry.is_set():
        registry.cancel_all(Cause.SHUTDOWN)
        await _wait_unless(hurry, settings.grace_seconds + KILL_SECONDS, registry.wait_performed)
    if hurry.is_set():
        for active in registry:
            active.force()
        with trio.move_on_after(KILL_SECONDS):
            await registry.wait_performed()
    with trio.move_on_after(SETTLE_SECONDS):
        await registry.wait_empty()
    left = [active.run_id for active in registry]
    for run_id in left:
        log.error("run left unsettled: the next daemon will settle it", run_id=run_id)
    return not left


async def _wait_unless(hurry: trio.Event, seconds: float, condition: Callable[[], Awaitable[None]]) -> None:
    """Wait for the condition, for so long, or until there is a hurry."""
    with trio.move_on_after(seconds):
        await wait_any(condition, hurry.wait)
