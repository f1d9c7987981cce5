"""Agents of pydantic-ai on its own test models; tests import them as a user's module would be."""

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.models.function import DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel

tested = Agent(TestModel(), instructions="Be brief.")


@tested.tool_plain
def look(at: str) -> str:
    """A tool that is no coroutine."""
    return f"seen {at}"


async def act(messages, info):
    """Does what the newest prompt says, a piece at a time."""
    said = [part.content for message in messages for part in message.parts if part.part_kind == "user-prompt"]
    returned = [part for message in messages for part in message.parts if part.part_kind == "tool-return"]
    match said[-1]:
        case "think":
            yield {0: DeltaThinkingPart(content="Let me ")}
            yield {0: DeltaThinkingPart(content="think.")}
            yield "Thought."
        case "recall":
            tools = [f"{part.tool_name}={part.content}" for part in returned]
            yield " | ".join([*map(str, said[:-1]), *tools])
        case "retry" if len(messages) < 3:
            yield "First "
            yield {1: DeltaToolCall(name="fuss", json_args="{}", tool_call_id="f1")}
        case "stall":
            yield "So far"
            await asyncio.sleep(1000)
        case "fail":
            yield "So far"
            raise ValueError("no model")
        case "call" if messages[-1].parts[0].part_kind == "user-prompt":
            yield {0: DeltaToolCall(name="look", json_args='{"at": "x"}', tool_call_id="c1")}
        case text:
            yield "You "
            yield f"said: {text}"


acting = Agent(FunctionModel(stream_function=act))
acting.tool_plain(look)


@acting.tool_plain
async def fuss() -> str:
    raise ModelRetry("not like that")


class City(BaseModel):
    """An answer that is no text."""

    name: str
    size: int


structured = Agent(TestModel(), output_type=City)
no_agent = 5
