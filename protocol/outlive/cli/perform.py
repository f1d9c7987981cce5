"""From a command line to an exit code.

1. Every error ends here, as one line on stderr.
2. What stands behind ``--`` is a command to run and is never read as options.
3. The first Ctrl-C ends a command in order, the second one at once.
"""

from __future__ import annotations

import contextlib
import importlib
import shlex
import signal
from collections.abc import Iterable
from types import FrameType

import anyio

from outlive.cli import outcome
from outlive.cli.arguments import Options, Parser
from outlive.cli.screen import Screen

_COMMANDS = (
    "run",
    "tail",
    "stop",
    "wait",
    "show",
    "list",
    "chats",
    "messages",
    "info",
    "describe",
    "drain",
    "daemon",
    "completion",
)


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
        screen.break_off()
        screen.say(sentence)
        return code
    except Exception as error:  # noqa: BLE001 - rule 1
        code, sentence = outcome.of_error(error)
        screen.say(sentence)
        if isinstance(
            error, OSError
        ):  # what a full disk did not take would be tried again at exit, and fail again
            with contextlib.suppress(OSError, ValueError):
                screen.abandon()
        return code


def _perform(argv: list[str], screen: Screen) -> int:
    if argv[:1] == ["__complete"]:
        from outlive.cli.complete import answer

        return answer(argv[1:], screen, parser())
    code: int = anyio.run(_act, read(argv), screen)
    return code


async def _act(options: Options, screen: Screen) -> int:
    _quit_at_the_second_interrupt()
    code: int = await options.act(options, screen)
    return code


def _quit_at_the_second_interrupt() -> None:
    """The event loop's own handler, which cancels the command, is good for one Ctrl-C only."""
    cancel = signal.getsignal(signal.SIGINT)
    if not callable(cancel):
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        cancel(number, frame)

    signal.signal(signal.SIGINT, interrupt)


def read(argv: list[str]) -> Options:
    """Return what the arguments ask for; ``command`` is what stands behind ``--``. Exits on bad ones."""
    name, behind = argv[:1], None
    if name == ["run"] and "--" in argv:
        cut = argv.index("--")
        argv, behind = argv[:cut], argv[cut + 1 :]
    whole = parser(name if name and name[0] in _COMMANDS else _COMMANDS)
    options, unknown = whole.parse_known_args(argv)
    if unknown:
        _refuse(whole, unknown, argv)
    options.command = behind
    return options


def _refuse(whole: Parser, unknown: list[str], argv: list[str]) -> None:
    name, *words = argv
    advice = f"see: outlive {name} --help" if name in _COMMANDS else ""
    if name == "run" and words[0].startswith("-"):
        advice = f"an INPUT of several words goes into quotes; {advice}"
    elif name == "run":
        advice = f"a command goes behind --: {shlex.join(['outlive', 'run', '--', *words])}"
    whole.error(f"cannot understand {' '.join(unknown)}", advice)


def parser(names: Iterable[str] = _COMMANDS) -> Parser:
    """The command line, as far as these commands are concerned."""
    whole = Parser(
        prog="outlive",
        description="Start runs that outlive their client, and come back to them.",
        epilog="To begin with: outlive run -- make test, Ctrl-C to leave, outlive list, outlive tail @last.",
    )
    whole.add_argument("--version", action="store_true", help="show the version")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for name in names:
        importlib.import_module(f"outlive.cli.{name}").add(commands)
    return whole
