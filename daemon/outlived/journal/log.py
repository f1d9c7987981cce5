"""What the owner keeps in memory of each of its runs: the committed fold, and the message being written.

1. ``run`` and ``draft`` are as of the last commit; only the writer, after a commit, moves them on.
2. A log is here from the commit that made the run ours to the commit that settled it.

Not here: the queue (``writer.py``), the events themselves (the store has them, the hub shows them).
"""

from __future__ import annotations

import attrs

from outlived.journal.items import Append
from outlived.rules.message import Draft
from outlived.rules.run import Event, Fact, Run

SAVE_BYTES = 256 << 10
"""A message is stored at a step's end, at the settlement, and whenever this much (or a quarter) was added to it."""


@attrs.define(eq=False)
class RunLog:
    """One owned run. ``unsaved``: bytes added to the draft since the message was last stored; ``queued``: of it."""

    run_id: str
    workspace: str
    chat_id: str
    message_id: str
    run: Run
    draft: Draft
    unsaved: int = 0
    queued: int = 0
    growing: Append | None = None
    settling: bool = False
    broken: Exception | None = None

    @property
    def save_at(self) -> int:
        """So much unsaved makes a save: a growing share of what is there, for every save writes all of it."""
        return max(SAVE_BYTES, self.draft.size // 4)

    def saves(self, item: Append) -> bool:
        """Whether the item, once committed, will probably have stored the message."""
        ends = any(entry.type in {Fact.SETTLED, Fact.STEP_FINISHED} for entry in item.entries)
        return ends or self.unsaved + item.size >= self.save_at

    def advance(self, run: Run, events: list[Event], *, unsaved: int) -> None:
        """A commit happened."""
        self.run = run
        for event in events:
            self.draft.add(event)
        self.unsaved = unsaved
