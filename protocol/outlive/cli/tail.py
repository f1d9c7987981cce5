"""``outlive tail``: everything a run has said, and then what it says."""

from __future__ import annotations

from argparse import ArgumentTypeError

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command, run_argument
from outlive.cli.find import find_run
from outlive.cli.follow import follow, way_back
from outlive.cli.reach import reach
from outlive.cli.screen import Screen


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(commands, "tail", act, "show a run's output from the beginning, and then live")
    run_argument(parser)
    parser.add_argument("--after", metavar="SEQ", type=after, default=0, help="begin after this event")
    parser.add_argument("--no-follow", action="store_true", help="end with what there is now")


async def act(options: Options, screen: Screen) -> int:
    """Follow one run."""
    async with reach(options, screen) as client:
        run_id = await find_run(client, options.run)
        screen.farewell = outcome.SUCCEEDED, f"detached; return with: {way_back(options, run_id)}"
        return await follow(
            client,
            run_id,
            screen,
            options,
            after_seq=options.after,
            live=not options.no_follow,
        )


def after(text: str) -> int:
    """An event's number; 0 stands before the first."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is no event's number")
    return int(text)
