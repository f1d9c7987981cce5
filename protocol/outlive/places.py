"""Where things are on this machine: the socket, the state directory and the settings, the same for everybody.

1. What is said explicitly wins, then the environment, then the user's directories.
2. Nothing is created or looked at here: a place is a name.

Not here: a socket inherited from systemd (the daemon's listener), the directories' modes (the daemon).
"""

from __future__ import annotations

import os
from pathlib import Path

MAX_SOCKET_PATH_BYTES = 107  # sun_path of Linux holds 108 with its final NUL


def socket_path(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the absolute path of the daemon's socket. Raises ValueError where there can be none."""
    path = _absolute(given or os.environ.get("OUTLIVE_SOCKET") or _usual_socket())
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"cannot use socket path {path}: {size} bytes, the limit is {MAX_SOCKET_PATH_BYTES}")
    return path


def state_directory(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the absolute path of the directory that holds a daemon's log, database and identity. Raises ValueError."""
    return _absolute(given or os.environ.get("OUTLIVED_STATE_DIR") or _usual_state_directory())


def usual_config() -> Path:
    """Where a daemon looks for its settings when it is told nothing; the file need not be there. Raises ValueError."""
    if config := _xdg("XDG_CONFIG_HOME"):
        return config / "outlived/outlived.toml"
    if os.geteuid() == 0:
        return Path("/etc/outlived/outlived.toml")
    return _home() / ".config/outlived/outlived.toml"


def _usual_socket() -> Path:
    if runtime := _xdg("XDG_RUNTIME_DIR"):
        return runtime / "outlived/outlived.sock"
    if os.geteuid() == 0:
        return Path("/run/outlived/outlived.sock")
    return _home() / ".local/state/outlived/outlived.sock"


def _usual_state_directory() -> Path:
    if state := _xdg("XDG_STATE_HOME"):
        return state / "outlived"
    if os.geteuid() == 0:
        return Path("/var/lib/outlived")
    return _home() / ".local/state/outlived"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise ValueError(f"cannot find a home directory for uid {os.geteuid()}: set HOME") from error


def _xdg(variable: str) -> Path | None:
    """The XDG specification asks that relative paths be ignored."""
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else None


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(path).absolute()
