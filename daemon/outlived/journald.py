"""The journal's native protocol: one datagram a line, with fields that ``journalctl RUN_ID=…`` finds.

A leaf. 1. Nothing waits: a line for which the journal has no room is lost, and counted. 2. A field's name is what the
journal accepts, its value is cut where it would burst the datagram.

Not here: which lines there are, and how often (``logs.py``). The format: https://systemd.io/JOURNAL_NATIVE_PROTOCOL
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress

import attrs

PATH = "/run/systemd/journal/socket"
MAX_VALUE_BYTES = 32 << 10
MAX_NAME = 64


def encode(fields: Mapping[str, str]) -> bytes:
    """One entry of the journal."""
    return b"".join(_encode_field(name, value) for name, value in fields.items())


def _encode_field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")[:MAX_VALUE_BYTES]
    if b"\n" in data:
        return name.encode("ascii") + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode("ascii") + b"=" + data + b"\n"


def name_field(name: str) -> str:
    """A name that the journal accepts; one that begins with an underscore would be thrown away as forged."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")[:MAX_NAME] or "FIELD"


@attrs.define(eq=False)
class Journal:
    """The way to the journal. ``lost``: lines it had no room for since the last that arrived."""

    path: str = PATH
    lost: int = 0
    _sock: socket.socket = attrs.Factory(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))

    def is_there(self) -> bool:
        """Whether somebody takes entries there: a service may be shut off from it."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(self.path)
            return True
        return False

    def close(self) -> None:
        self._sock.close()

    def send(self, fields: Mapping[str, str]) -> bool:
        """Hand an entry over; False if it is lost."""
        if self.lost:
            fields = {**fields, "LOST": str(self.lost)}
        try:
            self._sock.sendto(encode(fields), socket.MSG_DONTWAIT, self.path)
        except OSError:  # no room, or no journal: it comes back at the same path
            self.lost += 1
            return False
        self.lost = 0
        return True
