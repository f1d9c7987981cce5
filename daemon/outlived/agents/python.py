"""``python`` agents: an async callable of the user's, on Trio, that receives the desk.

1. ``target = "package.module:name"`` is imported in the daemon's process when it is first needed; an import
   error is the agent's, never the daemon's.
2. The callable shares the daemon's loop: it must not block it.

Not here: asyncio callables, isolation in a process of its own.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import attrs

from outlived.agents import AgentBroken, Assignment, Desk
from outlived.rules.text import explain

Target = Callable[[Desk], Awaitable[Any]]


@attrs.define(eq=False)
class PythonAgent:
    """``target`` in the form ``module:name``."""

    kind: ClassVar[str] = "python"

    target: str
    description: str = ""
    _callable: Target | None = attrs.field(default=None, init=False)

    def check(self) -> None:
        self._load()

    def check_assignment(self, assignment: Assignment) -> None:  # noqa: ARG002 - any assignment will do
        self._load()

    async def perform(self, desk: Desk) -> None:
        await self._load()(desk)

    def _load(self) -> Target:
        if self._callable is None:
            self._callable = _import(self.target)
        return self._callable


def _import(target: str) -> Target:
    module_name, _, name = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for attribute in name.split("."):
            found = getattr(found, attribute)
    except BaseException as error:  # whatever a module does while it is imported, it is the module's fault
        if isinstance(error, KeyboardInterrupt):
            raise
        raise AgentBroken(f"cannot import {target}: {type(error).__name__}: {explain(error)}") from error
    if not (inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__)):
        raise AgentBroken(f"cannot use {target}: it is not an async function")
    return found  # type: ignore[no-any-return]
