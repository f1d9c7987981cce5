"""How the daemon logs: one line per thing worth knowing.

A leaf. 1. Human lines on a terminal; under systemd entries of the journal with fields of their own (``RUN_ID=``,
``CHAT_ID=``, ``PRIORITY=``); JSON on stderr elsewhere. 2. No input or output text of runs at info level or above.
   What is logged by a run's own task carries its id and chat (``execute.py`` binds them).
3. A sentence that comes again and again is said ``OFTEN`` times in ``WINDOW_SECONDS``; how often it was not said is told
with the next one. Nothing that a client does can make the log grow without bound. 4. Logging never stops the daemon.

Not here: the journal's protocol (``journald.py``). What the fields mean: docs/operations.md.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from time import monotonic
from typing import Any

import attrs
import msgspec
import structlog

from outlived.journald import Journal, name_field

OFTEN = 200
WINDOW_SECONDS = 60.0
SENTENCES = 1000

_PRIORITIES = {"critical": "2", "error": "3", "warning": "4", "info": "6", "debug": "7"}
_LONG = ("exception", "stack")
"""Fields of several lines: they stand below the sentence."""


class _Stderr:
    """Where lines go, one write each. A terminal or a pipe that went away takes the lines with it, never the daemon."""

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")

    debug = info = warning = error = critical = msg


@attrs.define(eq=False)
class _ToJournal:
    """Entries of the journal, from what ``_write_fields`` made."""

    journal: Journal

    def msg(self, fields: Mapping[str, str]) -> None:
        self.journal.send(fields)

    debug = info = warning = error = critical = msg


@attrs.define
class _Said:
    """How often a sentence was said since ``began``, and how often it was not."""

    began: float
    said: int = 0
    unsaid: int = 0


class Limiter:
    """A structlog processor: bounds how often a sentence is said."""

    def __init__(self) -> None:
        self._sentences: dict[str, _Said] = {}

    def __call__(
        self, _logger: Any, _method: str, line: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        now = monotonic()
        said = self._find(str(line.get("event")), now)
        if now - said.began >= WINDOW_SECONDS:
            said.began, said.said = now, 0
        if said.said >= OFTEN:
            said.unsaid += 1
            raise structlog.DropEvent
        said.said += 1
        if said.unsaid:
            line["not_said"] = said.unsaid + int(line.get("not_said", 0))
            said.unsaid = 0
        return line

    def _find(self, sentence: str, now: float) -> _Said:
        if sentence not in self._sentences and len(self._sentences) >= SENTENCES:
            self._sentences.clear()  # sentences are written in our code; so many have values in them
        return self._sentences.setdefault(sentence, _Said(now))


def _render_json(line: Any, **_: Any) -> str:
    return _encode(line).decode()


_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _write_fields(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> tuple[Any, ...]:
    """An entry of the journal: a message that says all in a line, and each value in a field of its own."""
    sentence, level = str(line.pop("event", "")), str(line.pop("level", "info"))
    values = {name: _write_value(value) for name, value in line.items()}
    shown = [sentence, *(f"{name}={value}" for name, value in values.items() if name not in _LONG)]
    below = [values[name] for name in _LONG if name in values]
    fields = {
        "MESSAGE": "\n".join([" ".join(shown), *below]),
        "PRIORITY": _PRIORITIES.get(level, "6"),
        "SYSLOG_IDENTIFIER": "outlived",
        "SENTENCE": sentence,
    }
    return (fields | {name_field(name): value for name, value in values.items() if name not in _LONG},), {}


def _write_value(value: Any) -> str:
    return value if isinstance(value, str) else _render_json(value)


def open_logs(*, to_journal: bool = False) -> None:
    """Configure structlog once, at start. ``to_journal``: stderr is the journal's, so we speak to it ourselves."""
    on_terminal = sys.stderr.isatty()
    journal = Journal() if to_journal else None
    if journal is not None and not journal.is_there():
        journal.close()
        journal = None
    if journal is not None:
        renderers: list[Any] = [structlog.processors.format_exc_info, _write_fields]
    elif on_terminal:
        renderers = [
            structlog.processors.TimeStamper(fmt="iso", utc=False),
            structlog.dev.ConsoleRenderer(colors=True),
        ]
    else:
        renderers = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(_render_json),
        ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            Limiter(),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _ToJournal(journal) if journal is not None else _Stderr(),
        cache_logger_on_first_use=True,
    )
