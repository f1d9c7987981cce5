"""A Python agent in a process of its own: ``python -m outlive.agent package.module:name``.

The desk of such an agent writes lines of the format ``jsonl`` to stdout, and is given what a ``jsonl`` agent reads on stdin.
An agent that works at the daemon's desk works at this one, on Trio or on asyncio.

1. Whatever else prints to stdout (a ``print``, a library, a child) prints to stderr instead: that is the log.
2. SIGTERM cancels the agent as a stop cancels it in the daemon.
3. Exit status 0: the agent has returned. 1: it failed; its traceback is on stderr, and with ``--tell`` one more line of
   stdout says how, for the daemon that has started it so. That line is no event of ``jsonl``. ``--check`` only
   imports the agent, and says what is wrong in one line.
4. A step's result is what its JSON reads as, as everywhere; here it is not kept for a next attempt.

Not here: agents in the daemon's process (``outlived/agents/python.py``).
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from io import TextIOWrapper
from types import ModuleType
from typing import Any, Literal, TypeVar

import anyio
import attrs
import msgspec

from outlive import wire

T = TypeVar("T")
Flavour = Literal["trio", "asyncio"]
Target = Callable[[Any], Awaitable[Any]]

USAGE = "usage: python -m outlive.agent [--tell | --check] [--flavour trio|asyncio] package.module:name"
STEP_NAME_CHARS = 100
_ASYNCIO_ONLY = frozenset({"asyncio", "aiohttp", "langgraph", "pydantic_ai"})


class Unusable(Exception):
    """The target is no agent; the message says what it is."""


def find_target(target: str) -> Any:
    """What ``package.module:name`` names. Raises whatever the module raises while it is imported."""
    module_name, _, name = target.partition(":")
    found: Any = importlib.import_module(module_name)
    for attribute in name.split("."):
        found = getattr(found, attribute)
    return found


def load_target(target: str) -> Target:
    """Import an agent. Raises Unusable for what is none, and whatever its module raises while it is imported."""
    found = find_target(target)
    if not (inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__)):
        raise Unusable(f"cannot use {target}: it is not an async function")
    return found  # type: ignore[no-any-return]


def detect_flavour(target: Target) -> Flavour:
    """Which loop the agent is written for, by what its module has imported; Trio where that does not say."""
    function = inspect.unwrap(getattr(target, "func", target))
    module = inspect.getmodule(function) or inspect.getmodule(type(function))
    roots = {_read_root(value) for value in vars(module).values()} if module is not None else set()
    return "asyncio" if "trio" not in roots and roots & _ASYNCIO_ONLY else "trio"


def _read_root(value: object) -> str:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return str(name).partition(".")[0]


@attrs.frozen
class Assignment:
    """What the attempt is about; as the daemon's own."""

    run_id: str
    workspace: str
    chat_id: str
    attempt: int
    input: str
    metadata: dict[str, Any]
    parts: list[dict[str, Any]]


class _Given(msgspec.Struct):
    """What the daemon writes to stdin."""

    run: dict[str, Any]
    input: str
    parts: list[dict[str, Any]]
    history: list[wire.Message]


@attrs.frozen(eq=False)
class Desk:
    """The desk of an agent in its own process. ``out``: the descriptor that the daemon reads."""

    assignment: Assignment
    history: list[wire.Message]
    out: int
    _steps: list[str] = attrs.Factory(list)

    @property
    def input(self) -> str:
        """The text of what was asked."""
        return self.assignment.input

    async def emit_text(self, text: str) -> None:
        await self._say("text.delta", text=text)

    async def emit_reasoning(self, text: str) -> None:
        await self._say("reasoning.delta", text=text)

    def step(self, name: str, fn: Callable[..., Awaitable[T]], *args: Any) -> Coroutine[Any, Any, T]:
        """Perform ``await fn(*args)`` as a step, numbered by this call; its result is what its JSON reads as."""
        self._steps.append(name)
        return self._perform(len(self._steps), name[:STEP_NAME_CHARS], fn, args)

    async def _perform(
        self, step: int, name: str, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]
    ) -> T:
        await self._say("step.started", name=name, step=step)
        result = json.dumps(await fn(*args), allow_nan=False)
        await self._say("step.finished", name=name, step=step)
        return json.loads(result)  # type: ignore[no-any-return]

    async def tool_call(self, tool_call_id: str, name: str, input: Any) -> None:  # noqa: A002 - the wire's word
        await self._say("tool.call", tool_call_id=tool_call_id, name=name, input=input)

    async def tool_result(self, tool_call_id: str, output: Any, *, is_error: bool = False) -> None:
        await self._say("tool.result", tool_call_id=tool_call_id, output=output, is_error=is_error)

    async def data(self, name: str, value: Any) -> None:
        await self._say("data", name=name, value=value)

    async def log(self, stream: str, text: str) -> None:
        await self._say("log", stream=stream, text=text)

    async def usage(self, **report: int | None) -> None:
        await self._say("usage", **report)

    async def _say(self, type_: str, **data: Any) -> None:
        write_line(self.out, {"type": type_, **data})
        await anyio.lowlevel.checkpoint()


def write_line(out: int, value: dict[str, Any]) -> None:
    """One line of JSON, whole. A spool takes whatever it is given."""
    line = memoryview(json.dumps(value, allow_nan=False).encode() + b"\n")
    while line:
        line = line[os.write(out, line) :]


def _read_given(text: bytes) -> tuple[Assignment, list[wire.Message]]:
    given = msgspec.json.decode(text, type=_Given)
    run = given.run
    assignment = Assignment(
        run["id"], run["workspace"], run["chat_id"], run["attempt"], given.input, run["metadata"], given.parts
    )
    return assignment, given.history


async def _work(target: Target, desk: Desk) -> None:
    """Let it work until it returns, or until SIGTERM cancels it."""
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                ready.set()
                async for _ in signals:
                    group.cancel_scope.cancel()
                    break

        ready = anyio.Event()
        group.start_soon(listen)
        await ready.wait()
        await target(desk)
        group.cancel_scope.cancel()


def _explain(error: BaseException) -> dict[str, str]:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    name = type(error).__name__
    try:
        said = str(error) or name
    except Exception:  # noqa: BLE001 - somebody else's __str__ may do anything
        said = name
    return {"message": said[:2000], "exception": name[:200]}


@attrs.define
class _Options:
    """The command line."""

    target: str = ""
    flavour: Flavour | None = None
    tell: bool = False
    check: bool = False


def _read_options(arguments: list[str]) -> _Options | None:
    """None for what cannot be understood."""
    options = _Options()
    while arguments and arguments[0].startswith("--"):
        match arguments.pop(0), arguments[:1]:
            case "--tell", _:
                options.tell = True
            case "--check", _:
                options.check = True
            case "--flavour", ["trio" | "asyncio" as flavour]:
                options.flavour = flavour
                del arguments[0]
            case _:
                return None
    if len(arguments) != 1 or ":" not in arguments[0]:
        return None
    options.target = arguments[0]
    return options


def main() -> int:
    """Run one agent for one turn; the exit status."""
    options = _read_options(sys.argv[1:])
    if options is None:
        print(USAGE, file=sys.stderr)  # noqa: T201 - this is a command line
        return 2
    out = os.dup(1)
    os.dup2(2, 1)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        target = load_target(options.target)
    except BaseException as error:  # noqa: BLE001 - whatever a module does while it is imported
        said = _explain(error)
        if not isinstance(error, Unusable):
            said["message"] = f"cannot import {options.target}: {said['exception']}: {said['message']}"
        return _fail(options, out, "agent_unavailable", said)
    if options.check:
        return 0
    try:
        assignment, history = _read_given(sys.stdin.buffer.read())
        flavour = options.flavour or detect_flavour(target)
        anyio.run(_work, target, Desk(assignment, history, out), backend=flavour)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        return _fail(options, out, "exception", _explain(error))
    return 0


def _fail(options: _Options, out: int, code: str, said: dict[str, str]) -> int:
    if options.check:
        print(said["message"].replace("\n", " "), file=sys.stderr)  # noqa: T201 - this is a command line
        return 1
    traceback.print_exc()
    if options.tell:
        write_line(out, {"type": "failed", "code": code, **said})
    return 1


if __name__ == "__main__":
    sys.exit(main())
