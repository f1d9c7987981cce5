"""``command`` agents: any program. Input on stdin, stdout is the answer, stderr is logged.

Theory of operation. A program is ended by signals, not by ``Cancelled``: what it still says after SIGTERM
belongs to the answer. So its life runs under a shield; a task outside the shield turns a cancel into the event
``stop``, and from then on the shield has a deadline.

1. The program runs in a session of its own: a Ctrl-C in the daemon's terminal does not reach it.
2. Its end is the end of its first process. What that left behind is killed, what is in the pipes then is passed
   on, and only then is the turn over. A process that escaped may hold a pipe for ever: nobody waits for it.
3. The ladder: SIGTERM to the group, the grace, then SIGKILL to everything of the run.
4. Stdout is passed on byte for byte; invalid UTF-8 and NUL become U+FFFD.
5. A pipe is read only as fast as the desk takes what was read: a flood slows the program, not the daemon.

Not here: the seam for output that survives the daemon is ``_Pipes``; who is signalled is in ``processes.py``.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

import attrs
import structlog
import trio

from outlived import processes
from outlived.agents import AgentBroken, AgentFailed, Assignment, AssignmentRefused, Desk
from outlived.agents.environment import make_environment
from outlived.rules.leases import ProcessIdentity
from outlived.store.stops import RunProcess

log = structlog.get_logger("outlived.command")

READ_BYTES = 64 << 10
DRAIN_SECONDS = 5.0
KILL_SECONDS = 10.0


@attrs.frozen
class CommandAgent:
    """A program with its arguments. An ad-hoc command is one without configuration."""

    kind: ClassVar[str] = "command"

    command: list[str]
    description: str = ""
    cwd: str | None = None
    env: dict[str, str] = attrs.Factory(dict)
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

    async def perform(self, desk: Desk) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True) as life:
                nursery.start_soon(_turn_cancel_into_stop, stop, life, desk)
                error = await desk.step("command", self._live, desk, stop)
                desk.note_end(error)  # again: an earlier attempt may have finished the step and not the run
            nursery.cancel_scope.cancel()

    async def _live(self, desk: Desk, stop: trio.Event) -> dict[str, object] | None:
        """From spawn to the last byte; the run's error, None for success."""
        if stop.is_set():
            raise AgentFailed("signal", "the command was not started", signal="SIGTERM")
        process = await self._spawn(desk.assignment)
        leader = processes.read_child_identity(process.pid)
        pipes = _Pipes(process, desk)
        try:
            desk.note_process(RunProcess(processes.read_host(), leader, process.pid))
            async with trio.open_nursery() as nursery:
                pipes.open(nursery)
                signalled = await _wait_for_end(process, desk, stop)
                await _kill_rest(desk.assignment.run_id, leader)
                pipes.drain()
        except BaseException:  # we are going down for another reason: leave nothing behind
            with trio.CancelScope(shield=True, deadline=trio.current_time() + KILL_SECONDS):
                if process.poll() is None:
                    processes.signal_group(process.pid, signal.SIGKILL)
                    await process.wait()
                await _kill_rest(desk.assignment.run_id, leader)
            raise
        if signalled:  # the cancel that made us signal ends the turn; its step was cut, not finished
            raise AgentFailed("signal", "the command was ended by the daemon", signal="SIGTERM")
        error = read_exit(process.returncode)
        desk.note_end(error)
        return error

    async def _spawn(self, assignment: Assignment) -> trio.Process:
        environment = self._environment(assignment)
        try:
            return await trio.lowlevel.open_process(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=assignment.cwd or self.cwd or _default_directory(),
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise AgentFailed("agent_unavailable", f"cannot start {self.command[0]}: {error}") from error

    def _environment(self, assignment: Assignment) -> dict[str, str]:
        return make_environment(os.environ, self.inherit, self.env, assignment)

    def _find_program(self, cwd: str | None, env: dict[str, str] | None) -> None:
        program = self.command[0]
        path = (env or {}).get("PATH") or self.env.get("PATH") or os.environ.get("PATH")
        where = Path(cwd or self.cwd or _default_directory()) / program if "/" in program else Path(program)
        if shutil.which(str(where), path=path) is None:
            raise AgentBroken(
                f"cannot start {program}: there is no such program on PATH, or it is not executable"
            )


def _default_directory() -> str:
    home = os.path.expanduser("~")  # noqa: PTH111 - unlike Path.home() it does not raise
    return home if Path(home).is_dir() else "/"


def read_exit(returncode: int | None) -> dict[str, object] | None:
    """The run's error for an exit status; None for success."""
    if returncode == 0 or returncode is None:
        return None
    if returncode > 0:
        message = f"the command exited with status {returncode}"
        return {"code": "exit_status", "message": message, "exit_status": returncode}
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"SIG{-returncode}"
    return {"code": "signal", "message": f"the command was killed by {name}", "signal": name}


async def _turn_cancel_into_stop(stop: trio.Event, life: trio.CancelScope, desk: Desk) -> None:
    """From the cancel on, the shield has a deadline: the ladder's length and a little for its last step."""
    try:
        await trio.sleep_forever()
    finally:
        life.deadline = trio.current_time() + desk.grace_seconds + KILL_SECONDS + DRAIN_SECONDS
        stop.set()


@attrs.define(eq=False)
class _Pipes:
    """The program's three streams, each with a task of its own. ``_left``: what is still to be read of an output."""

    process: trio.Process
    desk: Desk
    _left: dict[trio.abc.ReceiveStream, int] = attrs.Factory(dict)
    _waiting: trio.CancelScope = attrs.Factory(trio.CancelScope)
    _reading: set[trio.CancelScope] = attrs.Factory(set)

    def open(self, nursery: trio.Nursery) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        nursery.start_soon(self._write_input, self.process.stdin)
        nursery.start_soon(self._read_output, self.process.stdout, self.desk.emit_text)
        nursery.start_soon(self._read_output, self.process.stderr, partial(self.desk.log, "stderr"))

    def drain(self) -> None:
        """The program has ended: what is in the pipes now is its own, and all there will be, whoever holds them."""
        self._left = {
            stream: _count_available(stream)
            for stream in (self.process.stdout, self.process.stderr)
            if stream is not None
        }
        for scope in (self._waiting, *self._reading):
            scope.cancel()

    async def _write_input(self, stdin: trio.abc.SendStream) -> None:
        with self._waiting:
            async with stdin:
                try:
                    await stdin.send_all(self.desk.assignment.input.encode())
                except trio.BrokenResourceError:
                    return  # the program does not read its input: its right

    async def _read_output(
        self, stream: trio.abc.ReceiveStream, emit: Callable[[str], Awaitable[None]]
    ) -> None:
        """Pass on what is read; a character split between two reads waits for its second half."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        async with stream:
            while chunk := await self._receive(stream):
                if text := decoder.decode(chunk):
                    await emit(text)
            if text := decoder.decode(b"", final=True):
                await emit(text)

    async def _receive(self, stream: trio.abc.ReceiveStream) -> bytes | bytearray:
        """The next bytes; none at the end."""
        if not self._left:
            with trio.CancelScope() as scope:
                self._reading.add(scope)
                try:
                    return await stream.receive_some(READ_BYTES)
                finally:
                    self._reading.discard(scope)
        chunk = b""
        if left := self._left[stream]:
            with suppress(BlockingIOError):  # the last read before the drain took it
                chunk = os.read(_read_fd(stream), min(left, READ_BYTES))
            self._left[stream] = left - len(chunk)
        return chunk


def _read_fd(stream: trio.abc.ReceiveStream) -> int:
    """The descriptor of a pipe; -1 when it is closed."""
    assert isinstance(stream, trio.lowlevel.FdStream)
    return stream.fileno()


def _count_available(stream: trio.abc.ReceiveStream) -> int:
    """The bytes in a pipe."""
    fd = _read_fd(stream)
    return 0 if fd < 0 else int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


async def _wait_for_end(process: trio.Process, desk: Desk, stop: trio.Event) -> bool:
    """Wait for the first process; whether we had to signal it. Climbs the ladder once ``stop`` is set."""
    if await _wait_unless(process, stop.wait):
        return False
    processes.signal_group(process.pid, signal.SIGTERM)
    processes.signal_group(process.pid, signal.SIGCONT)  # a stopped program has to run to hear it
    with trio.move_on_after(desk.grace_seconds):
        await _wait_unless(process, desk.wait_hurry)
    if process.poll() is None:
        processes.signal_group(process.pid, signal.SIGKILL)
        await process.wait()
    return True


async def _wait_unless(process: trio.Process, interrupted: Callable[[], Awaitable[None]]) -> bool:
    """Wait for the process or the interruption; whether the process has ended."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await interrupted()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await process.wait()
        nursery.cancel_scope.cancel()
    return process.poll() is not None


async def _kill_rest(run_id: str, leader: ProcessIdentity) -> None:
    """Kill what the first process left behind, wherever it went."""
    if await processes.kill_run_processes({run_id: leader}, just_ended=True):
        log.error("cannot kill every process of a run that ended", run_id=run_id)
