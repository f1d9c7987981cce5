"""``outlive wait``: return when runs are settled.

1. Each run is printed when it is settled. The exit code is that of the worst run: failed, then aborted, then succeeded.
2. With ``--any`` the first one settled ends the wait, and its code is the command's.
3. With ``--timeout``: 4 if everything still open is waiting for a person, else 124.
"""

from __future__ import annotations

import anyio

from outlive import wire
from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command, run_argument, seconds
from outlive.cli.find import find_run
from outlive.cli.reach import reach
from outlive.cli.screen import Screen
from outlive.client import Client

_WORST_FIRST = (outcome.TIMED_OUT, outcome.WAITING, outcome.FAILED, outcome.ABORTED)


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(commands, "wait", act, "wait until runs are settled")
    run_argument(parser, nargs="+")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="default: no limit")
    parser.add_argument("--any", action="store_true", help="return when the first of them is settled")


async def act(options: Options, screen: Screen) -> int:
    """Wait for all, or for any."""
    async with reach(options, screen) as client:
        ids = [await find_run(client, name) for name in options.run]
        try:
            waited = await _wait(client, list(dict.fromkeys(ids)), options, screen)
        except ExceptionGroup as group:  # one line about the first is enough
            raise group.exceptions[0] from None
    codes = [_code(one) for one in waited]
    return next((code for code in _WORST_FIRST if code in codes), outcome.SUCCEEDED)


async def _wait(client: Client, ids: list[str], options: Options, screen: Screen) -> list[wire.RunWaited]:
    """The answers that count: all of them, or the one that was settled first."""
    ended: list[wire.RunWaited] = []

    async def wait_for(run_id: str) -> None:
        waited = await client.wait(run_id, timeout_seconds=options.timeout)
        if everyone.cancel_scope.cancel_called:
            return
        if options.json:
            screen.value(waited)
        elif waited.settled:
            screen.line(f"{run_id} {waited.run.status}")
        if waited.settled and options.any:
            ended.clear()
            everyone.cancel_scope.cancel()
        ended.append(waited)

    async with anyio.create_task_group() as everyone:
        for run_id in ids:
            everyone.start_soon(wait_for, run_id)
    return ended


def _code(waited: wire.RunWaited) -> int:
    if waited.settled:
        return outcome.of_run(waited.run.status)
    return outcome.WAITING if waited.run.status == "waiting" else outcome.TIMED_OUT
