"""Show a run's events as they come, and end with the run's exit code.

1. What the agent says goes to stdout, byte for byte; what it logs, thinks and calls goes to stderr.
2. Ctrl-C leaves and does not stop the run.

Not here: reconnecting (``outlive.tail``), the status line (``status.py``).
"""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from typing import Any

from outlive.cli import outcome
from outlive.cli.arguments import Options
from outlive.cli.layout import clock, seconds_between
from outlive.cli.render import short_id
from outlive.cli.screen import Screen
from outlive.cli.status import status
from outlive.client import Client
from outlive.connection import ConnectionLost
from outlive.strict_json import encode
from outlive.wire import Event, Run

_LONGEST_LINE = 200


async def follow(
    client: Client,
    run_id: str,
    screen: Screen,
    options: Options,
    *,
    after_seq: int = 0,
    live: bool = True,
    leaving: str = "Ctrl-C leaves, the run goes on",
) -> int:
    """Show events after ``after_seq`` until the run is settled (``live=False``: until now).

    ``leaving`` tells people what Ctrl-C will do.
    """
    settled: dict[str, Any] | None = None
    tail = client.tail(run_id, after_seq=after_seq, follow=live)
    try:
        async with tail:
            assert tail.tailed is not None, "a tail that was entered has been answered"
            view = _View(screen, tail.tailed.run, leaving)
            shown = live and not options.json and tail.tailed.run.finished_at is None
            async with status(screen, view.words) if shown else nullcontext():
                async for event in tail:
                    if options.json:
                        screen.value(event)
                    else:
                        view.show(event)
                    if event.type == "run.settled":
                        settled = event.data
    except ConnectionLost as error:
        error.add_note(f"go on with: {way_back(options, run_id, tail.last_seq or 0)}")
        raise
    screen.farewell = None
    if settled is None:
        run = (await client.get(run_id)).run
        assert run is not None, "run/get answers 404 for what is not there"
        settled = {"status": run.status, "error": run.error, "stop_reason": run.stop_reason}
    return _end(run_id, settled, screen)


def way_back(options: Options, run_id: str, after_seq: int = 0) -> str:
    """The command line that shows this run again, as it works in this shell."""
    words = ["outlive", "tail", short_id(run_id)]
    if after_seq:
        words += ["--after", str(after_seq)]
    if options.socket:
        words += ["--socket", options.socket]
    return shlex.join(words)


class _View:
    """What is on the screen: which kind of text came last, and what the run is doing."""

    def __init__(self, screen: Screen, run: Run, leaving: str) -> None:
        self._screen = screen
        self._since = run.started_at or run.created_at
        self._leaving = leaving
        self._doing = ""
        self._thinking = False

    def words(self) -> str:
        """The status line."""
        lasted = clock(seconds_between(self._since))
        return " · ".join(part for part in (lasted, self._doing, self._leaving) if part)

    def show(self, event: Event) -> None:
        data = event.data
        if self._thinking and event.type != "reasoning.delta":
            self._thinking = False
            self._screen.finish_line()
        match event.type:
            case "text.delta":
                self._screen.text(data.get("text", ""))
            case "log":
                self._screen.murmur(data.get("text", ""))
            case "reasoning.delta":
                self._think(data.get("text", ""))
            case "tool.call":
                self._doing = str(data.get("name"))
                self._screen.say(f"calls {data.get('name')} {_brief(data.get('input'))}", "dim")
            case "tool.result":
                self._doing = ""
                got = "got an error:" if data.get("is_error") else "got"
                self._screen.say(f"{got} {_brief(data.get('output'))}", "dim")
            case _:
                self._show_life(event.type, data)

    def _show_life(self, type_: str, data: dict[str, Any]) -> None:
        """What happens to the run, beside what its agent does."""
        match type_:
            case "run.waiting":
                self._doing = "waiting for a person"
            case "run.resumed":
                self._doing = ""
            case "run.released":
                self._doing = "waiting for a daemon"
                why = "stops" if data.get("reason") == "shutdown" else "died"
                self._screen.say(f"its daemon {why}; the next one that can begins it again", "dim")
            case "run.started" if data.get("attempt", 1) > 1:
                self._doing = ""
                self._screen.say(f"attempt {data['attempt']}", "dim")
            case "run.stop_requested":
                self._doing = "stopping"
                self._screen.say(f"a stop was asked for by {data.get('by')}", "dim")

    def _think(self, text: str) -> None:
        if not self._thinking:
            self._thinking = True
            self._screen.finish_line()
        self._screen.murmur(text)


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else encode(value).decode()
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…"


def _end(run_id: str, settled: dict[str, Any], screen: Screen) -> int:
    screen.finish_line()
    code = outcome.of_run(settled["status"])
    if code != outcome.SUCCEEDED or screen.has_reader():
        error, reason = settled.get("error"), settled.get("stop_reason")
        screen.say(outcome.describe_end(short_id(run_id), settled["status"], error, reason))
    return code
