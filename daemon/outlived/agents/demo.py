"""The built-in agent ``demo``: streams its input back, a word at a time. It needs no configuration.

``metadata.demo`` may set ``delay_ms`` (between words), ``repeat`` (times over the input) and ``fail`` (a message
to fail with after the last word).
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

import attrs
import trio
from msgspec import Meta

from outlive.errors import InvalidParams
from outlive.strict_json import convert_params
from outlived.agents import AgentFailed, Assignment, AssignmentRefused, Desk


@attrs.frozen
class DemoOptions:
    """``metadata.demo``."""

    delay_ms: Annotated[float, Meta(ge=0, le=3_600_000)] = 30
    repeat: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    fail: str | None = None


@attrs.frozen
class DemoAgent:
    """Streams its input back."""

    kind: ClassVar[str] = "demo"
    description: str = "Streams its input back, a word at a time"

    def check(self) -> None:
        """It can always be started."""

    def check_assignment(self, assignment: Assignment) -> None:
        _read_options(assignment)

    async def perform(self, desk: Desk) -> None:
        options = _read_options(desk.assignment)
        await desk.step("demo", _stream, desk, options)
        if options.fail is not None:
            raise AgentFailed("exception", options.fail, exception="DemoFailure")


def _read_options(assignment: Assignment) -> DemoOptions:
    try:
        return convert_params(DemoOptions, assignment.metadata.get("demo", {}))
    except InvalidParams as error:
        path = "$.metadata.demo" + str(error.data["path"]).removeprefix("$")
        raise AssignmentRefused(f"cannot accept {path}: {error.message.rpartition(': ')[2]}", path) from error


async def _stream(desk: Desk, options: DemoOptions) -> None:
    words = re.findall(r"\S+\s*|\s+", desk.assignment.input)
    for turn in range(options.repeat):
        for number, word in enumerate(words):
            if turn or number:
                await trio.sleep(options.delay_ms / 1000)
            await desk.emit_text(word)
