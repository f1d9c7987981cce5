"""``outlive run``: start an agent or a command, and follow it.

The input is the argument; ``-`` reads stdin. Without the argument, stdin is read when it is a pipe or a file, and never when it
is a terminal, a device or a socket. A pipe that stays open without an end would be waited for: then say ``''``.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from outlive import wire
from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command
from outlive.cli.autostart import reach_or_start
from outlive.cli.follow import follow, way_back
from outlive.cli.outcome import UsageError
from outlive.cli.render import short_id
from outlive.cli.screen import Screen
from outlive.client import Client
from outlive.errors import ParseError
from outlive.strict_json import decode

_HINT_SECONDS = 2.0


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(
        commands,
        "run",
        act,
        "start an agent (--agent) or a command (-- CMD …) and follow it; Ctrl-C leaves, the run goes on",
        epilog="Without INPUT, stdin is the input if it is a pipe or a file; INPUT '' means none.",
    )
    parser.usage = "outlive run [options] (--agent NAME [INPUT] | [INPUT] -- CMD [ARG …])"
    parser.add_argument("input", nargs="?", metavar="INPUT", help="the input text; - reads stdin")
    parser.add_argument("--agent", metavar="NAME", help="an agent of the daemon (see: outlive info)")
    parser.add_argument("--chat", metavar="ID", help="continue this chat (default: a new one)")
    parser.add_argument("--workspace", default="default", metavar="NAME", help="default: default")
    following = parser.add_mutually_exclusive_group()
    following.add_argument("-f", "--follow", action="store_true", help="show what it says (the default)")
    following.add_argument("-d", "--detach", action="store_true", help="print the run's id and do not follow")
    parser.add_argument("--attached", action="store_true", help="stop the run when this command ends")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="if its daemon dies or stops, begin it again with its finished steps",
    )
    parser.add_argument(
        "--on-active", choices=("reject", "join"), default="reject", help="if the chat is busy"
    )
    parser.add_argument("--key", metavar="KEY", help="an idempotency key: the same key finds the same run")
    parser.add_argument("--metadata", metavar="JSON", type=_object, help="an object kept with the run")
    parser.add_argument("--env", metavar="K[=V]", action="append", type=_variable, help="repeatable")
    parser.add_argument(
        "--cwd", metavar="DIR", help="default for commands and coding agents: the current directory"
    )
    parser.add_argument("--no-autostart", action="store_true", help="do not start a daemon if there is none")


async def act(options: Options, screen: Screen) -> int:
    """Start and follow."""
    what = _what(options)
    text = _input(options.input, screen)
    async with reach_or_start(options, screen) as client:
        if what["cwd"] is None and what["agent"] in _KNOWN and await _works_here(client, what["agent"]):
            what["cwd"] = str(Path.cwd())
        screen.farewell = outcome.INTERRUPTED, "interrupted; whether a run was started shows: outlive list"
        started = await client.start(
            **what,
            input=text,
            chat_id=options.chat,
            workspace=options.workspace,
            on_active=options.on_active,
            idempotency_key=options.key,
            detached=not options.attached,
            on_owner_loss="resume" if options.resume else "abort",
            env=dict(options.env) if options.env else None,
            metadata=options.metadata,
        )
        if options.json:
            screen.value(started)
        if not started.created:
            screen.say(f"this is run {short_id(started.run.id)}, which was there already")
        if options.detach:
            return _leave(started.run, screen, options)
        bound = options.attached and started.created
        screen.farewell = _farewell(started.run, options, bound=bound)
        leaving = "Ctrl-C stops the run" if bound else "Ctrl-C leaves, the run goes on"
        if screen.has_reader() and not options.json:
            screen.say(_name(started.run) + ("" if screen.has_status() else f"; {leaving}"), "dim")
        return await follow(client, started.run.id, screen, options, leaving=leaving)


def _what(options: Options) -> dict[str, Any]:
    if options.agent is not None and options.command is not None:
        raise UsageError("cannot run both an agent (--agent) and a command (behind --): give one of them")
    if options.agent is None and options.command is None:
        command_line = f"outlive run -- {options.input or 'CMD …'}"
        raise UsageError(
            f"cannot tell what to run: give --agent NAME, or a command behind --: {command_line}"
        )
    if options.attached and options.detach:
        raise UsageError("cannot both leave at once (--detach) and stop the run on leaving (--attached)")
    if options.attached and options.resume:
        raise UsageError("cannot resume (--resume) a run that ends with this command (--attached)")
    cwd = None if options.cwd is None else str(Path(options.cwd).absolute())
    if options.agent is not None:
        return {"agent": options.agent, "cwd": cwd}
    if not options.command:
        raise UsageError("cannot run nothing: give a command behind --")
    return {"command": options.command, "cwd": cwd or str(Path.cwd())}


_KNOWN = frozenset({"codex", "opencode", "claude"})
"""Agents that may work in their caller's directory; whether one does is the daemon's to say."""


async def _works_here(client: Client, agent: str) -> bool:
    """Whether that agent works in its caller's directory unless it is told otherwise."""
    return any(each.name == agent and each.in_cwd for each in (await client.info()).agents)


def _leave(run: wire.Run, screen: Screen, options: Options) -> int:
    if not options.json:
        screen.line(run.id)
    if screen.has_reader():
        screen.say(f"the run goes on; see it with: {way_back(options, run.id)}", "dim")
    return outcome.SUCCEEDED


def _farewell(run: wire.Run, options: Options, *, bound: bool) -> tuple[int, str]:
    if bound:
        return outcome.ABORTED, f"run {short_id(run.id)} is being stopped, as --attached asks"
    return outcome.SUCCEEDED, f"detached, the run goes on; return with: {way_back(options, run.id)}"


def _name(run: wire.Run) -> str:
    """The chat of a command is of no interest until somebody names it."""
    in_chat = "" if run.agent is None else f" in chat {run.chat_id}"
    return f"run {short_id(run.id)}{in_chat}"


def _input(given: str | None, screen: Screen) -> str:
    if given is not None and given != "-":
        return given
    if sys.stdin is None or (given is None and not _is_piped(sys.stdin.fileno())):
        return ""
    hint = threading.Timer(_HINT_SECONDS, screen.say, ("reading the input from stdin; INPUT '' means none",))
    hint.daemon = True
    hint.start()
    try:
        data = sys.stdin.buffer.read(wire.MAX_CLIENT_LINE + 1)
    finally:
        hint.cancel()
    if len(data) > wire.MAX_CLIENT_LINE:
        raise UsageError(f"cannot use stdin as the input: it is larger than {wire.MAX_CLIENT_LINE} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot use stdin as the input: it is not UTF-8 ({error.reason})") from error


def _is_piped(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _object(text: str) -> dict[str, Any]:
    try:
        value = decode(text.encode(errors="surrogateescape"))
    except ParseError as error:
        raise ArgumentTypeError(str(error)) from error
    if not isinstance(value, dict):
        raise ArgumentTypeError(f"{text!r} is no JSON object")
    return value


def _variable(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not name:
        raise ArgumentTypeError(f"{text!r} names no variable")
    if not given and name not in os.environ:
        raise ArgumentTypeError(f"{name} is not set here; give {name}=VALUE")
    return name, value if given else os.environ[name]
