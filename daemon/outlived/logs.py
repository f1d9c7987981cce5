"""How the daemon logs: one line per thing worth knowing, to stderr.

A leaf. Human lines on a terminal, JSON elsewhere. No input or output text of runs at info level.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any

import msgspec
import structlog


class _Stderr:
    """Where lines go, one write each. A terminal or a pipe that went away takes the lines with it, never the daemon."""

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")

    debug = info = warning = error = critical = msg


def _render_json(line: Any, **_: Any) -> str:
    return _encode(line).decode()


_encode = msgspec.json.Encoder(enc_hook=repr).encode


def open_logs() -> None:
    """Configure structlog once, at start."""
    on_terminal = sys.stderr.isatty()
    renderer = (
        structlog.dev.ConsoleRenderer(colors=True)
        if on_terminal
        else structlog.processors.JSONRenderer(_render_json)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not on_terminal),
            *([] if on_terminal else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=True,
    )
