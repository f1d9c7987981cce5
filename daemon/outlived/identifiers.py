"""UUIDv7: ids that sort by the time they were made, whichever daemon made them. A leaf.

48 bits of milliseconds, then 12 bits that count within one millisecond, then 62 random bits (RFC 9562, method 1
of section 6.2): ids made by one process rise strictly, so "newest first" by id is newest first. Where this machine's
clock is wrong, ids go by the database's (``follow_clock``): daemons of one database agree about what is newest.
"""

from __future__ import annotations

import os
import time

_COUNT_BITS = 12
_TOLERATED_MILLIS = 1000


class _Clock:
    """The last (millisecond, count) handed out, as one number; the daemon has one thread that makes ids.

    ``behind``: by how many milliseconds this machine's clock is wrong, as far as that matters.
    """

    last = 0
    behind = 0


def read_millis() -> int:
    """This machine's clock, right or wrong: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def follow_clock(now: float, asked: int) -> None:
    """The database says it was ``now``, in seconds since 1970, at some moment since ``asked`` by this machine's clock.

    However long the answer took, a clock that was right then is right. Ids made until now by one that turns out wrong do
    not keep the next ones from having the right time.
    """
    answered = read_millis()
    for behind in (_Clock.behind, 0, round(now * 1000) - answered):
        if asked + behind - _TOLERATED_MILLIS <= now * 1000 <= answered + behind + _TOLERATED_MILLIS:
            break
    if behind != _Clock.behind:
        _Clock.behind, _Clock.last = behind, 0


def make_id() -> str:
    """A new UUIDv7, lower case."""
    stamp = read_millis() + _Clock.behind << _COUNT_BITS
    _Clock.last = max(stamp, _Clock.last + 1)
    millis, count = _Clock.last >> _COUNT_BITS, _Clock.last & ((1 << _COUNT_BITS) - 1)
    random_bits = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    value = millis << 80 | 0x7 << 76 | count << 64 | 0b10 << 62 | random_bits
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
