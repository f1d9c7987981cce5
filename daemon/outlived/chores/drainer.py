"""The drainer: carries out orders to drain while the daemon goes on.

Not here: orders (``supervisor/orders.py``), the drain (``supervisor/drain.py``), the end of the daemon (``house.py``).
"""

from __future__ import annotations

from functools import partial

import structlog
import trio

from outlived.supervisor import Supervisor
from outlived.supervisor.drain import drain

log = structlog.get_logger("outlived.drainer")


async def drain_when_told(supervisor: Supervisor) -> None:
    """Actor: drain at each order; a later one takes the place of one that is being carried out."""
    await supervisor.orders.bell.wait()
    while True:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(_drain, supervisor, supervisor.orders.grace_seconds))
            await supervisor.orders.bell.wait()
            nursery.cancel_scope.cancel()


async def _drain(supervisor: Supervisor, grace_seconds: float | None) -> None:
    # This daemon stays: it can leave nothing to the next.
    if await drain(supervisor, trio.Event(), drain_seconds=grace_seconds, leave=False):
        log.info("drained: this daemon starts nothing until it is started again")
