"""``outlive info``: which daemon answers, and which agents it has."""

from __future__ import annotations

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command
from outlive.cli.reach import reach
from outlive.cli.render import info_page
from outlive.cli.screen import Screen


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    command(commands, "info", act, "show which daemon answers, and which agents it has")


async def act(options: Options, screen: Screen) -> int:
    """Ask the daemon who it is."""
    async with reach(options, screen) as client:
        info = await client.info()
    if options.json:
        screen.value(info)
    else:
        screen.line("\n".join(info_page(info, str(client.path), screen.width(), screen.paint)))
    return outcome.SUCCEEDED
