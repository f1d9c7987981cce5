"""UUIDv7: ids that sort by the time they were made. A leaf.

48 bits of milliseconds, then 12 bits that count within one millisecond, then 62 random bits (RFC 9562, method 1
of section 6.2): ids made by one process rise strictly, so "newest first" by id is newest first.
"""

from __future__ import annotations

import os
import time

_COUNT_BITS = 12


class _Clock:
    """The last (millisecond, count) handed out, as one number; the daemon has one thread that makes ids."""

    last = 0


def make_id() -> str:
    """A new UUIDv7, lower case."""
    stamp = time.time_ns() // 1_000_000 << _COUNT_BITS
    _Clock.last = max(stamp, _Clock.last + 1)
    millis, count = _Clock.last >> _COUNT_BITS, _Clock.last & ((1 << _COUNT_BITS) - 1)
    random_bits = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    value = millis << 80 | 0x7 << 76 | count << 64 | 0b10 << 62 | random_bits
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
