"""``outlive wait``: return when runs are settled.

1. Each run is printed when it is settled. The exit code is that of the worst run: failed, then aborted, then succeeded.
2. With ``--any`` the first one settled ends the wait, and its code is the command's.
3. With ``--timeout``: 4 if everything still open is waiting for a person, else 124.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext

import anyio

from outlive import wire
from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command, run_argument, seconds
from outlive.cli.find import find_run
from outlive.cli.layout import clock
from outlive.cli.reach import reach
from outlive.cli.screen import Screen
from outlive.cli.status import status
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
        screen.farewell = outcome.INTERRUPTED, "not waiting any more; the runs go on"
        try:
            async with _status(options, screen):
                waited = await _wait(client, list(dict.fromkeys(ids)), options, screen)
        except ExceptionGroup as group:  # one line about the first is enough
            raise group.exceptions[0] from None
    codes = [_code(one) for one in waited]
    return next((code for code in _WORST_FIRST if code in codes), outcome.SUCCEEDED)


def _status(options: Options, screen: Screen) -> AbstractAsyncContextManager[None]:
    began = anyio.current_time()
    what = "any" if options.any else "all"
    many = f" {what} of {len(options.run)} runs" if len(options.run) > 1 else ""
    if options.json:
        return nullcontext()
    return status(screen, lambda: f"waiting for{many or ' the run'} · {clock(anyio.current_time() - began)}")


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
