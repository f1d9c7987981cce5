"""``outlive list``: runs, newest first."""

from __future__ import annotations

from typing import get_args

from outlive import wire
from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command, count
from outlive.cli.reach import reach
from outlive.cli.render import runs_table
from outlive.cli.screen import Screen

_LARGEST_PAGE = 200


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(commands, "list", act, "list runs, newest first")
    parser.add_argument("--chat", metavar="ID", help="only of this chat")
    parser.add_argument("--workspace", metavar="NAME", help="only of this workspace")
    parser.add_argument("--agent", metavar="NAME", help="only of this agent")
    parser.add_argument("--status", action="append", choices=get_args(wire.Status), help="repeatable")
    parser.add_argument("--limit", metavar="N", type=count, default=20, help="default: 20")


async def act(options: Options, screen: Screen) -> int:
    """List runs, page after page up to the limit."""
    runs: list[wire.Run] = []
    cursor = None
    async with reach(options, screen) as client:
        while len(runs) < options.limit:
            page = await client.list_runs(
                workspace=options.workspace,
                chat_id=options.chat,
                status=options.status,
                agent=options.agent,
                limit=min(options.limit - len(runs), _LARGEST_PAGE),
                cursor=cursor,
            )
            runs += page.runs
            cursor = page.next_cursor
            if cursor is None:
                break
    if options.json:
        for run in runs:
            screen.value(run)
    else:
        for line in runs_table(runs, screen.width(), screen.paint):
            screen.line(line)
        if screen.has_reader():
            _hint(screen, options, runs, more=cursor is not None)
    return outcome.SUCCEEDED


def _hint(screen: Screen, options: Options, runs: list[wire.Run], *, more: bool) -> None:
    filtered = options.chat or options.workspace or options.agent or options.status
    if not runs:
        screen.say("no such runs" if filtered else "no runs yet; start one with: outlive run -- CMD …", "dim")
    elif more:
        screen.say(f"there are more; see: outlive list --limit {10 * options.limit}", "dim")
