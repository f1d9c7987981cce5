"""Released runs: whoever has their agent begins their next attempt.

1. A draining daemon claims nothing, nor does one that does not trust itself.
2. An agent that could not be started here is no agent of this daemon: another one may have it.
3. An ad-hoc command belongs where it was accepted: to a daemon of the same home, or of the same user on the same
   machine. Elsewhere its directory, its programs and its rights would be others.
4. The claim is one commit that raises attempt and epoch; in the same instant the run is registered and its task
   started, as with a new one.

Not here: when to look (``chores/sweeper.py``), the claim's commit (``journal/plan.py``).
"""

from __future__ import annotations

import os

import structlog

from outlive import wire
from outlived import processes
from outlived.agents import AgentBroken
from outlived.journal.items import JournalRefused, RunSpec
from outlived.store.resume import CLAIM_LIMIT, Claimable, Place, read_claimable, read_released_agents
from outlived.supervisor import Supervisor
from outlived.supervisor.execute import launch

log = structlog.get_logger("outlived.claim")


async def claim_released(supervisor: Supervisor) -> tuple[int, bool]:
    """Claim a bounded number of released runs: how many, and whether there may be more.

    Raises DatabaseLost, OwnershipLost, QueryRefused.
    """
    if not _may_claim(supervisor):
        return 0, False
    link = supervisor.store.sweep
    wanted = await read_released_agents(link)
    if not wanted:
        return 0, False
    agents = [name for name in wanted if name is not None and _is_usable(supervisor, name)]
    place = Place(supervisor.home.home_id, os.geteuid(), processes.read_own_identity())
    found = await read_claimable(link, agents, place)
    claimed = 0
    for each in found:
        claimed += _may_claim(supervisor) and await _claim(supervisor, each)
    return claimed, len(found) >= CLAIM_LIMIT


def _may_claim(supervisor: Supervisor) -> bool:
    return supervisor.trust.holds and not supervisor.draining.is_set()


def _is_usable(supervisor: Supervisor, name: str) -> bool:
    agent = supervisor.agents.get(name)
    if agent is None:
        return False
    try:
        agent.check()
    except AgentBroken as error:
        log.warning("runs wait for an agent that cannot be started here", agent=name, reason=str(error))
        return False
    return True


async def _claim(supervisor: Supervisor, found: Claimable) -> bool:
    """Begin one run's next attempt; False if somebody else was quicker."""

    def on_commit(spec: RunSpec, run: wire.Run) -> None:
        launch(supervisor, spec, run)

    try:
        run = await supervisor.journal.claim(specify(found), found.run, on_commit)
    except JournalRefused as error:
        log.warning("a released run cannot be claimed", run_id=found.run.id, reason=str(error))
        return False
    if run is not None:
        log.warning("run resumed", run_id=run.id, attempt=run.attempt)
    return run is not None


def specify(found: Claimable) -> RunSpec:
    """What was asked for, as when it was asked."""
    run = found.run
    return RunSpec(
        id=run.id,
        message_id=run.message_id,
        user_message_id=found.user_message_id,
        workspace=run.workspace,
        chat_id=run.chat_id,
        agent=run.agent,
        command=run.command,
        input=found.input,
        trigger=run.trigger,
        on_active="reject",
        created_by=run.created_by,
        peer_uid=found.peer_uid,
        metadata=run.metadata,
        detached=run.detached,
        on_owner_loss=run.on_owner_loss,
        key=None,
        digest=None,
        cwd=found.cwd,
        env=found.env,
    )
