"""The socket: bound once, safely, and accepted from for ever.

1. A path belongs to whoever holds the lock beside it; a living daemon's socket is never taken away.
2. A socket that was inherited belongs to whoever made it: it is never unlinked, locked, or given another mode.
3. Our own is bound under a temporary name with its final mode, then renamed into place: a client never sees
   a path that does not answer or a mode that is too wide.
4. On the way out the path is removed only if it is still ours.
5. A failing accept (no file descriptors left) waits and is logged seldom; it never spins or floods.

Not here: what a connection does (``session.py``), where the socket is by default (``outlive/places.py``).
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import attrs
import structlog
import trio

from outlive import errors
from outlive.peer import encode_error
from outlived.server.credentials import read_caller
from outlived.server.methods import HANDLERS
from outlived.server.session import Session
from outlived.store.postgres import DatabaseLost
from outlived.supervisor import Supervisor
from outlived.supervisor.stop import stop

log = structlog.get_logger("outlived.listener")

BACKLOG = 512
ACCEPT_PAUSE = 0.1
COMPLAINT_SECONDS = 60.0
CLOSE_SECONDS = 5.0
LEAVE_TRIES = 5
_NO_MORE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class SocketRefused(Exception):
    """The socket cannot be had; the message says why."""


Inherited: TypeAlias = socket.socket
"""A listening socket that was handed down."""
INHERITED_NAMES = ("outlived.socket", "outlived")
"""What the socket among several descriptors is called: after its unit, or as ``FileDescriptorName=`` says."""


def pick_inherited(fds: Iterable[tuple[str, int]]) -> Inherited | None:
    """The listening socket that was handed down, None where there is none. Raises SocketRefused."""
    found = [(name, sock) for name, fd in fds if (sock := _read_listening(fd)) is not None]
    named = [each for each in found if each[0] in INHERITED_NAMES] or found
    if len(named) > 1:
        names = ", ".join(name or "?" for name, _ in named)
        raise SocketRefused(
            f"cannot choose among {len(named)} inherited sockets ({names}): name one of them outlived"
        )
    return named[0][1] if named else None


def _read_listening(fd: int) -> socket.socket | None:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return None  # no socket at all
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    if listens and (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM):
        return sock
    sock.detach()
    return None


def read_address(sock: Inherited) -> str:
    """Where an inherited socket can be reached; an abstract one begins with @."""
    address = sock.getsockname()
    return "@" + address[1:].decode(errors="replace") if isinstance(address, bytes) else address


@contextmanager
def take_over_socket(sock: Inherited) -> Iterator[trio.socket.SocketType]:
    """An inherited socket, closed at the end and nothing more: its next heir finds it as we did."""
    with trio.socket.from_stdlib_socket(sock) as listener:
        yield listener


@contextmanager
def bind(path: Path, *, mode: int, group: str | None) -> Iterator[trio.socket.SocketType]:
    """A listening socket at ``path``. Raises SocketRefused."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SocketRefused(f"cannot use socket {path}: {error.strerror}: {error.filename}") from error
    try:
        _lock(path, lock)
        sock = _bind_aside(path, mode=mode, group=group)
        inode = os.stat(path).st_ino  # noqa: PTH116 - one look at the name that was just renamed
        try:
            with trio.socket.from_stdlib_socket(sock) as listener:
                yield listener
        finally:
            with suppress(FileNotFoundError):
                if os.stat(path).st_ino == inode:  # noqa: PTH116
                    path.unlink()
    finally:
        os.close(lock)


def _lock(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SocketRefused(f"cannot use socket {path}: another daemon has it") from error
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except OSError as error:
            raise SocketRefused(f"cannot use socket {path}: {error.strerror}") from error
    raise SocketRefused(f"cannot use socket {path}: another program answers there")


def _bind_aside(path: Path, *, mode: int, group: str | None) -> socket.socket:
    """Bind under another name, reached through the directory's descriptor: the path may be as long as it may be."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    aside = Path(f"/proc/self/fd/{directory}/.outlived.{os.getpid()}")
    try:
        with suppress(FileNotFoundError):
            aside.unlink()
        sock.bind(str(aside))
        aside.chmod(mode)
        if group is not None:
            os.chown(aside, -1, grp.getgrnam(group).gr_gid)
        sock.listen(BACKLOG)
        aside.rename(path)
    except (OSError, KeyError) as error:
        sock.close()
        with suppress(OSError):
            aside.unlink()
        raise SocketRefused(f"cannot use socket {path}: {error}") from error
    finally:
        os.close(directory)
    return sock


@attrs.define(eq=False)
class Listener:
    """Accepts connections. Its nursery holds the sessions; runs never live in it."""

    supervisor: Supervisor
    sock: trio.socket.SocketType
    _sessions: set[Session] = attrs.Factory(set)
    opened: trio.Event = attrs.Factory(trio.Event)
    _open: bool = True
    _accepting: trio.CancelScope = attrs.Factory(trio.CancelScope)
    _complained_at: float = float("-inf")
    _nursery: trio.Nursery = attrs.field(init=False)

    async def serve(self) -> None:
        """Actor: accept until ``close``, then until the last session has ended. May be started again.

        ``opened`` is set once it accepts.
        """
        async with trio.open_nursery() as self._nursery:
            self.opened.set()
            with trio.CancelScope() as self._accepting:
                while self._open:
                    await self._accept_one()

    async def _accept_one(self) -> None:
        try:
            sock, _ = await self.sock.accept()
        except OSError as error:
            if error.errno not in _NO_MORE and error.errno != errno.ECONNABORTED:
                raise
            self._complain(error.strerror or str(error))
            await trio.sleep(ACCEPT_PAUSE)
            return
        if len(self._sessions) >= self.supervisor.settings.server.max_connections:
            self._complain("too many connections")
            self._nursery.start_soon(_turn_away, sock)
        else:
            self._nursery.start_soon(self._serve_session, sock)

    def _complain(self, reason: str) -> None:
        if trio.current_time() - self._complained_at > COMPLAINT_SECONDS:
            self._complained_at = trio.current_time()
            log.warning("cannot accept connections", reason=reason, open=len(self._sessions))

    async def _serve_session(self, sock: trio.socket.SocketType) -> None:
        try:
            caller = read_caller(sock)
        except OSError:
            sock.close()  # gone before it was looked at
            return
        session = Session(self.supervisor, HANDLERS, caller, sock, self._leave_run, self._sessions)
        self._sessions.add(session)
        try:
            await session.serve()
        except Exception:
            log.exception("a connection failed", uid=caller.uid)
        finally:
            self._sessions.discard(session)

    def _leave_run(self, run_id: str) -> None:
        self._nursery.start_soon(self._stop_left_run, run_id)

    async def _stop_left_run(self, run_id: str) -> None:
        """The client that a run was attached to is gone."""
        for attempt in range(LEAVE_TRIES):
            try:
                await stop(self.supervisor, run_id, reason="client_disconnected", by="daemon", wait_seconds=0)
            except DatabaseLost:
                await trio.sleep(2**attempt)
            except errors.OutliveError as error:
                log.warning("cannot stop an attached run", run_id=run_id, reason=str(error))
                return
            else:
                return

    def stop_accepting(self) -> None:
        """Close the door; who is inside stays."""
        self._open = False
        self._accepting.cancel()

    async def close(self) -> None:
        """Say farewell to every connection; returns when all of them are gone, or are cut."""
        for session in self._sessions:
            session.draining.set()
        with trio.move_on_after(CLOSE_SECONDS):
            while self._sessions:
                await trio.sleep(0.01)
        self._nursery.cancel_scope.cancel()


async def _turn_away(sock: trio.socket.SocketType) -> None:
    with sock, suppress(OSError), trio.move_on_after(1.0):
        await sock.send(encode_error(None, errors.Overloaded("cannot take more connections")))
