"""The daemon's ears: the signals that ask it for an end, or to read its settings again.

A leaf. 1. The first SIGTERM or SIGINT ends the start, or the serving; every further one means faster. 2. SIGHUP asks for no
end. 3. The service manager hears of the end at its beginning.

Not here: what the end is (``house.py``, ``supervisor/drain.py``), reading again (``chores/reloader.py``).
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable

import attrs
import structlog
import trio

from outlived.bell import Bell
from outlived.settings import Settings
from outlived.systemd import Manager, make_status

log = structlog.get_logger("outlived")


@attrs.define(eq=False)
class Ears:
    """What was heard. ``reload`` is rung by SIGHUP; ``read``: how to read the settings again."""

    manager: Manager
    read: Callable[[], Settings]
    opening: trio.CancelScope = attrs.Factory(trio.CancelScope)
    serving: bool = False
    told: trio.Event = attrs.Factory(trio.Event)
    hurry: trio.Event = attrs.Factory(trio.Event)
    reload: Bell = attrs.Factory(Bell)

    async def listen(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                self.reload.ring()
                continue
            if self.told.is_set():
                log.warning("told again to stop", signal=name)
                self.hurry.set()
                continue
            log.info("stopping", signal=name)
            self.told.set()
            if not self.serving:
                self.opening.cancel()

    async def announce(self) -> None:
        """Tell the manager of the end, and ask it for the time that it takes: its bounds are our own."""
        await self.told.wait()
        with self.manager.taking_time():
            await self.manager.tell("STOPPING=1", make_status("stopping"))
            await trio.sleep_forever()
