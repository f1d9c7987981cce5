"""``outlive stop``: ask runs to stop.

1. Every RUN is found before the first is asked: a misspelling stops nothing.
2. With ``--wait`` each run's end is waited for, at most so long; whoever is not done by then makes it 124.
"""

from __future__ import annotations

from contextlib import nullcontext

import anyio

from outlive import wire
from outlive.cli import outcome
from outlive.cli.arguments import Commands, Options, command, run_argument, seconds
from outlive.cli.find import find_run
from outlive.cli.layout import clock
from outlive.cli.outcome import UsageError
from outlive.cli.reach import reach
from outlive.cli.render import short_id
from outlive.cli.screen import Screen
from outlive.cli.status import status
from outlive.client import Client


def add(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = command(commands, "stop", act, "ask runs to stop; their output is kept")
    run_argument(parser, nargs="*")
    parser.add_argument("--chat", metavar="ID", help="instead of RUN: the chat's active run")
    parser.add_argument("--workspace", metavar="NAME", help="of the chat (default: default)")
    parser.add_argument("--reason", metavar="TEXT", help="kept with the run")
    parser.add_argument("--wait", metavar="SECONDS", type=seconds, default=0.0, help="wait for its end")


async def act(options: Options, screen: Screen) -> int:
    """Stop, and say what came of it."""
    if bool(options.run) == (options.chat is not None):
        raise UsageError("cannot tell what to stop: give either RUN or --chat ID")
    async with reach(options, screen) as client:
        ids = list(dict.fromkeys([await find_run(client, name) for name in options.run]))
        try:
            ends = await _stop_all(client, ids or [None], options, screen)
        except ExceptionGroup as group:  # one line about the first is enough
            raise group.exceptions[0] from None
    going = [short_id(end.run.id) for end in ends if end.outcome == "stopping"]
    if not going:
        return outcome.SUCCEEDED
    which = "the run is" if len(ends) == 1 else f"{len(going)} of {len(ends)} runs are"
    screen.say(f"{which} stopping; to wait for the end: outlive wait {' '.join(going)}")
    return outcome.TIMED_OUT if options.wait else outcome.SUCCEEDED


async def _stop_all(
    client: Client, ids: list[str] | list[None], options: Options, screen: Screen
) -> list[wire.RunStopped]:
    ends: list[wire.RunStopped] = []
    began = anyio.current_time()

    async def stop(run_id: str | None) -> None:
        end = await _stop(client, run_id, options)
        ends.append(end)
        if options.json:
            screen.value(end)
        else:
            screen.line(f"{end.run.id} {end.outcome}")

    shown = options.wait and not options.json
    words = lambda: f"stopping · {clock(anyio.current_time() - began)}"  # noqa: E731 - it is no more than that
    async with status(screen, words) if shown else nullcontext(), anyio.create_task_group() as stopping:
        for run_id in ids:
            stopping.start_soon(stop, run_id)
    return ends


async def _stop(client: Client, run_id: str | None, options: Options) -> wire.RunStopped:
    """Ask, and wait in a request of its own: one that a restart of the daemon does not begin anew."""
    end = await client.stop(run_id, chat_id=options.chat, workspace=options.workspace, reason=options.reason)
    if end.outcome != "stopping" or not options.wait:
        return end
    waited = await client.wait(end.run, workspace=options.workspace, timeout_seconds=options.wait)
    return wire.RunStopped("stopped" if waited.settled else "stopping", waited.run)
