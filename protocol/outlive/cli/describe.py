"""``outlive describe``: the contract that the daemon serves, as JSON Schema."""

from __future__ import annotations

import msgspec

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command
from outlive.cli.reach import reach
from outlive.cli.screen import Screen


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(
        commands,
        "describe",
        act,
        "print the contract that the daemon serves, as JSON Schema",
        "Example: run/start",
    )
    parser.add_argument("method", metavar="METHOD", nargs="?", help="only this one (run/start, …)")


async def act(options: Options, screen: Screen) -> int:
    """Ask the daemon what it serves."""
    async with reach(options, screen) as client:
        described = await client.describe(options.method)
    if options.json:
        screen.value(described)
    else:
        screen.line(msgspec.json.format(msgspec.json.encode(described), indent=2).decode())
    return outcome.SUCCEEDED
