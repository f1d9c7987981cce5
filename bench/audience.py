"""Readers in processes of their own, opened and asked by a benchmark.

Not here: what they do (``readers.py``).
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import trio

from bench.figures import Broken
from bench.readers import Heard
from bench.stage import Stage


@contextlib.asynccontextmanager
async def open_readers(
    stage: Stage, path: Path, run_id: str, number: int, *, timed: bool = True, mute: bool = False
) -> AsyncIterator[tuple[trio.Process, int]]:
    """``number`` subscribers of a run, or of ``limits/fanout.py`` where it is ``-``; the process and its pid."""
    words = [word for word, wanted in (("timed", timed), ("mute", mute)) if wanted]
    command = ["python", "-m", "bench.readers", str(path), run_id, str(number), *words]
    stdin = {"stdin": subprocess.PIPE} if mute else {}
    async with stage.open_program(command, **stdin) as process:
        if run_id != "-":  # there they are heard before they are all in
            await read_line(process)
        yield process, process.pid


async def read_heard(process: trio.Process) -> Heard:
    """What they heard; waits for its end."""
    line = await read_line(process)
    return msgspec.json.decode(line if line != b"ready" else await read_line(process), type=Heard)


async def read_line(process: trio.Process) -> bytes:
    """One line of a program of ours. Raises Broken when it ended instead."""
    assert process.stdout is not None
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (more := await process.stdout.receive_some(1)):
            raise Broken(f"{process.args!r} ended: {line.decode(errors='replace')}")
        line += more
    return bytes(line[:-1])
