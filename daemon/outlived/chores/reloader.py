"""The reloader: a changed configuration takes hold without a restart.

1. Agents, limits and workspaces are taken over; runs that are active keep what they began with.
2. A file that is wrong changes nothing: what was in force stays, and the log and the manager say so.
3. What only a start can change (database, state directory, socket, lease) is left as it was, and named.
4. All of it changes at once, between two turns of the loop.

Not here: reading (``settings.py``), who asks (``house.py``: SIGHUP).
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import structlog
import trio

from outlived.agents.table import open_agents
from outlived.bell import Bell
from outlived.settings import Settings, SettingsRefused
from outlived.supervisor import Supervisor
from outlived.supervisor.access import open_access
from outlived.systemd import Manager, stamp_reload

log = structlog.get_logger("outlived.reloader")

_AT_START = (
    ("server", "socket"), ("server", "socket_mode"), ("server", "socket_group"), ("store", "database"),
    ("store", "state_dir"), ("store", "max_message_bytes"), ("owner", "lease_seconds"), ("owner", "heartbeat_seconds"),
    ("run", "cgroups"),
)  # fmt: skip
"""What a reload does not change."""


async def reload_when_told(
    supervisor: Supervisor, bell: Bell, read: Callable[[], Settings], manager: Manager
) -> None:
    """Actor: read the configuration again at each ring."""
    while True:
        await bell.wait()
        await manager.tell(*stamp_reload())
        await _reload(supervisor, read)
        await manager.tell("READY=1")


async def _reload(supervisor: Supervisor, read: Callable[[], Settings]) -> None:
    try:
        settings = await trio.to_thread.run_sync(read)
        access = await trio.to_thread.run_sync(open_access, settings.workspaces)
        agents = open_agents(settings.agents, settings.run.inherit_env)
    except SettingsRefused as error:
        supervisor.complaint = f"configuration refused: {error}"
        log.error("configuration refused: what was in force stays", reason=str(error))  # noqa: TRY400 - no bug of ours
        return
    kept = keep_places(supervisor.settings, settings)
    left = [
        f"{room}.{key}" for room, key in _AT_START if _read(kept, room, key) != _read(settings, room, key)
    ]
    supervisor.settings, supervisor.agents, supervisor.access = kept, agents, access
    supervisor.workshop.max_spool_bytes = kept.run.max_spool_bytes
    supervisor.workshop.on_full = kept.run.on_full_spool
    supervisor.complaint = None
    log.info("configuration read again", agents=sorted(agents), **({"needs_restart": left} if left else {}))


def keep_places(before: Settings, after: Settings) -> Settings:
    """The new settings, with what a reload cannot change as it was."""
    kept = after
    for room, key in _AT_START:
        part = attrs.evolve(getattr(kept, room), **{key: _read(before, room, key)})
        kept = attrs.evolve(kept, **{room: part})
    return kept


def _read(settings: Settings, room: str, key: str) -> object:
    return getattr(getattr(settings, room), key)
