"""``outlive daemon``: start, stop and look at the daemon behind the socket.

1. Only the process that opened the socket is stopped, and only if it is the one that answers: a daemon of systemd,
   or one in another container, is left to whoever manages it.

Not here: starting it (``autostart.py``), its log (``logs.py``).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from pathlib import Path

import anyio

from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, Parser, command, count, seconds
from outlive.cli.autostart import is_absent, start_daemon
from outlive.cli.left import describe_left, left_runs
from outlive.cli.logs import logs
from outlive.cli.outcome import UsageError
from outlive.cli.reach import reach
from outlive.cli.render import info_page
from outlive.cli.screen import Screen
from outlive.connection import Unreachable
from outlive.wire import ServerInfo


def add(commands: Commands) -> None:
    """Add the commands' arguments."""
    help = "start, stop and look at the daemon"  # noqa: A001 - argparse's word
    parser = commands.add_parser("daemon", help=help, description=f"{help}.")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    command(verbs, "start", start, "start a daemon in the background, unless one answers")
    command(verbs, "status", status, "show the daemon that answers")
    stopping = command(verbs, "stop", stop, "stop the daemon and wait for its end")
    stopping.add_argument("--timeout", metavar="SECONDS", type=seconds, default=60.0, help="default: 60")
    log = command(verbs, "logs", logs, "show the end of the log of a daemon started from here")
    log.add_argument("-f", "--follow", action="store_true", help="and what is added to it, until Ctrl-C")
    log.add_argument("-n", "--lines", metavar="N", type=count, default=200, help="default: 200")


async def start(options: Options, screen: Screen) -> int:
    """Start a daemon if none answers, and say who answers."""
    try:
        async with reach(options, screen):
            pass
    except Unreachable as error:
        if not is_absent(error):
            raise
        await start_daemon(options, screen)
    return await status(options, screen)


async def status(options: Options, screen: Screen) -> int:
    """Say who answers."""
    async with reach(options, screen) as client:
        info = await client.info()
    if options.json:
        screen.value(info)
    else:
        screen.line("\n".join(info_page(info, str(client.path), screen.width(), screen.paint)))
    return outcome.SUCCEEDED


async def stop(options: Options, screen: Screen) -> int:
    """Send SIGTERM to the daemon that answers, wait until its process has ended, say what it has left running."""
    async with reach(options, screen) as client:
        info = await client.info()
    handle = _process_of(info, client.path)
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        with anyio.fail_after(options.timeout):
            while not _has_ended(handle):
                await anyio.sleep(0.05)
    except PermissionError as error:
        raise UsageError(f"cannot stop the daemon with pid {info.pid}: it is not yours") from error
    except TimeoutError as error:
        raise TimeoutError(f"cannot see the end of daemon {info.pid} in {options.timeout:g} s") from error
    finally:
        os.close(handle)
    left = left_runs()
    if options.json:
        screen.value({"pid": info.pid, "left": left})
    else:
        screen.line(f"{info.pid} stopped")
        for line in describe_left(left, screen.width()):
            screen.line(line)
    return outcome.SUCCEEDED


def _process_of(info: ServerInfo, path: Path) -> int:
    """A pidfd of the daemon: from here on the pid cannot come to mean another process."""
    try:
        handle = os.pidfd_open(info.pid)
    except OSError as error:
        raise UsageError(f"cannot stop the daemon: there is no process {info.pid} here") from error
    if _opener_of(path) != info.pid:
        os.close(handle)
        raise UsageError(
            f"cannot stop daemon {info.pid}: it did not open {path} itself; "
            "ask what did, perhaps: systemctl stop outlived"
        )
    return handle


def _opener_of(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def _has_ended(handle: int) -> bool:
    readable, _, _ = select.select([handle], [], [], 0)
    return bool(readable)
