"""The supervisor: the nursery, the abort registry, one run from claim to settle.

Theory of operation. Every run that this daemon owns is a task in one nursery and an ``Active`` in the
registry, keyed by run id; its cancel scope is the only way to end its agent from outside. A run's task is
started by the commit that made the run ours, and ends after the commit that settled it. What ends an agent is
a *cause* (a stop, a shutdown, a lost ownership); what it means is judged once, at the end, as data.

The verbs, one file each: ``start`` (the one door in), ``execute`` (one life, read like a page), ``judge``
(what an end means), ``stop``, ``adopt`` (commands that outlived their daemon), ``takeover`` (runs of dead owners),
``term`` (being an owner, and losing it), ``drain`` (the end of the daemon), ``orders`` (to drain, and to stay), ``access``
(who may use which workspace), ``past`` (what a run may know of its chat). They share a ``Supervisor``: parts, no behaviour. ``loop`` watches the loop that
all of them run on.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import trio

from outlived.agents import Agent
from outlived.agents.workshop import Workshop
from outlived.journal.hub import Hub
from outlived.journal.writer import Journal
from outlived.settings import Settings
from outlived.store import Store
from outlived.supervisor.access import Access
from outlived.supervisor.loop import LoopWatch
from outlived.supervisor.orders import Orders
from outlived.supervisor.registry import Registry
from outlived.supervisor.trust import Trust


@attrs.frozen
class Home:
    """Where this daemon lives. ``sole_owner``: its database is its own, and it holds the lock of its home."""

    home_id: str
    socket: str
    sole_owner: bool
    started_at: str


@attrs.define(eq=False)
class Supervisor:
    """The parts that the verbs of this room work with. ``nursery`` holds the runs and nothing else.

    ``settings``, ``agents`` and ``access`` are replaced, all at once, when the configuration is read again: ask for them
    when they are needed. ``complaint``: why the last reading was refused.
    """

    settings: Settings
    home: Home
    store: Store
    journal: Journal
    hub: Hub
    agents: Mapping[str, Agent]
    registry: Registry
    trust: Trust
    nursery: trio.Nursery
    workshop: Workshop
    draining: trio.Event = attrs.Factory(trio.Event)
    loop: LoopWatch = attrs.Factory(LoopWatch)
    access: Access = attrs.Factory(Access)
    orders: Orders = attrs.Factory(Orders)
    complaint: str | None = None
