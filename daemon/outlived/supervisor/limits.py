"""Limits of time: a run that takes too long, or whose agent does nothing for too long, is cancelled.

Theory of operation. Beside the agent of a run that has such a limit there is an actor that sleeps until the limit can
have been reached, looks, and sleeps again. It cancels as a stop does; what that means is judged as ever.

1. Every kind of agent is watched alike. A run without such limits has no actor, and its desk leads straight to the
   journal.
2. What counts as doing something is said in ``pulse.py``.
3. Time is that of this machine's work: what it sleeps does not count.

Not here: memory and processes (``containment.py``), when a limit is reached (``rules/limits.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import trio

from outlived.rules.limits import NO_LIMITS, Limits, look, read_error
from outlived.settings import Settings
from outlived.supervisor import Supervisor
from outlived.supervisor.pulse import Pulse
from outlived.supervisor.registry import Active

log = structlog.get_logger("outlived.limits")


def read_limits(settings: Settings, agent: str | None) -> Limits:
    """The limits of a run: its agent's own, else those of every run; an ad-hoc command has the latter."""
    found, run = settings.agents.get(agent or ""), settings.run
    if found is None:
        if not run.wall_seconds and not run.idle_seconds:
            return NO_LIMITS
        return Limits(run.wall_seconds or None, run.idle_seconds or None)
    wall = run.wall_seconds if found.wall_seconds is None else found.wall_seconds
    idle = run.idle_seconds if found.idle_seconds is None else found.idle_seconds
    return Limits(wall or None, idle or None, found.memory_bytes, found.max_pids)


def set_limits(
    supervisor: Supervisor, active: Active, agent: str | None, *, elapsed_seconds: float = 0.0
) -> None:
    """Give the run its limits, before its desk is opened. ``elapsed_seconds``: what this attempt took elsewhere."""
    active.limits, active.elapsed_seconds = read_limits(supervisor.settings, agent), elapsed_seconds
    if active.limits.idle_seconds is not None:
        active.pulse = Pulse(supervisor.journal)


@contextmanager
def within_limits(supervisor: Supervisor, active: Active) -> Iterator[None]:
    """Watch as long as the agent performs."""
    if active.limits.wall_seconds is None and active.limits.idle_seconds is None:
        yield
        return
    scope = trio.CancelScope()
    began = trio.current_time() - active.elapsed_seconds
    if active.pulse is not None:
        active.pulse.beat()
    name = f"limits of run {active.run_id}"
    supervisor.nursery.start_soon(_watch, active, began, scope, name=name)
    try:
        yield
    finally:
        scope.cancel()


async def _watch(active: Active, began: float, scope: trio.CancelScope) -> None:
    with scope:
        limit: str | None = None
        while limit is None:
            silent = 0.0 if active.pulse is None else active.pulse.silent_seconds
            limit, seconds = look(active.limits, elapsed=trio.current_time() - began, silent=silent)
            await trio.sleep(seconds)
        log.warning("a run reached its limit", run_id=active.run_id, limit=limit)
        active.exceed(read_error(limit, active.limits))
