"""The workshop: what every command needs of the place where it is run.

Opened by the house, handed to agents by their desk. It knows the spools that are here, those of earlier daemons too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs

from outlived.agents.spool import Spool, list_spools
from outlived.agents.watch import SpoolWatch
from outlived.containment import Containment

OnFull = Literal["slow", "fail"]


@attrs.define(eq=False)
class Workshop:
    """``root``: the directory of all spools. ``max_spool_bytes``: of a run, said and not yet durable; ``on_full``:
    what becomes of a command that says more.
    """

    root: Path
    watch: SpoolWatch
    containment: Containment
    max_spool_bytes: int
    on_full: OnFull
    _spools: dict[str, set[Spool]] = attrs.Factory(dict)

    def __attrs_post_init__(self) -> None:
        for run_id, spool in list_spools(self.root):
            self._spools.setdefault(run_id, set()).add(spool)

    def add_spool(self, run_id: str, attempt: int, given: bytes) -> Spool:
        """A new spool, for a command that will read that. Raises OSError."""
        spool = Spool.at(self.root, run_id, attempt)
        spool.remove()
        self._spools.setdefault(run_id, set()).add(spool)
        spool.create(given)
        return spool

    def find_spool(self, run_id: str, attempt: int) -> Spool | None:
        """The spool of an attempt whose command was, or is, here."""
        spool = Spool.at(self.root, run_id, attempt)
        return spool if spool in self._spools.get(run_id, ()) and spool.exists() else None

    def discard(self, run_id: str) -> None:
        """Leave nothing of what a run's commands were told, and said."""
        for spool in self._spools.pop(run_id, ()):
            spool.remove()

    def list_run_ids(self) -> list[str]:
        """The runs that have a spool here."""
        return sorted(self._spools)
