"""What a step returns, as it is kept: JSON, and what that JSON is when it is read again.

1. The value that a step gives its caller is always the one read from what is kept, at the first attempt too: the
   next attempt sees the same.
2. A value that JSON does not have, or not as it is (a set, bytes, an object, NaN, a number as a key), is refused and
   never changed into another one. A tuple comes back as a list.
3. Every string comes back as it was, whatever characters it has.

Not here: what events may hold (``text.py``), where results are kept (``store/sql/journal.sql``).
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_RESULT_BYTES = 256 << 10
MAX_DEPTH = 64


def write_result(value: Any) -> str:
    """The JSON text to keep. Raises TypeError for what is no JSON, ValueError for what is too large."""
    try:
        _check(value, "", MAX_DEPTH)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate: no table takes it, but its escape is plain text
        text = json.dumps(value, separators=(",", ":"))
        size = len(text)
    if size > MAX_RESULT_BYTES:
        raise ValueError(f"it is {size} bytes of JSON, and at most {MAX_RESULT_BYTES} are kept")
    return text


def read_result(text: str) -> Any:
    """The value that was kept."""
    return json.loads(text)


def _check(value: Any, path: str, depth: int) -> None:
    """Raises TypeError naming the first thing that is not JSON."""
    if value is None or isinstance(value, str | bool | int):
        return
    if depth < 0:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels, or contains itself")
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", depth - 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise TypeError(f"it has a key that is no string: {_name(name)}{_place(path)}")
            _check(item, f"{path}[{name[:40]!r}]", depth - 1)
    elif not isinstance(value, float) or not math.isfinite(value):
        raise TypeError(f"it is no JSON value: {_name(value)}{_place(path)}")


def _name(value: Any) -> str:
    return repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"


def _place(path: str) -> str:
    return f" at {path[:200]}" if path else ""
