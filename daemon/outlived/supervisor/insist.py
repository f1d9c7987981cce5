"""Doing what has to be done with runs of ours, however long the database is away.

Not here: writing (the journal insists by itself).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from outlived.journal.items import OwnershipLost
from outlived.store.postgres import DatabaseLost
from outlived.supervisor import Supervisor

RETRY_SECONDS = 1.0

T = TypeVar("T")


async def insist(supervisor: Supervisor, work: Callable[[], Awaitable[T]]) -> T:
    """Do it until the database answers, as long as this owner lives. Raises OwnershipLost, QueryRefused."""
    while True:
        try:
            return await work()
        except DatabaseLost:
            if supervisor.journal.lost.is_set():
                raise OwnershipLost("cannot go on with runs of ours: this owner is dead itself") from None
            await trio.sleep(RETRY_SECONDS)
