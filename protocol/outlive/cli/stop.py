"""``outlive stop``: ask a run to stop."""

from __future__ import annotations

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command, run_argument, seconds
from outlive.cli.find import find_run
from outlive.cli.outcome import UsageError
from outlive.cli.reach import reach
from outlive.cli.render import short_id
from outlive.cli.screen import Screen


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(commands, "stop", act, "ask a run to stop; its output is kept")
    run_argument(parser, nargs="?")
    parser.add_argument("--chat", metavar="ID", help="instead of RUN: the chat's active run")
    parser.add_argument("--workspace", metavar="NAME", help="of the chat (default: default)")
    parser.add_argument("--reason", metavar="TEXT", help="kept with the run")
    parser.add_argument("--wait", metavar="SECONDS", type=seconds, default=0.0, help="wait for its end")


async def act(options: Options, screen: Screen) -> int:
    """Stop, and say what came of it."""
    if (options.run is None) == (options.chat is None):
        raise UsageError("cannot tell what to stop: give either RUN or --chat ID")
    async with reach(options, screen) as client:
        stopped = await client.stop(
            None if options.run is None else await find_run(client, options.run),
            chat_id=options.chat,
            workspace=options.workspace,
            reason=options.reason,
            wait_seconds=options.wait,
        )
    if options.json:
        screen.value(stopped)
    else:
        screen.line(f"{stopped.run.id} {stopped.outcome}")
    if stopped.outcome != "stopping":
        return outcome.SUCCEEDED
    screen.say(f"the run is stopping; to wait for its end: outlive wait {short_id(stopped.run.id)}")
    return outcome.TIMED_OUT if options.wait else outcome.SUCCEEDED
