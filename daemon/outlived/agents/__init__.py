"""The kinds of work: what an agent is, and what it may do while it performs.

An agent gets a ``Desk`` and nothing else. It returns when its turn is done, raises ``AgentFailed`` (or anything
else) when it failed, and is cancelled when the run is stopped. It knows nothing of rows, sockets or owners.

Modules: ``command`` any program (``program``, ``spool``, ``follow``, ``reader``), ``formats`` what their output means,
``presets`` coding agents that need no configuration, ``python`` an async callable (``aio``: asyncio's), ``pydantic`` a model,
``acp`` the Agent Client Protocol, ``demo`` the built-in one. ``open_agents`` makes the table of names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import attrs

from outlive import wire
from outlived.store.adoption import Position
from outlived.store.stops import RunProcess

if TYPE_CHECKING:
    from outlived.agents.workshop import Workshop

T = TypeVar("T")


class AgentFailed(Exception):
    """The turn failed. ``error`` is what the run's row will say: ``{code, message, ...}``."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.error: dict[str, Any] = {"code": code, "message": message, **details}


class AgentBroken(Exception):
    """The agent is configured but cannot be started; the message says what to mend."""


class AssignmentRefused(Exception):
    """This agent cannot work on such a request; ``path`` names the parameter."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


@attrs.frozen
class Said:
    """One event that a program's output amounts to, as the wire has it: its type and its data, not cleaned yet."""

    type: str
    data: dict[str, Any]


@attrs.frozen
class Session:
    """An agent program's own name for a conversation. ``note``: what has to be known to go on with it; small JSON."""

    id: str
    note: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen
class Assignment:
    """What one attempt of a run is about. ``input`` is the text of what was asked; ``parts`` are all of it, if it was
    asked in parts.
    """

    run_id: str
    workspace: str
    chat_id: str
    attempt: int
    input: str
    metadata: dict[str, Any]
    command: list[str] | None = None
    cwd: str | None = None
    env: dict[str, str] | None = None
    parts: list[dict[str, Any]] | None = None


class Desk(Protocol):
    """What an agent may do. Everything it does becomes events of its run's log."""

    @property
    def assignment(self) -> Assignment: ...

    @property
    def input(self) -> str:
        """The text of what was asked."""

    @property
    def history(self) -> list[wire.Message]:
        """The chat's messages before this run's own, as they were read by ``read_history``."""

    @property
    def grace_seconds(self) -> float:
        """How long the agent may take to end once it is cancelled; asked for at that moment."""

    @property
    def leaving(self) -> bool:
        """Whether the cancel only means that this daemon ends: a command may be left to the next one."""

    @property
    def workshop(self) -> Workshop:
        """What programs need of the place where they are run."""

    @property
    def position(self) -> Position:
        """So far the output of the run's command was read, durably."""

    async def read_history(self) -> list[wire.Message]:
        """The chat's messages before this run's own, oldest first: the newest of them that fit into 1 MiB."""

    async def read_first_step(self) -> int:
        """The number of the first step of a program that numbers none itself: after those of earlier attempts."""

    async def read_session(self) -> Session | None:
        """What a turn before kept of the agent program's own conversation for this chat, on this host."""

    def keep_session(self, session: Session | None) -> None:
        """Keep that for the chat's next turn, or forget what was kept; durable with what is said next."""

    async def wait_hurry(self) -> None:
        """Return when there is no grace, or no more of it."""

    async def emit_text(self, text: str) -> None:
        """Add to the answer. Returns when there is room for it, not when it is durable."""

    async def emit_reasoning(self, text: str) -> None:
        """Add to what the agent thinks aloud."""

    def step(self, name: str, fn: Callable[..., Awaitable[T]], *args: Any) -> Coroutine[Any, Any, T]:
        """Perform ``await fn(*args)`` as a step; returns what it returned, when its end is durable.

        The result is JSON, at most 256 KiB, and is always given as that JSON reads: a tuple comes as a list. Anything
        else raises TypeError or ValueError, naming the step. If the run is resumed, a step that an earlier
        attempt finished gives the same result again without calling ``fn``; it is known by its number, which is its
        place in the order of the calls of ``step``, and by its name. Another name under that number fails the run
        (``nondeterminism``). A step that raised is performed again. Steps may run at once
        (``nursery.start_soon(desk.step, name, fn)``) and do not nest.
        """

    async def tool_call(self, tool_call_id: str, name: str, input: Any) -> None: ...  # noqa: A002 - the wire's word

    async def tool_result(self, tool_call_id: str, output: Any, *, is_error: bool = False) -> None: ...

    async def data(self, name: str, value: Any) -> None: ...

    async def log(self, stream: str, text: str) -> None: ...

    async def usage(self, **report: int | None) -> None:
        """Add to ``input_tokens, output_tokens, cached_tokens, cost_micro_usd``; None adds nothing."""

    async def relay(self, said: list[Said], position: Position) -> None:
        """Add what a command's output amounts to, up to that position: one commit. Returns when there is room for it."""

    async def note_process(self, process: RunProcess) -> None:
        """The run has a process now: a next owner will have to find it. Returns when that is durable."""

    def note_end(self, error: dict[str, Any] | None) -> None:
        """The work ended by itself, like this; a stop that arrives from now on came too late."""


class Agent(Protocol):
    """A kind of work, configured. ``check`` and ``check_assignment`` are called before a run is stored."""

    kind: ClassVar[str]

    @property
    def description(self) -> str: ...

    def check(self) -> None:
        """Raise AgentBroken if the agent cannot be started now."""

    def check_assignment(self, assignment: Assignment) -> None:
        """Raise AssignmentRefused or AgentBroken if this agent cannot do that."""

    async def perform(self, desk: Desk) -> None:
        """Do the turn."""
