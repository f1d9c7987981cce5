"""From a command line to an exit code.

1. Every error ends here, as one line on stderr.
2. What stands behind ``--`` is a command to run and is never read as options.
"""

from __future__ import annotations

import importlib

import anyio

from outlive.cli import outcome
from outlive.cli.arguments import Options, Parser
from outlive.cli.screen import Screen

_COMMANDS = ("run", "tail", "stop", "wait", "show", "list", "chats", "messages", "info", "daemon")


def perform(argv: list[str]) -> int:
    """Run one command line."""
    screen = Screen()
    try:
        return _perform(argv, screen)
    except BrokenPipeError:
        screen.abandon()
        return outcome.BROKEN_PIPE
    except KeyboardInterrupt:
        if screen.farewell is None:
            return outcome.INTERRUPTED
        code, sentence = screen.farewell
        screen.say(sentence)
        return code
    except Exception as error:  # noqa: BLE001 - rule 1
        code, sentence = outcome.of_error(error)
        screen.say(sentence)
        return code


def _perform(argv: list[str], screen: Screen) -> int:
    if argv == ["--version"]:
        from importlib.metadata import version  # late: it takes longer than everything else here

        screen.line(f"outlive {version('outlive')}")
        return outcome.SUCCEEDED
    options = read(argv)
    code: int = anyio.run(options.act, options, screen)
    return code


def read(argv: list[str]) -> Options:
    """Return what the arguments ask for; ``command`` is what stands behind ``--``. Exits on bad ones."""
    behind = None
    if argv[:1] == ["run"] and "--" in argv:
        cut = argv.index("--")
        argv, behind = argv[:cut], argv[cut + 1 :]
    options = parser().parse_args(argv)
    options.command = behind
    return options


def parser() -> Parser:
    """The whole command line."""
    whole = Parser(prog="outlive", description="Start runs that outlive their client, and come back to them.")
    whole.add_argument("--version", action="store_true", help="show the version")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for name in _COMMANDS:
        importlib.import_module(f"outlive.cli.{name}").add(commands)
    return whole
