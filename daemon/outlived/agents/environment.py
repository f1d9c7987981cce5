"""What a command finds in its environment. Pure.

The daemon's own environment is that of whoever happened to start it: a unit file, or the first terminal that needed a
daemon. It holds secrets and sockets that were meant for the daemon, or for that terminal. So a command gets, later ones
in place of earlier ones:

1. what a program needs to find its way, from the daemon (``ALLOWED``), and what the configuration names besides
   (``inherit_env``: names, or beginnings of names with a star);
2. what the agent's configuration sets (``env``);
3. what the caller sets (``outlive run --env``);
4. which run it is.

Whatever the configuration names, what the daemon was given for itself (``WITHHELD``) is not handed on: a command that
believes in ``NOTIFY_SOCKET`` ends the daemon's start, one that believes in ``LISTEN_FDS`` takes a stranger's socket, and
database settings are the key to every run. Rules 2 and 3 may set any of these names: then somebody meant it.

Keys of model providers are not in the list: they are worth money. Name them, or set them.

Not here: the daemon's own environment (``__main__.py``), who may send variables (``supervisor/start.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from outlived.agents import Assignment
from outlived.processes import RUN_VARIABLE

ALLOWED = (
    # Where programs and the user's files are.
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR",
    "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_DIRS",
    # The user's sockets: rootless containers, and outlive itself, look for theirs here.
    "XDG_RUNTIME_DIR",
    # How text and times read. TERM is not here: nobody's terminal is at the other end.
    "LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR",
    # The way out, and whom to believe there: without these nothing reaches a model behind a proxy.
    "http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
    "NIX_SSL_CERT_FILE",
)  # fmt: skip
"""SSH_AUTH_SOCK is not in it: it lends keys, and those of a terminal that may be closed by now."""

WITHHELD = (
    "OUTLIVE_*", "OUTLIVED_*",
    "PG*",
    "LISTEN_*", "NOTIFY_SOCKET", "WATCHDOG_*", "CREDENTIALS_DIRECTORY", "MAINPID", "MANAGERPID", "SYSTEMD_EXEC_PID",
    "INVOCATION_ID", "JOURNAL_STREAM", "MEMORY_PRESSURE_*", "FDSTORE", "RUNTIME_DIRECTORY", "STATE_DIRECTORY",
    "CACHE_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
)  # fmt: skip
"""What is the daemon's own: its settings, its database's, its unit's."""


def make_environment(
    daemon: Mapping[str, str],
    inherit: Iterable[str],
    configured: Mapping[str, str],
    assignment: Assignment,
) -> dict[str, str]:
    """The environment of a command that works on this assignment."""
    wanted = (*ALLOWED, *inherit)
    inherited = {
        name: value
        for name, value in daemon.items()
        if _matches(name, wanted) and not _matches(name, WITHHELD)
    }
    return {
        **inherited,
        **configured,
        **(assignment.env or {}),
        RUN_VARIABLE: assignment.run_id,
        "OUTLIVE_CHAT_ID": assignment.chat_id,
        "OUTLIVE_WORKSPACE": assignment.workspace,
        "OUTLIVE_ATTEMPT": str(assignment.attempt),
    }


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is the name, or its beginning and a star."""
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns
    )
