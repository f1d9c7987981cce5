"""What the command line's suite shares: one daemon for the session, and somebody who sits in front of it."""

import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.daemon import FAST, Daemon
from tests.support.homes import end_cleanly, make_home
from tests.support.postgres import Postgres
from tests.support.terminal import Terminal

CONFIG = (
    FAST
    + """
[agents.outspoken]
kind = "python"
target = "outspoken:speak"
description = "Says everything once"
"""
)


@pytest.fixture(scope="session")
def shared_daemon(postgres: Postgres, short_dir: Path) -> Iterator[Daemon]:
    """One daemon for the suite; nothing went wrong inside it."""
    daemon = Daemon(make_home(short_dir), database=postgres.create_database(), config=CONFIG).start()
    yield daemon
    end_cleanly(daemon)


@pytest.fixture
def sit_at(short_dir: Path) -> Callable[..., CommandLine]:
    """A command line for a daemon, with a home of its own and ``outlive`` on its PATH."""

    def sit(daemon: Daemon | None = None, **environment: str) -> CommandLine:
        home = Path(tempfile.mkdtemp(prefix="h-", dir=short_dir))
        if daemon is not None:
            environment["OUTLIVE_SOCKET"] = str(daemon.socket)
        line = CommandLine(home, TERM="xterm-256color", TZ="UTC", **environment)
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            if name not in environment:
                line.environment.pop(name, None)
        program = home / "bin" / "outlive"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.join(line.argv)} "$@"\n', "utf-8")
        program.chmod(0o755)
        line.environment["PATH"] = f"{program.parent}:{line.environment['PATH']}"
        return line

    return sit


@pytest.fixture
def alone(sit_at: Callable[..., CommandLine]) -> Iterator[CommandLine]:
    """A command line with no daemon yet, which starts the real one; it is stopped at the end."""
    line = sit_at(OUTLIVE_NO_AUTOSTART="", PYTHONWARNINGS="default")
    yield line
    if line.socket.exists():
        assert line.run("daemon", "stop").returncode == 0


@pytest.fixture
def outlive(shared_daemon: Daemon, sit_at: Callable[..., CommandLine]) -> CommandLine:
    """The command line, at the suite's daemon."""
    return sit_at(shared_daemon)


@pytest.fixture
def open_terminal(outlive: CommandLine) -> Iterator[Callable[..., Terminal]]:
    """Start ``outlive`` with these arguments in a pseudo-terminal; it is closed at the end."""
    opened: list[Terminal] = []

    def open_one(*arguments: str, columns: int = 80, rows: int = 24, **environment: str) -> Terminal:
        opened.append(
            Terminal([*outlive.argv, *arguments], {**outlive.environment, **environment}, columns, rows)
        )
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.__exit__()
