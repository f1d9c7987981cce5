"""``outlive show``: everything about a run."""

from __future__ import annotations

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command, run_argument
from outlive.cli.find import find_run
from outlive.cli.reach import reach
from outlive.cli.render import run_page
from outlive.cli.screen import Screen


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    run_argument(command(commands, "show", act, "show everything about a run, and its message"))


async def act(options: Options, screen: Screen) -> int:
    """Show one run."""
    async with reach(options, screen) as client:
        found = await client.get(await find_run(client, options.run))
    assert found.run is not None, "run/get answers 404 for what is not there"
    if options.json:
        screen.value(found)
    else:
        screen.line("\n".join(run_page(found.run, found.message, screen.paint)))
    return outcome.SUCCEEDED
