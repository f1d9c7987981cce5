"""A client for a command, with a terminal to complain to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from outlive.cli.arguments import Options
from outlive.cli.outcome import UsageError
from outlive.cli.screen import Screen
from outlive.client import Client, connect
from outlive.places import socket_path

PATIENCE_SECONDS = 60.0


def reach(options: Options, screen: Screen) -> AbstractAsyncContextManager[Client]:
    """Connect as the options say; a lost daemon is waited for, and said so. Raises Unreachable, UsageError."""
    return connect(place(options), patience=PATIENCE_SECONDS, notice=_without_repetition(screen.say))


def place(options: Options) -> Path:
    """Where the daemon's socket is. Raises UsageError."""
    try:
        return socket_path(options.socket)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _without_repetition(say: Callable[[str], None]) -> Callable[[str], None]:
    """Several calls lose one daemon: once is enough to say so."""
    last = ""

    def notice(sentence: str) -> None:
        nonlocal last
        if sentence != last:
            last = sentence
            say(sentence)

    return notice
