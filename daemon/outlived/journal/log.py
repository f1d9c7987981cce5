"""What the owner keeps in memory of each of its runs: the committed fold, and the message being written.

1. ``run`` and ``draft`` are as of the last commit; only the writer, after a commit, moves them on.
2. A log is here from the commit that made the run ours to the commit that settled it.
3. What a settled run looks like can be said from here without asking the database: whoever waited for a run of
   ours costs no query.

Not here: the queue (``writer.py``), the events themselves (the store has them, the hub shows them).
"""

from __future__ import annotations

import attrs

from outlive import wire
from outlived.journal.items import Append, RunSpec
from outlived.rules.message import Draft, read_content
from outlived.rules.run import Event, Fact, Run, Status
from outlived.store.adoption import Position

SAVE_BYTES = 256 << 10
"""A message is stored at a step's end, at the settlement, and whenever this much (or a quarter) was added to it."""

MESSAGE_STATUS: dict[Status, wire.MessageStatus] = {
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.ABORTED: "aborted",
}


@attrs.define(eq=False)
class RunLog:
    """One owned run. ``unsaved``: bytes added to the draft since the message was last stored; ``queued``: of it;
    ``turn``: emits since it last let others run.

    ``spec`` and ``position`` are known of runs that were started here. ``read``: so far the output of its command was
    read, durably.
    """

    run_id: str
    workspace: str
    chat_id: str
    message_id: str
    run: Run
    draft: Draft
    spec: RunSpec | None = None
    position: int = 0
    unsaved: int = 0
    queued: int = 0
    turn: int = 0
    growing: Append | None = None
    settling: bool = False
    broken: Exception | None = None
    read: Position | None = None

    @property
    def save_at(self) -> int:
        """So much unsaved makes a save: a growing share of what is there, for every save writes all of it."""
        return max(SAVE_BYTES, self.draft.size // 4)

    def saves(self, item: Append) -> bool:
        """Whether the item, once committed, will probably have stored the message."""
        ends = any(entry.type in {Fact.SETTLED, Fact.RELEASED, Fact.STEP_FINISHED} for entry in item.entries)
        full = self.draft.truncated and self.unsaved > 0
        return ends or full or self.unsaved + item.size >= self.save_at

    def advance(self, run: Run, events: list[Event], *, unsaved: int) -> None:
        """A commit happened."""
        self.run = run
        for event in events:
            self.draft.add(event)
        self.unsaved = unsaved

    def show_settled(self) -> tuple[wire.Run, wire.Message] | None:
        """The run and its message as the database has them since the settlement; None: it has to be asked."""
        if self.spec is None or not self.run.settled:
            return None
        run, parts = self.run, self.draft.parts
        message = wire.Message(
            id=self.message_id,
            chat_id=self.chat_id,
            run_id=self.run_id,
            position=self.position + 1,
            role="assistant",
            status=MESSAGE_STATUS[run.status],
            content=read_content(parts),
            truncated=self.draft.truncated,
            parts=parts,
            created_at=run.created_at,
            updated_at=run.updated_at,
        )
        return show_run(self.spec, self.position, run), message


def show_run(spec: RunSpec, position: int, run: Run) -> wire.Run:
    """A run as the wire shows it, without reading it back."""
    return wire.Run(
        id=spec.id,
        workspace=spec.workspace,
        chat_id=spec.chat_id,
        position=position,
        agent=spec.agent,
        command=spec.command,
        status=run.status.value,
        trigger=spec.trigger,
        created_by=spec.created_by,
        message_id=spec.message_id,
        attempt=run.attempt,
        epoch=run.epoch,
        owner=run.owner,
        step_count=run.step_count,
        first_seq=1,
        last_seq=run.last_seq,
        error=run.error,
        usage=wire.Usage(*attrs.astuple(run.usage)),
        metadata=spec.metadata,
        detached=spec.detached,
        on_owner_loss=spec.on_owner_loss,
        stop_requested_at=run.stop_requested_at,
        stop_reason=run.stop_reason,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        updated_at=run.updated_at,
    )
