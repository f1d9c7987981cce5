"""``outlive info``: which daemon answers, and which agents it has; or which daemons share its database."""

from __future__ import annotations

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command
from outlive.cli.reach import reach
from outlive.cli.render import info_page, owners_table
from outlive.cli.screen import Screen


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(commands, "info", act, "show which daemon answers, and which agents it has")
    parser.add_argument("--owners", action="store_true", help="show the daemons that share its database")


async def act(options: Options, screen: Screen) -> int:
    """Ask the daemon who it is, or who else there is."""
    if options.owners:
        return await _show_owners(options, screen)
    async with reach(options, screen) as client:
        info = await client.info()
    if options.json:
        screen.value(info)
    else:
        screen.line("\n".join(info_page(info, str(client.path), screen.width(), screen.paint)))
    return outcome.SUCCEEDED


async def _show_owners(options: Options, screen: Screen) -> int:
    async with reach(options, screen) as client:
        owners = await client.owners()
    if options.json:
        for owner in owners:
            screen.value(owner)
    else:
        for line in owners_table(owners, screen.width(), screen.paint):
            screen.line(line)
    return outcome.SUCCEEDED
