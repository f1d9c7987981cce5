"""``outlive drain``: the daemon starts nothing more and ends its runs, but stays.

1. Only the daemon's own user and root may order it; a daemon that drains does so until it is started again.
2. The command returns when no run of that daemon is active any more; ``--no-wait`` when the order is taken.

Not here: ending the daemon (``daemon.py``, or ``systemctl stop outlived``).
"""

from __future__ import annotations

import anyio

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command, seconds
from outlive.cli.layout import clock
from outlive.cli.reach import reach
from outlive.cli.screen import Screen
from outlive.cli.status import status
from outlive.client import Client

_LOOK_SECONDS = 0.2


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(
        commands,
        "drain",
        act,
        "have the daemon start nothing more, and wait for the end of its runs",
        "Example, for an upgrade without losing a run: outlive drain --grace 3600 && systemctl restart outlived",
    )
    parser.add_argument(
        "--grace", metavar="SECONDS", type=seconds, help="how long runs may go on (default: as configured)"
    )
    parser.add_argument("--no-wait", action="store_true", help="return when the order is taken")


async def act(options: Options, screen: Screen) -> int:
    """Order it, and wait."""
    async with reach(options, screen) as client:
        draining = await client.drain(options.grace)
        left = draining.runs_active
        if left and not options.no_wait:
            left = await _wait(client, options, screen)
    if options.json:
        screen.value({"state": draining.state, "runs_active": left})
    else:
        screen.line(
            "drained" if not left else f"draining, {left} {'run is' if left == 1 else 'runs are'} active"
        )
    return outcome.SUCCEEDED


async def _wait(client: Client, options: Options, screen: Screen) -> int:
    began, left = anyio.current_time(), 1

    def words() -> str:
        return f"draining · {left} active · {clock(anyio.current_time() - began)}"

    async def look() -> None:
        nonlocal left
        while left:
            stats = await client.stats()
            left = stats.runs_pending + stats.runs_running + stats.runs_waiting
            await anyio.sleep(_LOOK_SECONDS if left else 0)

    if options.json:
        await look()
        return left
    async with status(screen, words):
        await look()
    return left
