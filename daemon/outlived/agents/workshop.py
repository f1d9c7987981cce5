"""The workshop: what every command needs of the place where it is run.

Opened by the house, handed to agents by their desk. Parts, no behaviour.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs

from outlived.agents.watch import SpoolWatch
from outlived.containment import Containment

OnFull = Literal["slow", "fail"]


@attrs.frozen
class Workshop:
    """``spools``: the directory of all spools. ``max_spool_bytes``: of a run, said and not yet durable; ``on_full``:
    what becomes of a command that says more.
    """

    spools: Path
    watch: SpoolWatch
    containment: Containment
    max_spool_bytes: int
    on_full: OnFull
