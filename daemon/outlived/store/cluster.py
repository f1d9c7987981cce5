"""The embedded Postgres at rest: its directory, its locks, its socket's place, its log.

    DIRECTORY/            0700
      data/               the database; made as data.new and renamed, so it is whole or not there
      postgres.log        what the server says; the size is bounded
      daemon.lock         held by the daemon that uses this directory
      server.lock         held by every process that works on the data: it is handed down to initdb and the server
      .s.PGSQL.5432       the socket, unless its path would be too long (`place_socket`)

1. flock, never the existence of a file: a lock ends with its holder, however that ends.
2. While server.lock is held, something still writes to the data: children of a killed postmaster too, which no pid
   file names, in whatever container they are. While it is free, only a server that somebody started by hand can be there.
3. Whoever can reach the socket is the superuser ("trust"), and only the owner of the 0700 directory can, and root.
   "peer" would compare names, and they differ when the server sees root under another name (`account.py`).

Not here: settings (`commands.py`), processes (`postmaster.py`), when they come and go (`embedded.py`).
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import attrs

from outlived.store.account import Account
from outlived.store.binaries import EmbeddedFailed
from outlived.store.commands import SOCKET_NAME

# Bytes a Unix socket's address has room for, without the closing NUL.
MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103

# Bytes. A log over the first size is set aside at the start, one over the second is emptied while the server runs.
LOG_SET_ASIDE = 1 << 20
LOG_LIMIT = 16 << 20

# Lines and bytes of the server's log that an error message quotes.
QUOTED_LINES = 3
QUOTED_BYTES = 4000
COMPLAINT = re.compile("FATAL:|PANIC:|HINT:|error:")


@attrs.frozen
class Cluster:
    """The files of one embedded Postgres below `directory`, an absolute path without links."""

    directory: Path

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def unfinished(self) -> Path:
        return self.directory / "data.new"

    @property
    def log(self) -> Path:
        return self.directory / "postgres.log"

    @classmethod
    def prepare(cls, directory: Path) -> Self:
        """Make the directory, 0700, or see that it is ours. Raises EmbeddedFailed when it cannot be used."""
        directory = Path(os.path.realpath(directory))
        if "\n" in str(directory):
            raise EmbeddedFailed(f"cannot keep a database in {str(directory)!r}: the name has a line break")
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(directory)
        except OSError as error:
            raise EmbeddedFailed(f"cannot keep a database in {directory}: {error.strerror}") from error
        return cls(directory)

    @contextlib.contextmanager
    def hold_daemon_lock(self) -> Iterator[None]:
        """Be the one daemon that uses this directory. Raises EmbeddedFailed when another does."""
        path = self.directory / "daemon.lock"
        descriptor = _take_lock(path)
        if descriptor is None:
            holder = path.read_text("ascii", "replace").strip() or "of unknown pid"
            raise EmbeddedFailed(
                f"cannot use the database in {self.directory}: another daemon uses it (process {holder} holds "
                f"{path}): stop that one, or give this one a state directory of its own"
            )
        try:
            # Only to tell who it is: a full disk is no reason to refuse.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
            yield
        finally:
            os.close(descriptor)

    def take_server_lock(self) -> int | None:
        """An open descriptor that holds server.lock, to hand down; None while processes of a server hold it."""
        return _take_lock(self.directory / "server.lock")

    def is_made(self) -> bool:
        """Whether there is a database. Raises EmbeddedFailed when there is something else in its place."""
        if (self.data / "global" / "pg_control").exists() and (self.data / "PG_VERSION").exists():
            return True
        if self.data.is_dir() and not any(self.data.iterdir()):
            return False
        if not os.path.lexists(self.data):
            return False
        raise EmbeddedFailed(
            f"cannot use {self.data}: it is not empty and holds no whole database: move it away, and a new one is made"
        )

    def clear_unfinished(self) -> None:
        """Throw away what a broken-off initdb left."""
        if self.unfinished.exists():
            shutil.rmtree(self.unfinished)

    def make_room(self, account: Account) -> None:
        """An empty directory for initdb to fill, which the server's user can enter."""
        self.clear_unfinished()
        self.unfinished.mkdir(mode=0o700)
        if account.apart:
            os.chown(self.unfinished, account.uid, account.gid)

    def finish(self) -> None:
        """What initdb made becomes the database, durably."""
        self.unfinished.rename(self.data)
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def give_to(self, account: Account) -> None:
        """See that the database belongs to the user the server runs as; only root can change that."""
        owner = self.data.stat().st_uid
        if owner == account.uid:
            return
        if os.geteuid() != 0:
            raise EmbeddedFailed(
                f"cannot use the database in {self.data}: it belongs to uid {owner}, and this process is uid {os.geteuid()}"
            )
        # The top directory last: whoever is interrupted here starts again.
        for top, folders, files in os.walk(self.data, topdown=False):
            for name in (*folders, *files):
                os.chown(os.path.join(top, name), account.uid, account.gid, follow_symlinks=False)  # noqa: PTH118
        os.chown(self.data, account.uid, account.gid)

    def place_socket(self, account: Account) -> Path:
        """The private directory for the server's socket, made if need be.

        The directory itself; a folder in it when the server's user is another one; a short one elsewhere when the
        path does not fit into an address. That one follows from the directory's name, so the next start finds it again.
        """
        near = self.directory / "socket" if account.apart else self.directory
        if _fits(near):
            if account.apart:
                near.mkdir(mode=0o700, exist_ok=True)
                os.chown(near, account.uid, account.gid)
            return near
        short = "outlive-" + hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:12]
        refusals = []
        # /tmp first: what is in XDG_RUNTIME_DIR ends with the login, and Postgres keeps its files in /tmp fresh.
        for place in filter(None, ("/tmp", os.environ.get("XDG_RUNTIME_DIR"))):  # noqa: S108
            far = Path(place, short)
            try:
                far.mkdir(mode=0o700, exist_ok=True)
                _make_private(far, account.uid)
                if account.apart:
                    os.chown(far, account.uid, account.gid)
            except (OSError, EmbeddedFailed) as error:
                refusals.append(f"{far}: {error}")
                continue
            if _fits(far):
                return far
        raise EmbeddedFailed(
            f"cannot place the database's socket: {near / SOCKET_NAME} is too long for an address, and a shorter place "
            f"is not to be had ({'; '.join(refusals)}): choose a shorter state directory"
        )

    def clear_stale(self, socket_directory: Path) -> None:
        """Remove the pid files of a server that is gone for certain: server.lock is held, and no postmaster was found.

        Postgres refuses to start while a pid in them exists and belongs to the same user: after a reboot, and in
        a container almost always, some stranger's, and where the first process reaps nothing, a zombie's for ever.
        """
        for stale in (self.data / "postmaster.pid", socket_directory / f"{SOCKET_NAME}.lock"):
            stale.unlink(missing_ok=True)

    def remove_socket_directory(self, place: Path) -> None:
        """Tidy up after a server that ended; a directory with something in it stays."""
        if place != self.directory:
            with contextlib.suppress(OSError):
                place.rmdir()

    def open_log(self) -> int:
        """The log, to hand to the server; one that has grown is set aside first."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.lstat().st_size > LOG_SET_ASIDE:
                self.log.replace(self.log.with_suffix(".log.1"))
        return os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def bound_log(self) -> None:
        """Empty the log of a running server once it is too big; the server appends, so it goes on at the start."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_LIMIT:
                os.truncate(self.log, 0)

    def quote_log(self, since: int) -> str:
        """The last lines that the server wrote after the byte `since`, as one line."""
        try:
            with self.log.open("rb") as log:
                size = os.fstat(log.fileno()).st_size
                log.seek(max(since, size - QUOTED_BYTES))
                return quote(log.read(QUOTED_BYTES))
        except FileNotFoundError:
            return quote(b"")


def owns(account: Account, directory: Path) -> bool:
    """Whether the directory is still there, and the account's."""
    try:
        return directory.stat().st_uid == account.uid
    except OSError:
        return False


def quote(output: bytes) -> str:
    """The last lines of a program's output up to its last complaint, as one line for an error message."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    complaints = [number for number, line in enumerate(lines, start=1) if COMPLAINT.search(line)]
    last = complaints[-1] if complaints else len(lines)
    return " / ".join(lines[max(0, last - QUOTED_LINES) : last]) or "it said nothing"


def _fits(directory: Path) -> bool:
    # libpq takes a comma in a host for a list of hosts.
    return len(os.fsencode(directory / SOCKET_NAME)) <= MAX_SOCKET_PATH and "," not in str(directory)


def _make_private(directory: Path, *also_owners: int) -> None:
    """See that a directory is a real one of ours and that nobody else can look into it. 0711 is left alone."""
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise EmbeddedFailed(f"cannot use {directory}: it is not a directory")
    if found.st_uid not in {os.geteuid(), *also_owners}:
        raise EmbeddedFailed(
            f"cannot use {directory}: it belongs to uid {found.st_uid}, and this process is uid {os.geteuid()}"
        )
    if found.st_mode & 0o066:
        directory.chmod(0o700)


def _take_lock(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
    except BlockingIOError:
        return None
    except OSError as error:
        raise EmbeddedFailed(f"cannot lock {path}: {error.strerror}") from error
    return descriptor
