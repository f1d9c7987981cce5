"""Reading the command line: one parser, a subparser per command, errors in one line.

Not here: what a command does (its own file).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

from outlive.cli import outcome
from outlive.cli.screen import Screen

Options: TypeAlias = argparse.Namespace
Act: TypeAlias = Callable[[Options, Screen], Awaitable[int]]


class Parser(argparse.ArgumentParser):
    """Complains in one line and knows no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str, advice: str = "") -> NoReturn:
        sys.stderr.write(f"outlive: {message}; {advice or f'see: {self.prog} --help'}\n")
        sys.exit(outcome.USAGE)

    def list_arguments(self) -> list[argparse.Action]:
        """Every argument that was added, those of groups too."""
        return list(self._actions)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - it has no public name


def command(commands: Commands, name: str, act: Act, help: str, epilog: str | None = None) -> Parser:  # noqa: A002 - argparse's word
    """Add a command with the options that every command has."""
    parser = commands.add_parser(name, help=help, description=f"{help}.", epilog=epilog)
    parser.set_defaults(act=act)
    parser.add_argument("--json", action="store_true", help="one JSON value per line on stdout, nothing else")
    parser.add_argument("--socket", metavar="PATH", help="the daemon's socket (default: $OUTLIVE_SOCKET, …)")
    return parser


def run_argument(parser: Parser, **options: Any) -> None:
    """Add RUN, as ``find.py`` understands it."""
    parser.add_argument(
        "run", metavar="RUN", help="@last, an id, or 4 or more characters of its end or its front", **options
    )


def seconds(text: str) -> float:
    """A length of time on the command line."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


def count(text: str) -> int:
    """A positive number on the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)
