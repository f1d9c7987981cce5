"""Orders to drain without ending: what ``server/drain`` asks for.

1. From the order on no run is started; those that are there end as at a SIGTERM, with the grace that the order gives.
2. The daemon stays: it answers, tails and lists until it is stopped. There is no way back but a restart.
3. A later order takes the place of an earlier one, so that less time may be given. A signal takes the place of both.

Not here: the drain itself (``drain.py``), who waits for orders (``chores/drainer.py``), who may give them
(``server/methods/drain.py``).
"""

from __future__ import annotations

import attrs

from outlived.bell import Bell


@attrs.define(eq=False)
class Orders:
    """The last order. ``grace_seconds`` None: as configured."""

    grace_seconds: float | None = None
    bell: Bell = attrs.Factory(Bell)

    def give(self, grace_seconds: float | None) -> None:
        """Order a drain."""
        self.grace_seconds = grace_seconds
        self.bell.ring()
