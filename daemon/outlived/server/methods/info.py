"""``server/info``, ``server/owners`` and ``$/cancel_request``."""

from __future__ import annotations

import os

from outlive import wire
from outlived import __version__, processes
from outlived.agents.presets import Preset
from outlived.containment import Containment
from outlived.journal.items import MAX_DELTA_CHARS
from outlived.server.credentials import read_user
from outlived.server.methods.access import list_allowed
from outlived.server.session import LINGER_SECONDS, Call, Session
from outlived.store import owners
from outlived.supervisor.desk import MAX_DATA_BYTES
from outlived.supervisor.state import read_state


async def info(session: Session, params: wire.NoParams, call: Call) -> wire.ServerInfo:  # noqa: ARG001
    """Who answers; needs no database."""
    supervisor = session.supervisor
    caller = session.caller
    return wire.ServerInfo(
        name="outlived",
        version=__version__,
        protocol=wire.PROTOCOL_VERSION,
        instance_id=supervisor.journal.owner,
        host=processes.read_host(),
        pid=os.getpid(),
        started_at=supervisor.home.started_at,
        state=read_state(supervisor),
        limits=_list_limits(session),
        agents=_list_agents(session),
        peer=wire.PeerInfo(caller.uid, caller.gid, read_user(caller.uid)),
        workspaces=list_allowed(session),
        containment=_describe_containment(supervisor.workshop.containment),
    )


async def list_owners(session: Session, params: wire.NoParams, call: Call) -> wire.OwnerList:  # noqa: ARG001
    """Who shares this database."""
    supervisor = session.supervisor
    return wire.OwnerList(await owners.list_owners(supervisor.store.pool, supervisor.journal.owner))


def _list_agents(session: Session) -> list[wire.AgentInfo]:
    """Those that this peer may name; coding agents without a configuration only where they are found."""
    return [
        wire.AgentInfo(name, agent.kind, agent.description, in_cwd=isinstance(agent, Preset))
        for name, agent in sorted(session.supervisor.agents.items())
        if not isinstance(agent, Preset) or (session.caller.trusted and agent.is_found)
    ]


def _describe_containment(containment: Containment) -> wire.Containment:
    return wire.Containment(
        cgroups=containment.cgroups is not None,
        controllers=containment.controllers,
        kill=containment.kill,
        memory=containment.memory,
        pids=containment.pids,
    )


def _list_limits(session: Session) -> dict[str, int]:
    settings = session.supervisor.settings
    return {
        "client_line_bytes": wire.MAX_CLIENT_LINE,
        "server_line_bytes": wire.MAX_SERVER_LINE,
        "nesting": wire.MAX_NESTING,
        "requests_in_flight": wire.MAX_IN_FLIGHT,
        "subscriptions": wire.MAX_SUBSCRIPTIONS,
        "metadata_bytes": wire.MAX_METADATA_BYTES,
        "message_bytes": settings.store.max_message_bytes,
        "event_data_bytes": MAX_DATA_BYTES,
        "delta_characters": MAX_DELTA_CHARS,
        "connections": settings.server.max_connections,
        "linger_seconds": int(LINGER_SECONDS),
    }


async def cancel_request(session: Session, params: wire.CancelRequestParams, call: Call) -> wire.Empty:  # noqa: ARG001
    """Cancel a request of this connection, never a run; an id that is not in flight is ignored."""
    session.cancel_request(params.id)
    return wire.Empty()
