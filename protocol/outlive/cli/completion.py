"""``outlive completion``: the script that teaches a shell to complete ``outlive``.

It names this very program by its path, so that completion works from outside its virtual environment too.

Not here: what is completed (``complete.py``).
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command
from outlive.cli.screen import Screen

_SHELLS = {
    "bash": 'put into ~/.bashrc: eval "$(outlive completion bash)"',
    "zsh": 'put into ~/.zshrc, after compinit: eval "$(outlive completion zsh)"',
    "fish": "put into ~/.config/fish/config.fish: outlive completion fish | source",
}


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(
        commands,
        "completion",
        act,
        "print the script that makes a shell complete commands, runs, chats and agents",
        epilog="; ".join(f"{shell}: {advice}" for shell, advice in _SHELLS.items()) + ".",
    )
    parser.add_argument("shell", metavar="SHELL", choices=tuple(_SHELLS), help=", ".join(_SHELLS))


async def act(options: Options, screen: Screen) -> int:
    """Print one shell's script."""
    script = (Path(__file__).parent / "shells" / f"outlive.{options.shell}").read_text(encoding="utf-8")
    script = script.replace("@PROGRAM@", shlex.join(_this_program()))
    if options.json:
        screen.value({"shell": options.shell, "script": script})
    else:
        screen.text(script)
    if screen.width() is not None:
        screen.say(f"to use it, {_SHELLS[options.shell]}")
    return outcome.SUCCEEDED


def _this_program() -> list[str]:
    program = Path(sys.argv[0]).absolute()
    return [sys.executable, "-m", "outlive"] if program.name == "__main__.py" else [str(program)]
