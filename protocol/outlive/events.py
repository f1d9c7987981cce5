"""The data of every type of event, version 1: what an event's ``data`` holds, by its ``type``.

::

    async for event in client.tail(run):
        match read_data(event):
            case TextDelta(text):
                print(text, end="")
            case Settled(status="failed", error=error):
                print(error)

1. New types and new fields may come: a type that is not in ``EVENTS`` reads as None, other fields are ignored.
2. A run's log begins with Created, and ends, once the run is settled, with its only Settled.

Not here: the event around the data (``wire.Event``), which events may follow which (docs/lifecycle.md).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs
import msgspec

from outlive import wire
from outlive.peer import BrokenPeer


@attrs.frozen(slots=False)
class Created:
    """The run is durable; always event 1. ``agent`` is null for an ad-hoc command."""

    trigger: str
    agent: str | None
    status: wire.Status
    owner: str | None
    epoch: int


@attrs.frozen(slots=False)
class Started:
    """An attempt begins: the agent is started."""

    attempt: int
    owner: str
    epoch: int


@attrs.frozen(slots=False)
class Adopted:
    """Another owner has taken the run over."""

    owner: str
    epoch: int


@attrs.frozen(slots=False)
class Released:
    """The run has no owner now; a next one starts its next attempt. ``reason``: ``owner_lost`` or ``shutdown``."""

    reason: str


@attrs.frozen(slots=False)
class Promoted:
    """A queued run has got its chat's slot."""

    owner: str
    epoch: int


@attrs.frozen(slots=False)
class Waiting:
    """The run is parked for a person."""


@attrs.frozen(slots=False)
class Resumed:
    """The run goes on after it was parked."""


@attrs.frozen(slots=False)
class StopRequested:
    """Somebody has asked for the run's end. ``by`` is ``uid:1000`` or ``daemon``."""

    by: str
    reason: str | None
    requested_at: wire.Timestamp


@attrs.frozen(slots=False)
class UsageReport:
    """What was consumed since the last report. Reports add up to the run's ``usage``."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cost_micro_usd: int | None = None


@attrs.frozen(slots=False)
class StepStarted:
    """A step begins. Steps are numbered from 1 in the order of their calls; a next attempt skips those that are done."""

    step: int
    name: str


@attrs.frozen(slots=False)
class StepFinished:
    """A step is done, once in all attempts. A step that was cut short or failed has no such event."""

    step: int
    name: str
    usage: UsageReport | None = None


@attrs.frozen(slots=False)
class TextDelta:
    """The answer grows by ``text``. All of them together are the message's content, up to its cap."""

    text: str


@attrs.frozen(slots=False)
class ReasoningDelta:
    """The agent thinks aloud."""

    text: str


@attrs.frozen(slots=False)
class ToolCall:
    """The agent calls a tool. ``truncated``: the input was too large and is the beginning of its text."""

    tool_call_id: str
    name: str
    input: Any
    truncated: bool = False


@attrs.frozen(slots=False)
class ToolResult:
    """A tool has answered. ``truncated``: the output was too large and is the beginning of its text."""

    tool_call_id: str
    output: Any
    is_error: bool
    truncated: bool = False


@attrs.frozen(slots=False)
class Log:
    """The agent, or its command's stderr, has said something that is no part of the answer."""

    stream: str
    text: str


@attrs.frozen(slots=False)
class Data:
    """The agent shows a value. ``truncated``: it was too large and is the beginning of its text."""

    name: str
    value: Any
    truncated: bool = False


@attrs.frozen(slots=False)
class Settled:
    """The run has ended; always the last event. ``error`` is null unless it failed or was aborted unasked."""

    status: wire.End
    error: wire.RunError | None
    stop_requested_at: wire.Timestamp | None
    stop_reason: str | None


EventData: TypeAlias = (
    Created | Started | Adopted | Released | Promoted | Waiting | Resumed | StopRequested | StepStarted | StepFinished
    | UsageReport | TextDelta | ReasoningDelta | ToolCall | ToolResult | Log | Data | Settled
)  # fmt: skip

EVENTS: dict[str, type[EventData]] = {
    "run.created": Created,
    "run.started": Started,
    "run.adopted": Adopted,
    "run.released": Released,
    "run.promoted": Promoted,
    "run.waiting": Waiting,
    "run.resumed": Resumed,
    "run.stop_requested": StopRequested,
    "step.started": StepStarted,
    "step.finished": StepFinished,
    "usage": UsageReport,
    "text.delta": TextDelta,
    "reasoning.delta": ReasoningDelta,
    "tool.call": ToolCall,
    "tool.result": ToolResult,
    "log": Log,
    "data": Data,
    "run.settled": Settled,
}


def read_data(event: wire.Event) -> EventData | None:
    """The event's data as its class; None for a type that this version does not know. Raises BrokenPeer."""
    kind = EVENTS.get(event.type)
    if kind is None:
        return None
    try:
        return msgspec.convert(event.data, kind)
    except msgspec.ValidationError as error:
        raise BrokenPeer(f"cannot understand event {event.seq} of run {event.run_id}: {error}") from error
