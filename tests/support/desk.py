"""A desk that remembers: for tests of agents, which know of no journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import attrs
import trio

from outlive import wire
from outlived.agents import Agent, Assignment, Said, Session
from outlived.agents.workshop import Workshop
from outlived.identifiers import make_id
from outlived.store.adoption import Position
from outlived.store.stops import RunProcess
from tests.support.workshops import open_workshop

T = TypeVar("T")


@attrs.define(eq=False)
class RememberingDesk:
    """Everything an agent did, in order. ``room`` and ``durable`` hold it up while they are not set."""

    assignment: Assignment
    grace_seconds: float = 20.0
    did: list[tuple[Any, ...]] = attrs.Factory(list)
    process: RunProcess | None = None
    workshop: Workshop | None = None
    position: Position = attrs.Factory(Position)
    leaving: bool = False
    ended: bool = False
    own_error: dict[str, Any] | None = None
    hurry: trio.Event = attrs.Factory(trio.Event)
    room: trio.Event = attrs.Factory(trio.Event)
    durable: trio.Event = attrs.Factory(trio.Event)
    refuse: BaseException | None = None
    history: list[wire.Message] = attrs.Factory(list)
    session: Session | None = None
    _changed: trio.Event = attrs.Factory(trio.Event)

    def _note(self, *what: Any) -> None:
        self.did.append(what)
        self._changed.set()

    async def _take(self, *what: Any) -> None:
        """As the real desk: what is said is taken once there is room."""
        if self.refuse is not None:
            raise self.refuse
        await self.room.wait()
        self._note(*what)

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(what[1] for what in self.did if what[0] == "text")

    @property
    def logged(self) -> str:
        """What was logged so far."""
        return "".join(what[2] for what in self.did if what[0] == "log")

    async def wait_text(self, text: str, seconds: float = 20.0) -> None:
        """Return once ``text`` is part of the answer."""
        with trio.fail_after(seconds):
            while text not in self.text:
                self._changed = trio.Event()
                await self._changed.wait()

    async def read_history(self) -> list[wire.Message]:
        return self.history

    async def read_first_step(self) -> int:
        return 1

    async def read_session(self) -> Session | None:
        return self.session

    def keep_session(self, session: Session | None) -> None:
        self._note("session", session)
        self.session = session

    @property
    def input(self) -> str:
        return self.assignment.input

    async def wait_hurry(self) -> None:
        await self.hurry.wait()

    async def emit_text(self, text: str) -> None:
        await self._take("text", text)

    async def emit_reasoning(self, text: str) -> None:
        await self._take("reasoning", text)

    async def step(self, name: str, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        self._note("step.started", name)
        await trio.lowlevel.checkpoint()
        result = await fn(*args)
        self._note("step.finished", name)
        await self.durable.wait()
        return result

    async def tool_call(self, tool_call_id: str, name: str, input: Any) -> None:  # noqa: A002
        await self._take("tool.call", tool_call_id, name, input)

    async def tool_result(self, tool_call_id: str, output: Any, *, is_error: bool = False) -> None:
        await self._take("tool.result", tool_call_id, output, is_error)

    async def data(self, name: str, value: Any) -> None:
        await self._take("data", name, value)

    async def log(self, stream: str, text: str) -> None:
        await self._take("log", stream, text)

    async def usage(self, **report: int) -> None:
        await self._take("usage", report)

    async def relay(self, said: list[Said], position: Position) -> None:
        for each in said:
            data = each.data
            if each.type == "text.delta":
                await self._take("text", data["text"])
            elif each.type == "log":
                await self._take("log", data["stream"], data["text"])
            else:
                await self._take(each.type, data)
        self.position = position

    async def note_process(self, process: RunProcess) -> None:
        self.process = process
        await trio.lowlevel.checkpoint()

    def note_end(self, error: dict[str, Any] | None) -> None:
        self.ended, self.own_error = True, error


def make_desk(text: str = "", *, grace_seconds: float = 20.0, **assignment: Any) -> RememberingDesk:
    """A desk with room, whose steps are durable at once; ``durable`` and ``room`` may be replaced."""
    given = {"workspace": "default", "chat_id": "chat", "attempt": 1, "metadata": {}, **assignment}
    desk = RememberingDesk(Assignment(run_id=make_id(), input=text, **given), grace_seconds)
    desk.room.set()
    desk.durable.set()
    return desk


@attrs.frozen
class Seen:
    """How a performance ended. ``raised`` is without the groups around a single exception."""

    cancelled: bool
    raised: BaseException | None


@asynccontextmanager
async def open_place(desk: RememberingDesk) -> AsyncIterator[None]:
    """Give the desk a workshop, unless it has one, and let that work."""
    async with AsyncExitStack() as stack:
        if desk.workshop is None:
            desk.workshop = stack.enter_context(open_workshop())
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(desk.workshop.watch.run)
        yield
        nursery.cancel_scope.cancel()


async def perform(agent: Agent, desk: RememberingDesk, scope: trio.CancelScope | None = None) -> Seen:
    """Let an agent do its turn in a scope that others may cancel, as the supervisor does."""
    raised: BaseException | None = None
    async with open_place(desk):
        with scope or trio.CancelScope() as own:
            try:
                await agent.perform(desk)
            except* trio.Cancelled:
                raise
            except* BaseException as group:  # noqa: BLE001 - an agent may raise anything
                raised = group
    while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
        raised = raised.exceptions[0]
    return Seen(own.cancelled_caught, raised)
