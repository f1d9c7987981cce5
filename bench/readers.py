"""Subscribers in a process of their own: one epoll loop, no decoding beyond counting and the stamp.

``python -m bench.readers SOCKET RUN READERS [timed] [mute]``; RUN ``-`` is a server of ``limits/fanout.py``. It prints
"ready" when everyone is subscribed, and at the end, when every reader has the whole log, one JSON object: ``Heard``.

1. A text has one space (``speakers.py``), the rest of a line has none: counting spaces counts texts.
2. ``timed``: the latency of every text that is the first of its event, from its stamp to the return of ``recv``.
3. ``mute``: subscribe, and never read again; ends with its stdin.

Not here: what is said (``speakers.py``), what is made of it (``fanout.py``, ``reread.py``).
"""

from __future__ import annotations

import contextlib
import re
import resource
import select
import socket
import sys
import time

import msgspec

from bench.figures import percentile
from bench.load import format_request

READ_BYTES = 256 << 10
STAMP = re.compile(rb'"text":"(\d+) ')
END = b'"run/tail_end"'
END_BYTES = 400
WAIT_SECONDS = 60


class Heard(msgspec.Struct):
    """``texts``, ``events`` (lines) and ``bytes``: of all readers together. Times are ``time.monotonic_ns()``; latencies in ms."""

    readers: int
    texts: int
    events: int
    bytes: int
    asked: int
    """When the first of them asked."""
    first: int
    """The stamp of the first text; 0 if none has one."""
    last: int
    """When the last of them had the end."""
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0


class Reader:
    """One subscriber."""

    def __init__(self, path: str, run_id: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)  # without a timeout: then it waits where the backlog is full
        self.sock.settimeout(WAIT_SECONDS)
        self.raw = run_id == "-"
        request = format_request(1, "run/tail", run_id=run_id, after_seq=0)
        self.asked = time.monotonic_ns()
        self.sock.sendall(b"go" if self.raw else request)
        self.tail = b""

    def wait_subscribed(self) -> None:
        """The reply has come: from now on it is events. Some may have come with it."""
        if self.raw:
            return
        data = b""
        while b"\n" not in data:
            data += self.sock.recv(READ_BYTES) or _refuse(b"the connection was closed")
        reply, _, self.tail = data.partition(b"\n")
        if b'"subscription"' not in reply:
            _refuse(reply)


def _refuse(what: bytes) -> bytes:
    raise SystemExit(f"cannot subscribe: {what.decode()}")


def listen(readers: list[Reader], *, timed: bool) -> Heard:
    """Read until everyone has everything."""
    poll = select.epoll()
    by_fd = {reader.sock.fileno(): reader for reader in readers}
    for fd, reader in by_fd.items():
        reader.sock.setblocking(False)
        poll.register(fd, select.EPOLLIN)
    heard = Heard(len(readers), 0, 0, 0, readers[0].asked, 0, 0)
    latencies: list[int] = []
    for reader in readers:
        heard.texts += reader.tail.count(b" ")
        heard.bytes += len(reader.tail)
        heard.events += reader.tail.count(b"\n")
    while by_fd:
        for fd, _ in poll.poll(WAIT_SECONDS) or _refuse_silence(len(by_fd)):
            reader = by_fd[fd]
            data = reader.sock.recv(READ_BYTES)
            now = time.monotonic_ns()
            if not heard.first and (stamp := STAMP.search(data)):
                heard.first = int(stamp[1])
            heard.texts += data.count(b" ")
            heard.events += data.count(b"\n")
            heard.bytes += len(data)
            if timed:
                latencies += [now - int(stamp) for stamp in STAMP.findall(data)]
            reader.tail = (reader.tail + data[-END_BYTES:])[-END_BYTES:]  # its end may come in two pieces
            if not data and not reader.raw:
                _refuse(b"the connection was closed before the end")
            if not data or END in reader.tail:
                heard.last = now
                poll.unregister(fd)
                del by_fd[fd]
    poll.close()
    if latencies:
        heard.p50, heard.p99 = (percentile(latencies, part) / 1e6 for part in (0.5, 0.99))
        heard.worst = max(latencies) / 1e6
    return heard


def _refuse_silence(missing: int) -> list[tuple[int, int]]:
    raise SystemExit(f"cannot go on: {missing} readers have heard nothing for {WAIT_SECONDS} s")


def main(path: str, run_id: str, number: str, *words: str) -> None:
    """The process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    readers = [Reader(path, run_id) for _ in range(int(number))]
    for reader in readers:
        reader.wait_subscribed()
    print("ready", flush=True)  # noqa: T201 - whoever started us reads it
    if "mute" in words:
        sys.stdin.read()
        return
    with contextlib.suppress(BrokenPipeError):
        print(msgspec.json.encode(listen(readers, timed="timed" in words)).decode(), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
