"""``server/drain``."""

from __future__ import annotations

from outlive import errors, wire
from outlived.server.session import Call, Session


async def drain_server(
    session: Session,
    params: wire.ServerDrainParams,
    call: Call,  # noqa: ARG001
) -> wire.ServerDraining:
    """Take the order and answer at once; ``server/info`` and ``server/stats`` say how far it is."""
    supervisor = session.supervisor
    if not session.caller.trusted:
        raise errors.Forbidden("cannot drain: only the daemon's own user and root may order that")
    supervisor.draining.set()
    supervisor.orders.give(params.grace_seconds)
    return wire.ServerDraining("draining", len(supervisor.registry))
