"""Show a run's events as they come, and end with the run's exit code.

1. What the agent says goes to stdout, byte for byte; what it logs, thinks and calls goes to stderr.
2. Ctrl-C leaves and does not stop the run.

Not here: reconnecting (``outlive.tail``).
"""

from __future__ import annotations

from typing import Any

from outlive.cli import outcome
from outlive.cli.render import short_id
from outlive.cli.screen import Screen
from outlive.client import Client
from outlive.strict_json import encode
from outlive.wire import Event

_LONGEST_LINE = 200


async def follow(
    client: Client, run_id: str, screen: Screen, *, json: bool, after_seq: int = 0, live: bool = True
) -> int:
    """Show events after ``after_seq`` until the run is settled (``live=False``: until now)."""
    settled: dict[str, Any] | None = None
    async with client.tail(run_id, after_seq=after_seq, follow=live) as tail:
        async for event in tail:
            if json:
                screen.value(event)
            else:
                _show(event, screen)
            if event.type == "run.settled":
                settled = event.data
    screen.farewell = None
    if settled is None:
        run = (await client.get(run_id)).run
        assert run is not None, "run/get answers 404 for what is not there"
        settled = {"status": run.status, "error": run.error, "stop_reason": run.stop_reason}
    return _end(run_id, settled, screen)


def _show(event: Event, screen: Screen) -> None:
    data = event.data
    match event.type:
        case "text.delta":
            screen.text(data.get("text", ""))
        case "log" | "reasoning.delta":
            screen.murmur(data.get("text", ""))
        case "tool.call":
            screen.say(f"calls {data.get('name')} {_brief(data.get('input'))}")
        case "tool.result":
            screen.say(f"{'got an error' if data.get('is_error') else 'got'} {_brief(data.get('output'))}")
        case "run.stop_requested":
            screen.say(f"a stop was asked for by {data.get('by')}")


def _brief(value: object) -> str:
    text = encode(value).decode()
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…"


def _end(run_id: str, settled: dict[str, Any], screen: Screen) -> int:
    screen.finish_line()
    code = outcome.of_run(settled["status"])
    if code != outcome.SUCCEEDED or screen.has_reader():
        error, reason = settled.get("error"), settled.get("stop_reason")
        screen.say(outcome.describe_end(short_id(run_id), settled["status"], error, reason))
    return code
