"""Following what a command says: from its spool's files into the journal, events and offsets together.

Theory of operation. A follower reads both files from where they were read durably, lets the readers say what the bytes
mean, and hands that on with the offset behind it: one commit. When there is nothing to read it waits for the spool's
pulse. So whoever comes after a crash reads on from the last commit, and nothing is lost or said twice.

1. Nothing is read ahead of the journal: when that has no room, the spool grows; when the spool has grown too much,
   the command is held up, or fails (``keep_in_bounds``).
2. What is durable is given back to the disk.
3. Once a command has ended there is an end to what it said: ``finish`` reads up to there, whoever goes on writing.

Not here: cutting and translating (``reader.py``), the command itself (``program.py``).
"""

from __future__ import annotations

from typing import Any, Self

import attrs
import msgspec
import structlog
import trio

from outlived.agents import Desk, Said, Session
from outlived.agents.program import Program
from outlived.agents.reader import Reader, TextReader, open_reader
from outlived.agents.spool import SpoolFile
from outlived.agents.workshop import OnFull
from outlived.store.adoption import Position

log = structlog.get_logger("outlived.follow")

FREE_BYTES = 1 << 20
BOUND_SECONDS = 0.02


@attrs.define(eq=False)
class _Stream:
    """One file and what it says. ``end``: so much of it is the command's, once that has ended."""

    file: SpoolFile
    reader: Reader
    end: int | None = None

    @property
    def offset(self) -> int:
        return self.file.read_upto - self.reader.held


@attrs.define(eq=False)
class Follower:
    """``with`` it open: ``follow`` in a task of its own, then ``finish``."""

    program: Program
    desk: Desk
    out: _Stream
    err: _Stream
    kept: Session | None = None
    _done: trio.Event = attrs.Factory(trio.Event)

    def __enter__(self) -> Self:
        self.out.file.open()
        self.err.file.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.out.file.close()
        self.err.file.close()

    @property
    def written(self) -> int:
        """Bytes that the command has said so far."""
        return self.out.file.size + self.err.file.size

    @property
    def backlog(self) -> int:
        """Bytes that it has said and that are not durable yet."""
        position = self.desk.position
        return self.written - position.stdout - position.stderr

    async def follow(self) -> None:
        """Pass on what is said, until ``finish`` and the end."""
        while True:
            moved = await self._pass_on(self.out)
            moved = await self._pass_on(self.err) or moved
            if moved:
                continue
            if self.out.end is not None:
                break
            await self.program.pulse.wait()
        await self._relay(self.out.reader.finish() + self.err.reader.finish())
        self._done.set()

    async def finish(self) -> None:
        """Nobody of the run writes any more: return when all it has said was passed on."""
        self.out.end, self.err.end = self.out.file.size, self.err.file.size
        self.program.pulse.beat()
        await self._done.wait()

    async def _pass_on(self, stream: _Stream) -> bool:
        """The next bytes of one stream; False if there were none."""
        chunk = stream.file.read(stream.end)
        if not chunk:
            return False
        await self._relay(stream.reader.read(chunk))
        self._free()
        return True

    async def _relay(self, said: list[Said]) -> None:
        """Hand on what was said, with how far we are. What means nothing is handed on with what comes next, or late."""
        position = Position(self.out.offset, self.err.offset, _write_state(self.out.reader.state))
        late = position.stdout + position.stderr - self.desk.position.sum >= FREE_BYTES
        if said or late:
            await self.desk.relay(said, position)
        if (session := self.out.reader.session) is not None and session != self.kept:
            self.desk.keep_session(session)
            self.kept = session

    def _free(self) -> None:
        durable = self.desk.position
        for file, upto in ((self.out.file, durable.stdout), (self.err.file, durable.stderr)):
            if upto - file.freed_upto >= FREE_BYTES:
                file.free(upto)


def open_follower(
    program: Program, desk: Desk, format_: str, *, first_step: int = 1, session: Session | None = None
) -> Follower:
    """A follower that begins where the last one was, durably. ``session``: what the program was told to go on with."""
    position = desk.position
    state = None if position.state is None else msgspec.json.decode(position.state)
    return Follower(
        program,
        desk,
        _Stream(
            SpoolFile(program.spool.path / "stdout", position.stdout),
            open_reader(format_, state, first_step=first_step, session=session),
        ),
        _Stream(
            SpoolFile(program.spool.path / "stderr", position.stderr), TextReader("log", stream="stderr")
        ),
        session,
    )


def _write_state(state: dict[str, Any] | None) -> str | None:
    return None if state is None else msgspec.json.encode(state).decode()


async def keep_in_bounds(follower: Follower, most: int, on_full: OnFull) -> None:
    """Hold the command up while too much of what it said is not durable. Returns if it says too much all the same."""
    program = follower.program
    held_at = follower.written if program.spool.is_held else None
    while True:
        if held_at is None and follower.backlog > most:
            if on_full == "fail":
                return
            log.info("a command says more than can be stored: holding it up", run_id=program.run_id)
            program.hold()
            await trio.sleep(BOUND_SECONDS)
            held_at = follower.written
        elif held_at is not None:
            if follower.backlog <= most // 2:
                program.go_on()
                held_at = None
            elif follower.written - held_at > most:
                return  # somebody of it could not be held
        with trio.move_on_after(BOUND_SECONDS if held_at is not None else float("inf")):
            await program.pulse.wait()
        if follower.backlog < most // 2:  # else it may be over the bound in a moment
            await trio.sleep(BOUND_SECONDS)
