"""What agents say, made storable: text that any table and any JSON reader takes.

1. NUL and lone surrogates become U+FFFD.
2. A value that JSON does not have is refused, never changed into another one.
3. An exception is asked what it says of itself, and believed in nothing: not even that it can say it.

Not here: how large an event may be (``supervisor/desk.py``), JSON of clients (``outlive/strict_json.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
EXPLANATION_CHARS = 2000
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Text without NUL and lone surrogates."""
    text = text.replace("\0", REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub(REPLACEMENT, text)
    return text


def count_replaced(text: str, cleaned: str) -> int:
    """How many characters of a text ``clean`` has replaced."""
    return sum(before != after for before, after in zip(text, cleaned, strict=True))


def clean_json(value: Any, clean: Callable[[str], str] = clean) -> Any:
    """A JSON value whose every string is clean. Raises TypeError for what JSON does not have."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(name)): clean_json(item, clean) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item, clean) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    what = repr(value) if isinstance(value, float) else f"a {type(value).__name__}"
    raise TypeError(f"cannot store {what} in an event: it is no JSON value")


def explain(error: BaseException) -> str:
    """What an exception says of itself, clean and of bounded length; empty if it says nothing."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - somebody else's __str__ may do anything
        return ""
    return clean(text[:EXPLANATION_CHARS])
