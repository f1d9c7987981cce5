"""What a run may know of what was before it in its chat, for agents that ask.

1. Only an agent that asks costs a query, and none the first run of a chat.
2. It is asked for however long the database is away: an agent that begins without its history would answer nonsense.
3. A session is kept in the run's own order of commits, so only by its owner. An ad-hoc command has none.

Not here: what a program makes of its session (``agents/formats``, ``agents/acp.py``).
"""

from __future__ import annotations

from functools import partial

import attrs
import msgspec

from outlive import wire
from outlived import processes
from outlived.agents import Session
from outlived.store.past import NewSession, read_history, read_last_finished_step, read_session
from outlived.supervisor import Supervisor
from outlived.supervisor.insist import insist


@attrs.frozen(eq=False)
class Past:
    """The past of one run."""

    supervisor: Supervisor
    run: wire.Run

    async def read_history(self) -> list[wire.Message]:
        """The chat's messages before this run's own. Raises OwnershipLost."""
        run, pool = self.run, self.supervisor.store.pool
        if run.position <= 1:
            return []
        return await insist(
            self.supervisor, partial(read_history, pool, run.workspace, run.chat_id, run.position)
        )

    async def read_first_step(self) -> int:
        """The number of the first step that this attempt may begin. Raises OwnershipLost."""
        if self.run.attempt == 1:
            return 1
        read = partial(read_last_finished_step, self.supervisor.store.pool, self.run.id)
        return 1 + await insist(self.supervisor, read)

    async def read_session(self) -> Session | None:
        """The session that the agent's program has for this chat here. Raises OwnershipLost."""
        run, pool = self.run, self.supervisor.store.pool
        if run.agent is None or (run.position <= 1 and run.attempt == 1):
            return None
        host = processes.read_host()
        found = await insist(
            self.supervisor, partial(read_session, pool, run.workspace, run.chat_id, run.agent, host)
        )
        return None if found is None else Session(*found)

    def keep_session(self, session: Session | None) -> None:
        """Keep it for the chat's next turn, or forget the one that was kept. Raises OwnershipLost."""
        run = self.run
        if run.agent is None:
            return
        note = msgspec.json.encode({} if session is None else session.note).decode()
        kept = None if session is None else session.id
        host = processes.read_host()
        new = NewSession(run.workspace, run.chat_id, run.agent, host, kept, note, run.id)
        self.supervisor.journal.keep_session(run.id, new)
