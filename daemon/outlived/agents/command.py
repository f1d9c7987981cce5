"""``command`` agents: any program. Input on stdin, stdout is the answer, stderr is logged.

Theory of operation. A program is ended by signals, not by ``Cancelled``: what it still says after SIGTERM
belongs to the answer. So its life runs under a shield; a task outside the shield turns a cancel into the event
``stop``, and from then on the shield has a deadline. What it says goes through files (``program.py``, ``follow.py``), so
that its life may go on with the next daemon: then the same is done from the middle on (``adopt``).

1. The program runs in a session of its own: a Ctrl-C in the daemon's terminal does not reach it.
2. Its end is the end of its first process. What that left behind is killed, what was said until then is passed
   on, and only then is the turn over.
3. The ladder: SIGTERM to the group, the grace, then SIGKILL to everything of the run.
4. Stdout is passed on byte for byte, invalid UTF-8 and NUL as U+FFFD; or its lines mean something (``formats``).
5. Nothing is started that is not written down: see ``program.py``.

Not here: who is signalled (``processes.py``), whether a run may be adopted (``supervisor/adopt.py``).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import attrs
import trio

from outlived import processes
from outlived.agents import AgentBroken, AgentFailed, Assignment, AssignmentRefused, Desk, Session
from outlived.agents.environment import make_environment
from outlived.agents.follow import Follower, keep_in_bounds, open_follower
from outlived.agents.formats import explain_end
from outlived.agents.formats.sessions import RESUMABLE, continue_session
from outlived.agents.formats.stdin import TOLD_ALL, write_stdin
from outlived.agents.program import Order, Program, adopt, discard, find_program, open_gate, start
from outlived.rules.leases import ProcessIdentity
from outlived.rules.limits import NO_LIMITS, Limits
from outlived.store.stops import RunProcess

DRAIN_SECONDS = 5.0
KILL_SECONDS = 10.0
STEP = "command"

Error = dict[str, Any] | None
Opener = Callable[[trio.Event, Session | None], Awaitable[Program]]


class Ending(Enum):
    """Why a program's life here is over."""

    ENDED = auto()
    STOPPED = auto()
    FULL = auto()
    LEFT = auto()


@attrs.frozen
class CommandAgent:
    """A program with its arguments. An ad-hoc command is one without configuration."""

    kind: ClassVar[str] = "command"

    command: list[str]
    description: str = ""
    cwd: str | None = None
    env: dict[str, str] = attrs.Factory(dict)
    format: str = "text"
    limits: Limits = NO_LIMITS
    inherit: tuple[str, ...] = ()

    def check(self) -> None:
        self._find_program(None, None)

    def check_assignment(self, assignment: Assignment) -> None:
        cwd = assignment.cwd or self.cwd
        if cwd is not None and not (Path(cwd).is_absolute() and Path(cwd).is_dir()):
            complaint = f"cannot run in {cwd}: it is no absolute path of a directory"
            if assignment.cwd is None:
                raise AgentBroken(complaint)
            raise AssignmentRefused(complaint, "$.cwd")
        self._find_program(assignment.cwd, assignment.env)

    def choose_directory(self, assignment: Assignment) -> str:
        """Where the program is to work."""
        return assignment.cwd or self.cwd or _default_directory()

    async def perform(self, desk: Desk) -> None:
        """Start the program and see it to its end."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._see_through(desk, partial(self._begin, desk))

    async def adopt(self, desk: Desk, leader: ProcessIdentity) -> None:
        """Go on with a program that an earlier daemon has started, whatever has become of it."""

        async def take_up(_stop: trio.Event, _session: Session | None) -> Program:
            run_id, attempt = desk.assignment.run_id, desk.assignment.attempt
            spool = desk.workshop.find_spool(run_id, attempt)
            if spool is None:
                raise AgentFailed("process_lost", "what the command has said is not here any more")
            return adopt(desk.workshop, run_id, spool, leader, self.limits)

        await self._see_through(desk, take_up)

    async def _see_through(self, desk: Desk, open_program: Opener) -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True) as life:
                nursery.start_soon(turn_cancel_into_stop, stop, life, desk, KILL_SECONDS + DRAIN_SECONDS)
                live = partial(self._live, desk, stop, open_program)
                error = await (desk.step(STEP, live) if self.format == "text" else live())
                desk.note_end(error)  # again: an earlier attempt may have finished the step and not the run
            nursery.cancel_scope.cancel()

    async def _live(self, desk: Desk, stop: trio.Event, open_program: Opener) -> Error:
        """From its start, or from where we come to it, to the last byte; the run's error, None for success."""
        session = await desk.read_session() if self.format in RESUMABLE else None
        first_step = await desk.read_first_step() if self.format != "text" else 1
        program = await open_program(stop, session)
        try:
            follower = open_follower(program, desk, self.format, first_step=first_step, session=session)
            error, ending = await self._follow(follower, desk, stop)
        except BaseException:  # we are going down for another reason: leave nothing behind
            with trio.CancelScope(shield=True, deadline=trio.current_time() + KILL_SECONDS):
                await program.kill()
            raise
        finally:
            program.close()
        # The cancel ends the turn: its step was cut, not finished.
        if ending in {Ending.STOPPED, Ending.LEFT}:
            raise AgentFailed("signal", "the command was ended by the daemon", signal="SIGTERM")
        if error is not None and error["code"] == "process_lost":  # nobody knows that its step was finished
            raise AgentFailed(**error)
        desk.note_end(error)
        return error

    async def _follow(self, follower: Follower, desk: Desk, stop: trio.Event) -> tuple[Error, Ending]:
        program, full = follower.program, trio.Event()
        with follower:
            async with trio.open_nursery() as nursery:

                async def watch_bounds() -> None:
                    await keep_in_bounds(follower, desk.workshop.max_spool_bytes, desk.workshop.on_full)
                    full.set()

                for task in (program.watch, follower.follow, watch_bounds):
                    nursery.start_soon(task)
                ending = await _await_end(program, desk, stop, full)
                if ending is not Ending.LEFT:
                    await program.kill()
                    await follower.finish()
                nursery.cancel_scope.cancel()
        if ending is Ending.FULL:
            return _describe_full(desk.workshop.max_spool_bytes), ending
        if ending is not Ending.ENDED:
            return None, ending
        reader = follower.out.reader
        error = explain_end(program.read_error(), reader.error)
        if follower.kept is not None and error is not None and reader.session is None:
            desk.keep_session(None)  # it did not find its conversation: the next turn begins a new one
        return error, ending

    async def _begin(self, desk: Desk, stop: trio.Event, session: Session | None) -> Program:
        """A program at work, written down. Raises AgentFailed: it was not started, and will not be."""
        program = None if stop.is_set() else await start(desk.workshop, await self._order(desk, session))
        written = False
        if program is not None:
            try:
                written = await _write_down(program, desk, stop)
            finally:
                if not written:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + KILL_SECONDS):
                        await discard(program)
        if program is None or not written:
            raise AgentFailed("signal", "the command was not started", signal="SIGTERM")
        await open_gate(program)
        return program

    async def _order(self, desk: Desk, session: Session | None) -> Order:
        assignment = desk.assignment
        history = await desk.read_history() if self.format in TOLD_ALL else []
        return Order(
            run_id=assignment.run_id,
            attempt=assignment.attempt,
            command=continue_session(self.format, self.command, session),
            cwd=self.choose_directory(assignment),
            environment=self._environment(assignment),
            given=write_stdin(self.format, assignment, history).encode(),
            limits=self.limits,
        )

    def _environment(self, assignment: Assignment) -> dict[str, str]:
        return make_environment(os.environ, self.inherit, self.env, assignment)

    def _find_program(self, cwd: str | None, env: dict[str, str] | None) -> None:
        environment = {**os.environ, **self.env, **(env or {})}
        program = self.command[0]
        if (
            "\0" in program
            or find_program(program, cwd or self.cwd or _default_directory(), environment) is None
        ):
            raise AgentBroken(
                f"cannot start {program}: there is no such program on PATH, or it is not executable"
            )


def _default_directory() -> str:
    home = os.path.expanduser("~")  # noqa: PTH111 - unlike Path.home() it does not raise
    return home if Path(home).is_dir() else "/"


def _describe_full(most: int) -> Error:
    message = f"the command said more than {most} bytes faster than that could be stored"
    return {"code": "output_limit", "message": message}


async def turn_cancel_into_stop(
    stop: trio.Event, life: trio.CancelScope, desk: Desk, after_grace: float
) -> None:
    """From the cancel on, the shield has a deadline: the grace, and what the ladder's last steps may take."""
    try:
        await trio.sleep_forever()
    finally:
        life.deadline = trio.current_time() + desk.grace_seconds + after_grace
        stop.set()


async def _write_down(program: Program, desk: Desk, stop: trio.Event) -> bool:
    """Make it durable who the wrapper is; False if the run was stopped before that."""
    written = False

    async def write() -> None:
        nonlocal written
        await desk.note_process(RunProcess(processes.read_host(), program.leader, program.leader.pid))
        written = True

    await wait_any(write, stop.wait)
    return written


async def _await_end(program: Program, desk: Desk, stop: trio.Event, full: trio.Event) -> Ending:
    """Wait for its end, or end it: the ladder, once ``stop`` or ``full`` is set."""
    await wait_any(program.ended.wait, stop.wait, full.wait)
    if program.ended.is_set() and not program.spool.is_ending:
        return Ending.ENDED
    if stop.is_set() and desk.leaving:
        return Ending.LEFT
    ending = Ending.STOPPED if stop.is_set() else Ending.FULL
    if ending is Ending.FULL:
        desk.note_end(_describe_full(desk.workshop.max_spool_bytes))
    program.spool.mark_ending()
    program.signal(signal.SIGTERM)
    program.go_on()  # a stopped program has to run to hear it
    with trio.move_on_after(desk.grace_seconds):
        await wait_any(program.ended.wait, desk.wait_hurry)
    return ending


async def wait_any(*waits: Callable[[], Awaitable[None]]) -> None:
    """Return when the first of them does."""
    async with trio.open_nursery() as nursery:

        async def wait(one: Callable[[], Awaitable[None]]) -> None:
            await one()
            nursery.cancel_scope.cancel()

        for each in waits:
            nursery.start_soon(wait, each)
