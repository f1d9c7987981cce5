"""Who is calling: what the kernel says of a Unix socket's peer.

Decisions are made on uid and gid only; a pid may belong to somebody else by the time it is looked at.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct

import trio

from outlived.supervisor.start import Caller

_UCRED = struct.Struct("3i")


def read_caller(sock: trio.socket.SocketType) -> Caller:
    """The peer's credentials, from the moment it connected."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _pid, uid, gid = _UCRED.unpack(raw)
    return Caller(uid & 0xFFFFFFFF, gid & 0xFFFFFFFF, trusted=uid in {0, os.geteuid()})


def read_user(uid: int) -> str | None:
    """The name of a user, where it has one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
