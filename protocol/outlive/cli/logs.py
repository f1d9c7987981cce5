"""The log of a daemon that was started from here, and ``outlive daemon logs``.

1. In a pipe a line is as the daemon wrote it; at a terminal its fields are put in order; with ``--json`` it is one value.
2. Following goes on where another file takes the log's place, or where it was emptied.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NoReturn

import anyio

from outlive.cli import outcome
from outlive.cli.arguments import Options
from outlive.cli.layout import Paint, one_line
from outlive.cli.outcome import UsageError
from outlive.cli.screen import Screen
from outlive.errors import ParseError
from outlive.places import state_directory
from outlive.strict_json import decode

_LONGEST_END_BYTES = 1 << 20
_CHUNK_BYTES = 64 << 10
_POLL_SECONDS = 0.2
_OF_LEVEL = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "dim"}


def log_file() -> Path:
    """Where a daemon that was started from here writes its log."""
    return state_directory() / "outlived.log"


def last_lines(log: IO[bytes], count: int, since: int = 0) -> list[str]:
    """The last lines of a log, at most a mebibyte of it, and nothing before byte ``since``."""
    log.seek(max(since, log.seek(0, os.SEEK_END) - _LONGEST_END_BYTES))
    return log.read().decode(errors="replace").splitlines()[-count:]


async def logs(options: Options, screen: Screen) -> int:
    """Show the last lines of the log, and with ``--follow`` what is added to it."""
    path = log_file()
    show = _as_value(screen) if options.json else _as_text(screen)
    try:
        log = path.open("rb", buffering=0)  # another file may take its place
    except FileNotFoundError as error:
        raise UsageError(
            f"cannot show a log: there is no {path}, so no daemon was started from here; "
            "if systemd started one: journalctl -u outlived"
        ) from error
    with log:
        for line in last_lines(log, options.lines):
            show(line)
        if options.follow:
            await _follow(path, log, show)
    if screen.has_reader():
        screen.say(f"this is the end of {path}", "dim")
    return outcome.SUCCEEDED


async def _follow(path: Path, log: IO[bytes], show: Callable[[str], None]) -> NoReturn:
    held = b""
    while True:
        added = log.read(_CHUNK_BYTES)
        *lines, held = (held + added).split(b"\n")
        for line in lines:
            show(line.decode(errors="replace"))
        if len(held) > _LONGEST_END_BYTES:
            held = b""  # a line of that length is none of the daemon's
        if not added:
            await anyio.sleep(_POLL_SECONDS)
            _take_newest(path, log)


def _take_newest(path: Path, log: IO[bytes]) -> None:
    """If another file has taken the log's place, or it was emptied, begin at its front."""
    try:
        newest, ours = path.stat(), os.fstat(log.fileno())
    except FileNotFoundError:
        return
    if (newest.st_dev, newest.st_ino) != (ours.st_dev, ours.st_ino):
        with path.open("rb") as other:
            os.dup2(other.fileno(), log.fileno())
        log.seek(0)
    elif newest.st_size < log.tell():
        log.seek(0)


def _as_value(screen: Screen) -> Callable[[str], None]:
    return lambda line: screen.value(_fields(line) or line)


def _as_text(screen: Screen) -> Callable[[str], None]:
    if screen.width() is None:
        return screen.line
    return lambda line: screen.line(_readable(line, screen.paint))


def _fields(line: str) -> dict[str, Any] | None:
    try:
        value = decode(line.encode())
    except ParseError:
        return None
    return value if isinstance(value, dict) else None


def _readable(line: str, paint: Paint) -> str:
    fields = _fields(line)
    if fields is None:
        return line
    at, level, event = (str(fields.pop(name, "")) for name in ("timestamp", "level", "event"))
    story = fields.pop("exception", None)
    rest = " ".join(f"{name}={one_line(value)}" for name, value in fields.items())
    words = (
        paint(_local(at), "dim"),
        paint(f"{level:<7}", _OF_LEVEL.get(level, "")),
        event,
        paint(rest, "dim"),
    )
    return " ".join(words).rstrip() + (f"\n{story}" if story else "")


def _local(timestamp: str) -> str:
    try:
        return f"{datetime.fromisoformat(timestamp).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return timestamp
