"""Readers of a tail that do not read as they should: never, byte by byte, with the line torn, hung up on.

``Reader`` is one connection with one tail, below the level of lines: what arrived is bytes until it is asked for.
"""

import json
import select
import socket
from pathlib import Path
from typing import Self

from tests.support.wire import Json

END_BYTES = 400
"""A tail_end is shorter."""


class Reader:
    """``taken``: the bytes read so far."""

    def __init__(self, path: Path, run_id: str, after_seq: int = 0, **params: object) -> None:
        self.taken = bytearray()
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(path))
        asked = {"run_id": run_id, "after_seq": after_seq, **params}
        line = {"jsonrpc": "2.0", "id": 1, "method": "run/tail", "params": asked}
        self.sock.sendall(json.dumps(line).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def wait_answered(self) -> None:
        """Return once the daemon has said something; nothing is taken."""
        self.sock.recv(1, socket.MSG_PEEK)

    def take(self, count: int) -> bool:
        """Read at most so many bytes; False at the end."""
        try:
            data = self.sock.recv(count)
        except ConnectionResetError:
            data = b""
        self.taken += data
        return bool(data)

    def take_exactly(self, count: int) -> bool:
        """Read so many bytes; False if the end came first, of the tail or of the connection."""
        wanted = len(self.taken) + count
        while len(self.taken) < wanted:
            if self.has_ended or not self.take(wanted - len(self.taken)):
                return False
        return True

    def take_all(self) -> None:
        """Read to the end of the tail, or of the connection."""
        while not self.has_ended and self.take(1 << 16):
            pass

    @property
    def has_ended(self) -> bool:
        """Whether the tail's end was taken."""
        *_, last, rest = [b"", *bytes(self.taken[-END_BYTES:]).split(b"\n")]
        return not rest and b'"method":"run/tail_end"' in last

    @property
    def events(self) -> list[Json]:
        """The whole events among what was taken; a torn line is none."""
        whole = bytes(self.taken).rpartition(b"\n")[0].splitlines()
        lines = [json.loads(line) for line in whole]
        return [line["params"] for line in lines if line.get("method") == "run/event"]

    @property
    def is_hung_up(self) -> bool:
        """Whether the daemon has closed the connection, also while there is more to read."""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        return bool(poll.poll(0))
