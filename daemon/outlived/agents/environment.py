"""placeholder"""

from __future__ import annotations

from collections.abc import Mapping

from outlived import processes
from outlived.agents import Assignment

_OURS = ("OUTLIVE_", "OUTLIVED_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "PG", "CREDENTIALS_DIRECTORY")


def make_environment(
    ours: Mapping[str, str], inherit: tuple[str, ...], own: Mapping[str, str], assignment: Assignment
) -> dict[str, str]:
    inherited = {name: value for name, value in ours.items() if not name.startswith(_OURS)}
    return {
        **inherited,
        **own,
        **(assignment.env or {}),
        processes.RUN_VARIABLE: assignment.run_id,
        "OUTLIVE_CHAT_ID": assignment.chat_id,
        "OUTLIVE_WORKSPACE": assignment.workspace,
        "OUTLIVE_ATTEMPT": str(assignment.attempt),
    }
