"""Pages are bounded in bytes as well as in rows: a few very large rows make a short page."""

from __future__ import annotations

from typing import TypeVar

from outlive.strict_json import encode

T = TypeVar("T")

PAGE_BYTES = 8 << 20


def cut_page(rows: list[T], limit: int) -> tuple[list[T], bool]:
    """The rows of one page, at least one, and whether there are more. ``rows`` holds one more than ``limit``."""
    size = 0
    for count, row in enumerate(rows[:limit]):
        size += len(encode(row))
        if count and size > PAGE_BYTES:
            return rows[:count], True
    return rows[:limit], len(rows) > limit
