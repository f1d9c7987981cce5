"""Start a personal daemon in the background when none answers, as tmux does.

1. One daemon at a time: a lock is taken before starting and is inherited by the daemon, so that whoever comes second waits for
   the first daemon's socket and starts nothing, even if the first command was interrupted meanwhile.
2. The daemon has its own session, no input, and a log file; no name of a run it may have been started from is left in
   its environment (a daemon ends processes that carry one), nor what systemd told the service it was started from.
3. A daemon that ends at once may have lost against one started by hand: only if nobody answers is it a failure.

Not here: stopping it (``daemon.py``).
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import IO

import anyio

from outlive.cli.arguments import Options
from outlive.cli.logs import last_lines, log_file
from outlive.cli.outcome import CannotStartDaemon
from outlive.cli.reach import place, reach
from outlive.cli.screen import Screen
from outlive.client import Client
from outlive.connection import Unreachable

_NEEDED = ("outlived", "trio", "trio_asyncio", "psycopg", "structlog")
_OF_A_RUN = ("OUTLIVE_RUN_ID", "OUTLIVE_CHAT_ID", "OUTLIVE_WORKSPACE", "OUTLIVE_ATTEMPT")
_OF_A_SERVICE = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY")
_START_SECONDS = 90.0
_QUIET_SECONDS = 1.0
_LOSER_SECONDS = 2.0
_POLL_SECONDS = 0.05


@asynccontextmanager
async def reach_or_start(options: Options, screen: Screen) -> AsyncIterator[Client]:
    """``reach``, but where nobody is at the socket start a daemon first. Raises CannotStartDaemon too."""
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(reach(options, screen))
        except Unreachable as error:
            if _is_forbidden(options) or not is_absent(error):
                raise
            await start_daemon(options, screen)
            client = await stack.enter_async_context(reach(options, screen))
        yield client


async def start_daemon(options: Options, screen: Screen) -> None:
    """Return when a daemon answers at the socket. Raises CannotStartDaemon."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise CannotStartDaemon(
            f"cannot start a daemon: {missing[0]} is not installed; "
            f"install the daemon's packages with: {sys.executable} -m pip install 'outlive[daemon]'"
        )
    start = _Start(options, screen)
    try:
        with anyio.fail_after(_START_SECONDS):
            await start.until_it_answers()
    except TimeoutError as error:
        raise CannotStartDaemon(
            f"cannot reach the daemon {_START_SECONDS:.0f} s after starting it; its log is {start.log}"
        ) from error
    except OSError as error:
        raise CannotStartDaemon(f"cannot start a daemon: {error}") from error
    finally:
        start.close()


def is_absent(error: Unreachable) -> bool:
    """Whether there is no daemon, rather than one that may not be reached."""
    return isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError | NotADirectoryError)


def _is_forbidden(options: Options) -> bool:
    return options.no_autostart or os.environ.get("OUTLIVE_NO_AUTOSTART", "") not in {"", "0"}


class _Start:
    def __init__(self, options: Options, screen: Screen) -> None:
        self.log = log_file()
        self._options = options
        self._screen = screen
        self._lock: IO[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self._ended_at: float | None = None
        self._log_began = 0

    async def until_it_answers(self) -> None:
        began = anyio.current_time()
        told = False
        while not await self._answers():
            self._start_unless_started()
            self._check()
            if not told and anyio.current_time() - began > _QUIET_SECONDS:
                told = True
                self._screen.say("starting the daemon (its first start creates its database) …")
            await anyio.sleep(_POLL_SECONDS)

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()  # the daemon's own copy stays
        if self._daemon is not None:
            self._daemon.returncode = self._daemon.poll() or 0  # it shall outlive us: no warning about that

    async def _answers(self) -> bool:
        try:
            async with await anyio.connect_unix(place(self._options)):
                return True
        except OSError:
            return False

    def _start_unless_started(self) -> None:
        if self._daemon is None and self._take_lock():
            self._daemon = self._spawn()

    def _take_lock(self) -> bool:
        if self._lock is None:
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self.log.parent / "start.lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _spawn(self) -> subprocess.Popen[bytes]:
        assert self._lock is not None, "the lock is taken before"
        socket = str(place(self._options))
        state = str(self.log.parent)
        # -P: the current directory is no place to import a daemon from.
        argv = [sys.executable, "-P", "-m", "outlived", "serve", "--personal"]
        argv += ["--socket", socket, "--state-dir", state]
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in _OF_A_RUN and not name.startswith(_OF_A_SERVICE)
        }
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log_began = os.fstat(log).st_size
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment,
                start_new_session=True,
                pass_fds=[self._lock.fileno()],
            )
        finally:
            os.close(log)

    def _check(self) -> None:
        if self._daemon is None or self._daemon.poll() is None:
            return
        now = anyio.current_time()
        if self._ended_at is None:
            self._ended_at = now
        elif now - self._ended_at > _LOSER_SECONDS:
            with self.log.open("rb") as log:
                (last,) = last_lines(log, 1, since=self._log_began) or ["it said nothing"]
            raise CannotStartDaemon(
                f"cannot start a daemon, it ended with status {self._daemon.returncode}: {last}; its log is {self.log}"
            )
