"""Waiting for conditions: the only places of the tests where time passes on purpose."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.01


def wait_until(condition: Callable[[], T], seconds: float = 15.0, what: str = "") -> T:
    """Return the condition's first true value; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        time.sleep(PAUSE)
