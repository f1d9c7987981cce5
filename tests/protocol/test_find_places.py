"""The socket and the state directory are found in the contract's order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outlive.places import MAX_SOCKET_PATH_BYTES, socket_path, state_directory


@pytest.fixture
def environment(monkeypatch):
    """An environment with a home and nothing else of ours."""
    for name in ("OUTLIVE_SOCKET", "OUTLIVED_STATE_DIR", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return monkeypatch


def test_socket_is_found_in_order(environment):
    """What is given wins, then $OUTLIVE_SOCKET, then the runtime directory, then root's place or the home."""
    assert socket_path() == Path("/home/somebody/.local/state/outlived/outlived.sock")
    environment.setattr(os, "geteuid", lambda: 0)
    assert socket_path() == Path("/run/outlived/outlived.sock")
    environment.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert socket_path() == Path("/run/user/1000/outlived/outlived.sock")
    environment.setenv("OUTLIVE_SOCKET", "/elsewhere/s")
    assert socket_path() == Path("/elsewhere/s")
    assert socket_path("/given") == Path("/given")


def test_state_directory_is_found_in_order(environment):
    """$OUTLIVED_STATE_DIR wins, then $XDG_STATE_HOME, then root's place or the home."""
    assert state_directory() == Path("/home/somebody/.local/state/outlived")
    environment.setattr(os, "geteuid", lambda: 0)
    assert state_directory() == Path("/var/lib/outlived")
    environment.setenv("XDG_STATE_HOME", "/state")
    assert state_directory() == Path("/state/outlived")
    environment.setenv("OUTLIVED_STATE_DIR", "/elsewhere")
    assert state_directory() == Path("/elsewhere")
    assert state_directory("/given") == Path("/given")


def test_relative_places_are_made_absolute(environment, tmp_path):
    """A relative path counts from here; a relative XDG directory is ignored, as its specification asks."""
    environment.chdir(tmp_path)
    environment.setenv("XDG_RUNTIME_DIR", "run")
    assert socket_path().parent == Path("/home/somebody/.local/state/outlived")
    assert socket_path("s") == tmp_path / "s"


def test_socket_path_has_its_limit(environment):
    """A path of 107 bytes is usable, one more is refused with both numbers; bytes count, not characters."""
    longest = "/" + "x" * (MAX_SOCKET_PATH_BYTES - 1)
    assert socket_path(longest) == Path(longest)
    with pytest.raises(ValueError, match=r"^cannot use socket path .*: 108 bytes, the limit is 107$"):
        socket_path(longest + "x")
    with pytest.raises(ValueError, match="108 bytes"):
        socket_path(longest[:-1] + "é")


def test_missing_home_is_said(environment):
    """Where there is no home at all, the message says what to set."""
    environment.delenv("HOME")
    environment.setattr(Path, "home", classmethod(lambda _: (_ for _ in ()).throw(RuntimeError("no home"))))
    with pytest.raises(ValueError, match="set HOME"):
        socket_path()
