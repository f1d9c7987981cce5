"""One running postmaster: found, pinned, watched and signalled, never mistaken for a stranger.

1. A pid from a file is only a hint: after a reboot, or in a container that came up again, it is somebody else's.
   A process is the postmaster of a data directory when its command line says so.
2. A signal goes to a process that was pinned first: our own unreaped child, a pidfd, or, where neither
   is to be had, a pid whose start time is compared again before each signal.
3. Never SIGKILL: a postmaster killed alone leaves its children behind.

Not here: when to start or stop one, which is `embedded.py`.
"""

import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Self

import attrs
import trio

# Seconds between two looks at a process that cannot be waited for.
LOOK_SECONDS = 0.5

# Seconds for ps(1), used only where there is no /proc.
PS_SECONDS = 10


@attrs.frozen
class PidFile:
    """What `postmaster.pid` says. Lines appear as the server comes up, so the later ones may be missing."""

    pid: int
    socket_directory: str | None
    status: str  # "starting", "ready", "stopping", "standby", or "" before there is one

    @classmethod
    def read(cls, data: Path) -> Self | None:
        """The file in the data directory; None when there is none that makes sense."""
        try:
            lines = (data / "postmaster.pid").read_text("utf-8", "surrogateescape").split("\n")
            pid = int(lines[0])
        except (OSError, ValueError):
            return None
        lines += [""] * (8 - len(lines))
        # A server for one session, run by hand (postgres --single), writes its pid negated.
        return cls(abs(pid), lines[4] or None, lines[7].strip())


@attrs.define(eq=False)
class Postmaster:
    """A pinned postmaster. Close it when it is no longer needed."""

    pid: int
    _process: trio.Process | None = None  # when it is our child: ours to reap
    _pidfd: int | None = None
    _started: str = ""  # without either: the start time that makes the pid its own

    @classmethod
    def own(cls, process: trio.Process) -> Self:
        """The postmaster that this process has just started."""
        return cls(process.pid, process=process)

    @classmethod
    def find(cls, data: Path) -> Self | None:
        """The postmaster that serves this data directory, whoever started it; None when there is none."""
        written = PidFile.read(data)
        if written is None or written.pid in {0, os.getpid()}:
            return None
        # First the pin, then the look: the other way round the process could change in between.
        found = cls(written.pid, pidfd=_open_pidfd(written.pid), started=_start_time(written.pid))
        if is_postmaster(written.pid, data) and found.is_alive():
            return found
        found.close()
        return None

    def is_alive(self) -> bool:
        if self._process is not None:
            return self._process.returncode is None
        if self._pidfd is not None:
            return not _is_readable(self._pidfd)
        return bool(self._started) and _start_time(self.pid) == self._started

    async def wait_gone(self) -> None:
        """Return once the process has ended; our own child is reaped."""
        if self._process is not None:
            await self._process.wait()
            return
        if self._pidfd is not None:
            await trio.lowlevel.wait_readable(self._pidfd)
            return
        while self.is_alive():
            await trio.sleep(LOOK_SECONDS)

    def describe_end(self) -> str:
        """How it ended, as far as that is known; empty while it runs."""
        if self.is_alive():
            return ""
        status = self._process.returncode if self._process is not None else None
        if status is None:
            return "how is not known, it was not our child"
        return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this postmaster; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None:
                self._process.send_signal(number)
            elif self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.is_alive():
                os.kill(self.pid, number)

    def close(self) -> None:
        """Let go of the process, which goes on if it has not ended."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def is_postmaster(pid: int, data: Path) -> bool:
    """Whether the process is a postmaster of this data directory, by its command line.

    A postmaster keeps the command line it was started with, and its children write "postgres: …" over theirs.
    Both are there for everyone to read, unlike the current directory, which helps when someone started
    the server by hand with a relative path.
    """
    arguments = _command_line(pid)
    if not arguments or os.path.basename(arguments[0]) not in {"postgres", "postmaster"}:  # noqa: PTH119
        return False
    if str(data) in arguments:
        return True
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", data)  # noqa: PTH121  # A magic link, not a path.
    except OSError:
        return False


def _command_line(pid: int) -> list[str]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return _ask_ps(pid, "command").split(" ") if not Path("/proc/self").exists() else []
    except OSError:
        return []
    return [os.fsdecode(argument) for argument in raw.split(b"\0")]


def _start_time(pid: int) -> str:
    """Something that two processes of one pid do not share; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except FileNotFoundError:
        return _ask_ps(pid, "lstart") if not Path("/proc/self").exists() else ""
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    # A process that has ended but is not reaped has state Z: for us it is gone.
    return "" if fields[0] in {"Z", "X"} else fields[19]


def _ask_ps(pid: int, column: str) -> str:
    try:
        done = subprocess.run(
            ["ps", "-ww", "-o", f"{column}=", "-p", str(pid)],
            capture_output=True,
            check=False,
            timeout=PS_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip()


def _open_pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
