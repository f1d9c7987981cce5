"""Whether this owner still believes in itself. The rule is ``leases.trusts_itself``; here is its clock.

CLOCK_BOOTTIME counts the time a laptop sleeps: after waking, an owner whose lease may have run out knows it. Where there
is nobody who could have taken anything meanwhile - a personal daemon with its own Postgres - sleep ends no run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from outlived.rules.leases import trusts_itself


def read_clock() -> float:
    """Seconds, including those suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@attrs.define(eq=False)
class Trust:
    """``database_down``: asks whether our own embedded Postgres is known to be down. ``alone``: the database is ours
    alone, and at the last sweep nobody else was registered there.
    """

    lease_seconds: float
    database_down: Callable[[], bool]
    alone: bool = False
    _renewal_began: float = attrs.Factory(read_clock)

    def renewed(self, began: float) -> None:
        """A renewal that began then has succeeded."""
        self._renewal_began = began

    @property
    def holds(self) -> bool:
        if self.alone or self.database_down():
            # Nobody can take anything over now, nor for a lease after the database's next start: time to renew.
            self._renewal_began = read_clock()
            return True
        return trusts_itself(
            renewal_began=self._renewal_began,
            now=read_clock(),
            lease_seconds=self.lease_seconds,
            database_down=False,
        )
