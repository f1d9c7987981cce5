"""``outlive chats``: chats, most recently active first."""

from __future__ import annotations

from outlive import wire
from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command, count
from outlive.cli.reach import reach
from outlive.cli.render import chats_table
from outlive.cli.screen import Screen

_LARGEST_PAGE = 200


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(commands, "chats", act, "list chats, most recently active first")
    parser.add_argument("--workspace", metavar="NAME", help="only of this workspace")
    parser.add_argument("--limit", metavar="N", type=count, default=20, help="default: 20")


async def act(options: Options, screen: Screen) -> int:
    """List chats, page after page up to the limit."""
    chats: list[wire.Chat] = []
    cursor = None
    async with reach(options, screen) as client:
        while len(chats) < options.limit:
            limit = min(options.limit - len(chats), _LARGEST_PAGE)
            page = await client.list_chats(workspace=options.workspace, limit=limit, cursor=cursor)
            chats += page.chats
            cursor = page.next_cursor
            if cursor is None:
                break
    if options.json:
        for chat in chats:
            screen.value(chat)
    else:
        for line in chats_table(chats, screen.width(), screen.paint):
            screen.line(line)
    return outcome.SUCCEEDED
