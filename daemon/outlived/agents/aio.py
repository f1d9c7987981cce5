"""asyncio agents on Trio: a loop of their own inside the run's task, and the desk in their flavour.

Theory of operation. trio-asyncio runs an asyncio loop as tasks of Trio. Each turn opens one in its run's task, so all that
the agent starts is below that task: it ends with the run, and whoever blocks the loop is found by it. A cancel of the run
arrives as ``asyncio.CancelledError``, once; an agent that swallows it is cancelled again when its grace is over, and
again every second.

1. asyncio takes a negative delay for "at once", trio-asyncio asserts that there is none. Libraries compute delays from
   clocks, so now and then one is negative: ``call_later`` clamps it, here and nowhere else.
2. An exception that nobody waits for is logged, as asyncio does; trio-asyncio would fail the turn with it.
3. SystemExit ends the task that raised it and whoever waits for that, not the loop: without it nobody would be told.
4. Any executor will do for ``run_in_executor``.
5. trio_asyncio replaces functions of asyncio when it is imported. A library that took some of them by name before
   (psycopg, anyio) would not find the loop. So whoever starts a daemon imports it first (``outlived/__main__.py``), and
   whatever the loop calls, it calls as the running loop that those functions know, too.

Not here: which agents are asyncio's (``python.py``).
"""

from __future__ import annotations

import _asyncio
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog
import trio
import trio_asyncio
from trio_asyncio import aio_as_trio, trio_as_aio

from outlive import wire
from outlived.agents import Assignment, Desk, Session
from outlived.rules.text import explain

log = structlog.get_logger("outlived.asyncio")

T = TypeVar("T")

AGAIN_SECONDS = 1.0


class Loop(trio_asyncio.TrioEventLoop):  # type: ignore[misc]
    """An asyncio loop on Trio, with asyncio's manners."""

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, **context: Any
    ) -> asyncio.TimerHandle:
        handle: asyncio.TimerHandle = super().call_later(
            max(0, delay), self._call, callback, *args, **context
        )
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, **context: Any
    ) -> asyncio.TimerHandle:
        handle: asyncio.TimerHandle = super().call_at(when, self._call, callback, *args, **context)
        return handle

    def call_soon(self, callback: Callable[..., object], *args: Any, **context: Any) -> asyncio.Handle:
        handle: asyncio.Handle = super().call_soon(self._call, callback, *args, **context)
        return handle

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, **context: Any) -> None:
        super().call_soon_threadsafe(self._call, callback, *args, **context)

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        _asyncio._set_running_loop(self)  # noqa: SLF001 - what asyncio's own loop does, and trio-asyncio's does not
        try:
            callback(*args)
        finally:
            _asyncio._set_running_loop(None)  # noqa: SLF001

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        if executor is None or isinstance(executor, trio_asyncio.TrioExecutor):
            return super().run_in_executor(executor, func, *args)  # type: ignore[no-any-return]
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    async def _main_loop_one(self, no_wait: bool = False) -> None:
        try:
            await super()._main_loop_one(no_wait)
        except (SystemExit, KeyboardInterrupt) as error:
            if type(error).__module__.startswith("trio_asyncio"):  # its own way to end
                raise

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        said = "" if error is None else f"{type(error).__name__}: {explain(error)}"
        log.warning("asyncio complains of an agent", about=str(context.get("message")), error=said)


@asynccontextmanager
async def open_loop() -> AsyncIterator[Loop]:
    """An asyncio loop for the length of the block."""
    async with trio_asyncio.open_loop() as loop:
        loop.__class__ = Loop  # open_loop makes its own kind of loop and cannot be told of another
        await loop.synchronize()  # from here on its main loop is ours, too
        yield loop


async def perform(target: Callable[[Any], Awaitable[Any]], desk: Desk) -> None:
    """Let an asyncio callable do the turn."""
    async with open_loop() as loop:
        task = loop.create_task(_call(target, AsyncioDesk(desk)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_insist, task, desk)
            await trio_asyncio.run_aio_future(task)
            nursery.cancel_scope.cancel()


async def _call(target: Callable[[Any], Awaitable[Any]], desk: AsyncioDesk) -> None:
    await target(desk)


async def _insist(task: asyncio.Task[None], desk: Desk) -> None:
    """Once the run is cancelled: cancel its task again and again, in case that it did not listen."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            with trio.move_on_after(desk.grace_seconds):
                while not task.done():
                    await trio.sleep(0.02)
            while not task.done():
                task.cancel()
                await trio.sleep(AGAIN_SECONDS)


class AsyncioDesk:
    """The desk as an asyncio agent has it: the same names, to be awaited on its own loop."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @property
    def assignment(self) -> Assignment:
        return self._desk.assignment

    @property
    def input(self) -> str:
        return self._desk.input

    @property
    def history(self) -> list[wire.Message]:
        return self._desk.history

    @property
    def grace_seconds(self) -> float:
        return self._desk.grace_seconds

    async def emit_text(self, text: str) -> None:
        await trio_as_aio(self._desk.emit_text)(text)

    async def emit_reasoning(self, text: str) -> None:
        await trio_as_aio(self._desk.emit_reasoning)(text)

    def step(self, name: str, fn: Callable[..., Awaitable[T]], *args: Any) -> Coroutine[Any, Any, T]:
        # Numbered by the call, as at the desk itself.
        return _await_step(self._desk.step(name, aio_as_trio(fn), *args))

    async def tool_call(self, tool_call_id: str, name: str, input: Any) -> None:  # noqa: A002 - the wire's word
        await trio_as_aio(self._desk.tool_call)(tool_call_id, name, input)

    async def tool_result(self, tool_call_id: str, output: Any, *, is_error: bool = False) -> None:
        await trio_as_aio(self._desk.tool_result)(tool_call_id, output, is_error=is_error)

    async def data(self, name: str, value: Any) -> None:
        await trio_as_aio(self._desk.data)(name, value)

    async def log(self, stream: str, text: str) -> None:
        await trio_as_aio(self._desk.log)(stream, text)

    async def usage(self, **report: int | None) -> None:
        await trio_as_aio(self._desk.usage)(**report)

    async def read_session(self) -> Session | None:
        return await trio_as_aio(self._desk.read_session)()  # type: ignore[no-any-return]

    def keep_session(self, session: Session | None) -> None:
        self._desk.keep_session(session)


async def _await_step(step: Coroutine[Any, Any, T]) -> T:
    """A step at the desk, awaited from asyncio."""

    async def wait() -> T:
        return await step

    try:
        return await trio_as_aio(wait)()  # type: ignore[no-any-return]
    finally:
        with suppress(RuntimeError):
            step.close()  # it may never have begun
