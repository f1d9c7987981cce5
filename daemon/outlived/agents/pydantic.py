"""``pydantic-ai`` agents: an ``Agent`` of pydantic-ai, by ``target``, or made of ``model`` and ``instructions`` here.

1. pydantic-ai is imported when such an agent is first needed; a daemon without one does without it.
2. It streams: text, thought, calls of tools and their results, as they happen; its usage is told at the end, however
   the turn ends, and counts what was asked until then.
3. It gets the chat's history as messages of its own: what was said, and tools that were called and have answered.
4. One made here is made anew for each turn and closed after it: its connections belong to the turn's loop. One by its
   target is shared by its turns, and opens and closes what it uses as it likes.
5. The turn is one step, named ``turn``; it runs under trio-asyncio like any asyncio agent (``aio.py``).
6. ``base_url`` is any server compatible with OpenAI's chat completions: vLLM, Ollama, llama.cpp.

Not here: agents that use pydantic-ai by themselves, with deps, several agents, or a graph: those are ``python`` agents.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from outlive import wire
from outlive.agent import find_target
from outlived.agents import AgentBroken, AgentFailed, Assignment, Desk
from outlived.rules.text import explain

if TYPE_CHECKING:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.usage import RunUsage

    from outlived.agents.aio import AsyncioDesk

STEP = "turn"
_FAILED = ("failed", "retried", "denied", "interrupted")
"""Outcomes of a tool that has no result to work with."""
INSTALL = "pip install 'outlive[pydantic-ai]'"


@attrs.define(eq=False)
class PydanticAgent:
    """``target``, or else ``model`` (and where it is: ``base_url``, and the variable that has its key)."""

    kind: ClassVar[str] = "pydantic-ai"

    target: str | None = None
    model: str | None = None
    instructions: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    description: str = ""
    _agent: Agent[None, Any] | None = attrs.field(default=None, init=False)

    def check(self) -> None:
        self._open()

    def check_assignment(self, assignment: Assignment) -> None:  # noqa: ARG002 - any assignment will do
        self._open()

    async def perform(self, desk: Desk) -> None:
        from outlived.agents.aio import perform

        agent = self._open()
        await desk.read_history()

        async def act(desk: AsyncioDesk) -> None:
            if self.target is not None:
                await desk.step(STEP, _have_turn, agent, desk)
                return
            async with self._make() as own:
                await desk.step(STEP, _have_turn, own, desk)

        await perform(act, desk)

    def _open(self) -> Agent[None, Any]:
        if self._agent is None:
            try:
                self._agent = self._load() if self.target is not None else self._make()
            except AgentBroken:
                raise
            except (
                BaseException
            ) as error:  # whatever a module does while it is imported, it is the module's fault
                if isinstance(error, KeyboardInterrupt):
                    raise
                raise AgentBroken(self._complain(error)) from error
        return self._agent

    def _complain(self, error: BaseException) -> str:
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "pydantic_ai":
            return f"cannot use pydantic-ai: it is not installed here; {INSTALL}"
        what = f"import {self.target}" if self.target is not None else f"make an agent of model {self.model}"
        return f"cannot {what}: {type(error).__name__}: {explain(error)}"

    def _load(self) -> Agent[None, Any]:
        from pydantic_ai import Agent

        assert self.target is not None
        found = find_target(self.target)
        if not isinstance(found, Agent):
            raise AgentBroken(f"cannot use {self.target}: it is no Agent of pydantic-ai")
        return found

    def _make(self) -> Agent[None, Any]:
        from pydantic_ai import Agent

        assert self.model is not None
        instructions = self.instructions
        if self.base_url is None:
            return Agent(self.model, instructions=instructions)
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        key = os.environ.get(self.api_key_env) if self.api_key_env is not None else None
        if self.api_key_env is not None and not key:
            raise AgentBroken(f"cannot use model {self.model}: {self.api_key_env} is not set for the daemon")
        provider = OpenAIProvider(base_url=self.base_url, api_key=key or "none")
        return Agent(OpenAIChatModel(self.model, provider=provider), instructions=instructions)


async def _have_turn(agent: Agent[None, Any], desk: AsyncioDesk) -> None:
    from pydantic_ai.usage import RunUsage

    usage, voice = RunUsage(), Voice(desk)
    try:
        history = read_history(desk.history)
        async with agent.run_stream_events(desk.input, message_history=history, usage=usage) as events:
            async for event in events:
                await voice.tell(event)
    finally:
        if report := _count(usage):
            with suppress(AgentFailed):
                await desk.usage(**report)


def _count(usage: RunUsage) -> dict[str, int]:
    """Our fields of its usage; nothing if nothing was asked."""
    if not usage.requests:
        return {}
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cache_read_tokens,
    }


@attrs.define
class Voice:
    """Says at the desk what an agent of pydantic-ai does. ``_spoke``: it has said something."""

    desk: AsyncioDesk
    _spoke: bool = False

    async def tell(self, event: Any) -> None:
        """One event of its stream; kinds that are not known are passed by."""
        match type(event).__name__:
            case "PartStartEvent":
                await self._begin(event.part)
            case "PartDeltaEvent":
                await self._go_on(event.delta)
            case "FunctionToolCallEvent" | "OutputToolCallEvent":
                part = event.part
                await self.desk.tool_call(part.tool_call_id, part.tool_name, _plain(_read_arguments(part)))
            case "FunctionToolResultEvent" | "OutputToolResultEvent":
                part = event.part
                failed = part.part_kind == "retry-prompt" or getattr(part, "outcome", "") in _FAILED
                await self.desk.tool_result(part.tool_call_id, _plain(part.content), is_error=failed)
            case "AgentRunResultEvent":
                await self._conclude(event.result.output)

    async def _begin(self, part: Any) -> None:
        match part.part_kind:
            case "text":
                between = "\n\n" if self._spoke and part.content else ""
                await self._say(between + part.content)
            case "thinking" if part.content:
                await self.desk.emit_reasoning(part.content)

    async def _go_on(self, delta: Any) -> None:
        match delta.part_delta_kind:
            case "text":
                await self._say(delta.content_delta)
            case "thinking" if delta.content_delta:
                await self.desk.emit_reasoning(delta.content_delta)

    async def _say(self, text: str) -> None:
        if text:
            self._spoke = True
            await self.desk.emit_text(text)

    async def _conclude(self, output: Any) -> None:
        """An answer that is no text is shown as data."""
        if not isinstance(output, str):
            await self.desk.data("output", _plain(output))
        elif not self._spoke:
            await self._say(output)


def _read_arguments(part: Any) -> Any:
    try:
        return part.args_as_dict()
    except Exception:  # noqa: BLE001 - the model wrote them: they may be anything
        return part.args


def _plain(value: Any) -> Any:
    """A value as JSON has it; what it cannot have is told by its name."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, serialize_unknown=True, inf_nan_mode="strings")


def read_history(messages: Iterable[wire.Message]) -> list[ModelMessage]:
    """A chat's messages as pydantic-ai's: what was said, and each tool that has answered, call and result together."""
    from pydantic_ai.messages import ModelRequest, UserPromptPart

    history: list[ModelMessage] = []
    for message in messages:
        if message.role == "user":
            history.append(ModelRequest([UserPromptPart(message.content)]))
        elif message.role == "assistant":
            history += _read_answer(message.parts)
    return history


def _read_answer(parts: list[dict[str, Any]]) -> list[ModelMessage]:
    from pydantic_ai.messages import (
        ModelRequest,
        ModelResponse,
        ModelResponsePart,
        TextPart,
        ToolCallPart,
        ToolReturnPart,
    )

    answer: list[ModelMessage] = []
    said: list[ModelResponsePart] = []
    for part in parts:
        if part.get("type") == "text":
            said.append(TextPart(part["text"]))
        elif part.get("state") in {"output-available", "output-error"}:
            name, call_id = str(part["type"]).removeprefix("tool-"), str(part.get("toolCallId"))
            given = part.get("input")
            said.append(ToolCallPart(name, given if isinstance(given, dict) else {"input": given}, call_id))
            output = part.get("output") if part["state"] == "output-available" else part.get("errorText")
            answer += [ModelResponse(said), ModelRequest([ToolReturnPart(name, output, call_id)])]
            said = []
    return [*answer, ModelResponse(said)] if said else answer
