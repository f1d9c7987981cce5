"""Actors: the daemon's own long-lived tasks, supervised one by one.

1. An actor that fails is logged with its traceback and started again, with back-off; its neighbours notice
   nothing. An actor that returns is done.
2. An actor whose failure means that the daemon must not go on says so by raising ``DaemonBroken``.

Not here: what actors do (``chores``, ``journal``, ``server``), runs (``execute.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

log = structlog.get_logger("outlived.actors")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
STABLE_SECONDS = 30.0


class DaemonBroken(Exception):
    """The daemon cannot go on; the message says why."""


async def keep(name: str, body: Callable[[], Awaitable[None]]) -> None:
    """Run an actor for ever, starting it again after a failure."""
    pause = FIRST_PAUSE
    while True:
        began = trio.current_time()
        try:
            await body()
        except DaemonBroken:
            raise
        except Exception as error:
            if isinstance(error, ExceptionGroup) and error.subgroup(DaemonBroken) is not None:
                raise
            if trio.current_time() - began > STABLE_SECONDS:
                pause = FIRST_PAUSE
            log.exception("actor failed; starting it again", actor=name, pause_seconds=pause)
            await trio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            return


async def keep_or_break(name: str, body: Callable[[], Awaitable[None]]) -> None:
    """Run an actor without which nothing can go on: its failure ends the daemon."""
    try:
        await body()
    except Exception as error:
        log.exception("actor failed; the daemon cannot go on", actor=name)
        raise DaemonBroken(f"cannot go on without the {name}: {type(error).__name__}: {error}") from error
