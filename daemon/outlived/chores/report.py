"""The report: tells the service manager in a line what this daemon is at (``systemctl status``).

Not here: telling (``systemd.py``), figures (``server/methods/stats.py``).
"""

from __future__ import annotations

import trio

from outlived.supervisor import Supervisor
from outlived.supervisor.state import read_state
from outlived.systemd import Manager, make_status

LOOK_SECONDS = 1.0


async def report(supervisor: Supervisor, manager: Manager) -> None:
    """Actor: say so when it has changed."""
    if not manager.listens:
        return
    said = ""
    while True:
        now = describe(supervisor)
        if now != said and manager.tell_nowait(make_status(now)):
            said = now
        await trio.sleep(LOOK_SECONDS)


def describe(supervisor: Supervisor) -> str:
    """State, active runs, and a configuration that was refused."""
    count = len(supervisor.registry)
    runs = f"{count} run{'' if count == 1 else 's'} active"
    complaint = supervisor.complaint
    return f"{read_state(supervisor)}, {runs}" + (f"; {complaint}" if complaint else "")
