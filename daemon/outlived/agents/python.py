"""``python`` agents: an async callable of the user's, on Trio or asyncio, that receives the desk.

1. ``target = "package.module:name"`` is imported in the daemon's process when it is first needed; an import
   error is the agent's, never the daemon's.
2. ``flavour`` says which loop it is written for; where it does not, what its module has imported says it
   (``outlive/agent.py``). asyncio agents run under trio-asyncio (``aio.py``).
3. The callable shares the daemon's loop: it must not block it. ``isolation = "process"`` gives it a process of its own: a
   command that speaks ``jsonl``, spooled and adopted like any other.

Not here: the process's side (``outlive/agent.py``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import ClassVar

import attrs

from outlive.agent import Flavour, Target, Unusable, detect_flavour, load_target
from outlived.agents import AgentBroken, Assignment, Desk
from outlived.agents.command import CommandAgent
from outlived.rules.text import explain

PROBE_SECONDS = 60.0


@attrs.define(eq=False)
class PythonAgent:
    """``target`` in the form ``module:name``. ``flavour`` None: as its module looks."""

    kind: ClassVar[str] = "python"

    target: str
    description: str = ""
    flavour: Flavour | None = None
    _callable: Target | None = attrs.field(default=None, init=False)

    def check(self) -> None:
        self._load()

    def check_assignment(self, assignment: Assignment) -> None:  # noqa: ARG002 - any assignment will do
        self._load()

    async def perform(self, desk: Desk) -> None:
        target = self._load()
        await desk.read_history()
        if (self.flavour or detect_flavour(target)) == "trio":
            await target(desk)
        else:
            from outlived.agents.aio import perform  # trio-asyncio is for those who need it

            await perform(target, desk)

    def _load(self) -> Target:
        if self._callable is None:
            self._callable = _import(self.target)
        return self._callable


@attrs.frozen
class PythonProcess(CommandAgent):
    """The same in a process of its own: made by ``isolate``."""

    kind: ClassVar[str] = "python"

    def probe(self) -> None:
        """Import the target in such a process; for whoever may wait. Raises AgentBroken."""
        self.check()
        command = [*self.command[:-1], "--check", self.command[-1]]
        environment = {**os.environ, **self.env}
        try:
            done = subprocess.run(
                command,
                env=environment,
                cwd=self.cwd,
                capture_output=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AgentBroken(f"cannot import {self.command[-1]}: {error}") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise AgentBroken(said[-1] if said else f"cannot import {self.command[-1]}: it did not say why")


def isolate(target: str, flavour: Flavour | None, **command: object) -> PythonProcess:
    """A Python agent as a command; ``command``: what else there is to say of one."""
    option = [] if flavour is None else ["--flavour", flavour]
    argv = [sys.executable, "-m", "outlive.agent", "--tell", *option, target]
    return PythonProcess(argv, format="python", **command)  # type: ignore[arg-type]


def _import(target: str) -> Target:
    try:
        return load_target(target)
    except Unusable as error:
        raise AgentBroken(str(error)) from error
    except BaseException as error:  # whatever a module does while it is imported, it is the module's fault
        if isinstance(error, KeyboardInterrupt):
            raise
        raise AgentBroken(f"cannot import {target}: {type(error).__name__}: {explain(error)}") from error
