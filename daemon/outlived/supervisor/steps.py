"""Steps: named pieces of an attempt; what one has returned is kept for the next attempt.

Theory of operation. A run that may be resumed is performed again from its beginning, by an agent that asks for the
same steps in the same order. A step that an earlier attempt finished is not performed again: its caller gets what was
kept, and the log gets nothing, for it tells of that step already. Everything between steps happens again.

1. A step's number is its place in the order of the *calls* (of ``step``, before anything is awaited), from 1 in
   every attempt. ``nursery.start_soon(desk.step, …)`` calls: steps that are started so have the order of the program,
   though they run at once. Tasks that race for their calls have another order each time.
2. Number and name are a step's identity. If the step that is done has another name than the one asked for, nothing is
   guessed: the run fails (``nondeterminism``), whatever the agent makes of the exception.
3. A step that raised, or was cancelled, is not done: the next attempt performs it again, under its number.
4. Steps do not nest: one that is done would hide the calls inside it, and all later numbers would be others.

Not here: what can be kept (``rules/result.py``), the commit of a step with its event (``journal/plan.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import attrs

from outlived.agents import AgentFailed
from outlived.rules.result import write_result
from outlived.store.resume import read_last_step, read_step
from outlived.supervisor import Supervisor
from outlived.supervisor.insist import insist


@attrs.define(eq=False)
class Step:
    """One call of a step. ``active``: its function is at work."""

    number: int
    name: str
    active: bool = False

    def __str__(self) -> str:
        return f"step {self.number} ({self.name!r})"


_inside: ContextVar[Step | None] = ContextVar("inside a step", default=None)


@attrs.define(eq=False)
class Steps:
    """The steps of one attempt. ``keeps``: there may be a next attempt; ``memory``: there were earlier ones; ``begun`` and
    ``done``: the log says already of so many that they were started, and finished, for this attempt was adopted.
    """

    keeps: bool = False
    memory: Memory | None = None
    begun: int = 0
    done: int = 0
    _count: int = 0

    def is_begun(self, step: Step) -> bool:
        """Whether an earlier owner of this attempt has started that step."""
        return step.number <= self.begun

    def number(self, name: str) -> Step:
        """The next step, by the order of calls."""
        outer = _inside.get()
        if outer is not None and outer.active:
            raise RuntimeError(f"cannot begin step {name!r} inside {outer}: steps do not nest")
        self._count += 1
        return Step(self._count, name)

    async def recall(self, step: Step) -> str | None:
        """What an earlier attempt kept of this step; None if it did not finish it. Raises AgentFailed."""
        return None if self.memory is None else await self.memory.recall(step)


async def perform(step: Step, fn: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """Perform a step; what it returned, as text to keep. Raises TypeError, ValueError if that cannot be kept."""
    outer = _inside.get()
    _inside.set(step)
    step.active = True
    try:
        result = await fn(*args)
    finally:
        step.active = False
        _inside.set(outer)
    try:
        return write_result(result)
    except (TypeError, ValueError) as error:
        kind = type(error)
        raise kind(f"cannot keep what {step} returned, a {type(result).__name__}: {error}") from error


@attrs.define(eq=False)
class Memory:
    """What earlier attempts of a run have finished. ``note_end``: the run has ended, with that error."""

    supervisor: Supervisor
    run_id: str
    note_end: Callable[[dict[str, Any]], None]
    _last: int | None = None
    _broken: AgentFailed | None = None

    async def recall(self, step: Step) -> str | None:
        """The step's result as it was kept. Raises AgentFailed, and from then on always, if it is another step's."""
        if self._broken is not None:
            raise self._broken
        pool = self.supervisor.store.pool
        if self._last is None:
            self._last = await insist(self.supervisor, partial(read_last_step, pool, self.run_id))
        if step.number > self._last:
            return None
        found = await insist(self.supervisor, partial(read_step, pool, self.run_id, step.number))
        if found is None:
            return None
        if found.name != step.name:
            self._break(step, found.name)
        return found.result

    def _break(self, step: Step, name: str) -> None:
        message = f"cannot go on: {step} was {name!r} in an earlier attempt"
        self._broken = AgentFailed(
            "nondeterminism", message, step=step.number, expected=name, found=step.name
        )
        self.note_end(self._broken.error)
        raise self._broken
