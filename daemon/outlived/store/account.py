"""Who the embedded Postgres runs as.

1. An ordinary user runs it as itself.
2. Root runs it in a user namespace, where root's uid goes by another name: no new user, and programs and data
   may lie below a 0700 home. The name has an entry in the passwd file, since `initdb` looks it up and gives up without one:
   that rules out a fixed number such as 1000.
3. Where user namespaces are refused (Docker's default), root drops to an unprivileged user, which then owns the data.

Not here: the act itself, in the child, which is `unroot.py`.
"""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import attrs

from outlived.store.binaries import EmbeddedFailed

UNROOT = Path(__file__).with_name("unroot.py")

# Users to look like, inside. Not `nobody` first: its number is also what every unmapped owner looks like there.
LOOKED_LIKE = ("postgres", "daemon", "bin", "nobody")

# Users to become, outside. Not `daemon` or `bin`: they own files on some systems.
BECOME = ("postgres", "nobody")

# Seconds for `postgres --version` by way of a Python that starts first.
TRY_SECONDS = 20


@attrs.frozen
class Account:
    """How to run a program of the server, and who will own its files."""

    uid: int  # of the server's files, as seen by this process
    gid: int
    prefix: tuple[str, ...]  # put before every command
    how: str  # for the log

    @property
    def apart(self) -> bool:
        """Whether the server's files belong to another user than this process."""
        return self.uid != os.geteuid()


def choose_account(directory: Path, postgres: Path) -> Account:
    """The account to run `postgres` under, tried out, for data below `directory`, which exists.

    May open `directory` for passing through (0711). Starts a process or two, so it blocks for some milliseconds.
    Raises EmbeddedFailed when this process is root and there is no way out of being root.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), (), "itself")
    inside = _first_user(LOOKED_LIKE)
    account = Account(0, 0, _prefix("namespace", inside, directory), f"a user namespace, as {inside.pw_name}")
    no_namespace = _refusal(account, postgres)
    if no_namespace is None:
        return account
    user = _first_user(BECOME)
    account = Account(user.pw_uid, user.pw_gid, _prefix("drop", user, directory), f"user {user.pw_name}")
    directory.chmod(0o711)
    no_user = _refusal(account, postgres)
    if no_user is None:
        return account
    raise EmbeddedFailed(
        f"cannot run Postgres for root, which it refuses to be: a user namespace is not to be had ({no_namespace}), "
        f"nor can user {user.pw_name} run {postgres} on {directory} ({no_user}): start outlived as an ordinary user, "
        "or with a state directory that every user can reach, or with a database of your own (--database DSN)"
    )


def _prefix(way: str, user: pwd.struct_passwd, directory: Path) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(UNROOT), way, str(user.pw_uid), str(user.pw_gid), str(directory))


def _first_user(names: tuple[str, ...]) -> pwd.struct_passwd:
    for name in names:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedFailed(f"cannot run Postgres for root: none of the users {', '.join(names)} exists here")


def _refusal(account: Account, postgres: Path) -> str | None:
    """Why this account cannot run Postgres, in its own words; None if it can."""
    command = [*account.prefix, str(postgres), "--version"]
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=TRY_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return done.stderr.decode("utf-8", "replace").strip()[-200:] or f"exit status {done.returncode}"
