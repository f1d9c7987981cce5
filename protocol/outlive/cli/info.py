"""``outlive info``: which daemon answers, its agents, and how it is doing; or which daemons share its database."""

from __future__ import annotations

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command
from outlive.cli.figures import figures
from outlive.cli.left import describe_left, left_runs
from outlive.cli.reach import reach
from outlive.cli.render import info_page, owners_table
from outlive.cli.screen import Screen
from outlive.client import Client
from outlive.connection import Unreachable
from outlive.errors import MethodNotFound


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(
        commands,
        "info",
        act,
        "show which daemon answers, which agents it has, and how it is doing",
        "Example: watch outlive info --stats",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--stats", action="store_true", help="only how it is doing: the daemon's figures")
    only.add_argument("--owners", action="store_true", help="show the daemons that share its database")


async def act(options: Options, screen: Screen) -> int:
    """Ask the daemon who it is, how it is, or who else there is."""
    if options.owners:
        return await _show_owners(options, screen)
    try:
        return await _show_daemon(options, screen)
    except Unreachable:
        for line in describe_left(left_runs(), screen.width()):
            screen.say(line)
        raise


async def _show_daemon(options: Options, screen: Screen) -> int:
    async with reach(options, screen) as client:
        if options.stats:
            stats = await client.stats()
            if options.json:
                screen.value(stats)
            else:
                screen.line("\n".join(figures(stats, screen.paint)))
        elif options.json:
            screen.value(await client.info())
        else:
            screen.line("\n".join(await _write_page(client, screen)))
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


async def _write_page(client: Client, screen: Screen) -> list[str]:
    page = info_page(await client.info(), str(client.path), screen.width(), screen.paint)
    try:
        stats = await client.stats()
    except MethodNotFound:
        return page  # an older daemon keeps no figures
    return [*page, "", *figures(stats, screen.paint)]
