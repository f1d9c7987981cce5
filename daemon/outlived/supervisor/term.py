"""Being an owner: registering, and what to do when the registration is lost.

Theory of operation. A daemon is an owner for a *term*: from its registration until it is declared dead. It
learns of its death from its heartbeat or from a fence that stays shut. Then it does not argue: every run is
cancelled at once, without grace, its processes are killed by their agents' own ladders, nothing more is
written, and only when the last run's task has ended does it register anew, under a new id. Whoever declared it
dead settles what it left.

Not here: the lease's rules (``rules/leases.py``), renewing (``chores/heartbeat.py``).
"""

from __future__ import annotations

import structlog
import trio

from outlived import __version__, processes
from outlived.identifiers import follow_clock, make_id, read_millis
from outlived.store.owners import Registration, register
from outlived.store.postgres import DatabaseLost
from outlived.supervisor import Supervisor
from outlived.supervisor.registry import Cause
from outlived.supervisor.trust import read_clock

log = structlog.get_logger("outlived.term")

RETRY_SECONDS = 1.0
STUCK_SECONDS = 60.0


async def begin_term(supervisor: Supervisor) -> None:
    """Register a new owner and let the journal write for it. Raises DatabaseLost."""
    registration = Registration(
        id=make_id(),
        home_id=supervisor.home.home_id,
        host=processes.read_host(),
        process=processes.read_own_identity(),
        socket=supervisor.home.socket,
        version=__version__,
        lease_seconds=supervisor.settings.owner.lease_seconds,
    )
    began, asked = read_clock(), read_millis()
    follow_clock(await register(supervisor.store.heartbeat, registration), asked)
    supervisor.trust.renewed(began)
    supervisor.journal.begin_term(registration.id)
    supervisor.store.notices.begin_term(registration.id)
    log.info("registered", owner=registration.id, host=registration.host, pid=registration.process.pid)


async def watch_term(supervisor: Supervisor) -> None:
    """Actor: after each loss of ownership, end everything of that term and begin the next."""
    while True:
        await supervisor.journal.lost.wait()
        log.error("ownership lost: ending every run", runs=len(supervisor.registry))
        supervisor.registry.cancel_all(Cause.LOST)
        with trio.move_on_after(STUCK_SECONDS):
            await supervisor.registry.wait_empty()
        for active in supervisor.registry:
            log.error("a run does not end although it was cancelled", run_id=active.run_id)
        await supervisor.registry.wait_empty()
        await _begin_next(supervisor)


async def _begin_next(supervisor: Supervisor) -> None:
    while True:
        try:
            return await begin_term(supervisor)
        except DatabaseLost as error:
            log.warning("cannot register yet", reason=str(error))
            await trio.sleep(RETRY_SECONDS)
