"""``outlive messages``: what was said in a chat, oldest first."""

from __future__ import annotations

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command
from outlive.cli.reach import reach
from outlive.cli.render import message_page
from outlive.cli.screen import Screen

_LARGEST_PAGE = 200


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(commands, "messages", act, "show a chat's messages, oldest first")
    parser.add_argument("chat", metavar="CHAT", help="the chat's id")
    parser.add_argument("--workspace", default="default", metavar="NAME", help="default: default")


async def act(options: Options, screen: Screen) -> int:
    """Show every message, page after page as they come."""
    cursor = None
    async with reach(options, screen) as client:
        while True:
            page = await client.messages(
                options.chat, workspace=options.workspace, limit=_LARGEST_PAGE, cursor=cursor
            )
            for message in page.messages:
                if options.json:
                    screen.value(message)
                else:
                    screen.line("\n".join(message_page(message, screen.paint)))
            cursor = page.next_cursor
            if cursor is None:
                return outcome.SUCCEEDED
