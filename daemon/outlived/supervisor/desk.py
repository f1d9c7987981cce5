"""The desk given to an agent: what it does becomes events in the journal.

1. Whatever an agent says is made storable first (``rules/text.py``); what cannot be is refused here, in the
   agent's own task: the journal never meets it. Replaced characters are counted, but for those in names.
2. One event's data stays within 256 KiB: text is split, names are cut, anything else is cut and marked.
3. Emitting waits for room in the journal, a step for its commit.

Not here: numbers and times of events (the journal), the message (``rules/message.py``), what a step is
(``steps.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from outlive import wire
from outlived.agents import Assignment, Said, Session
from outlived.agents.workshop import Workshop
from outlived.journal.items import MAX_DELTA_CHARS, Entry
from outlived.journal.writer import Journal
from outlived.rules.result import read_result
from outlived.rules.run import USAGE_FIELDS
from outlived.rules.text import clean, clean_json, count_replaced
from outlived.store.adoption import Position
from outlived.store.stops import RunProcess
from outlived.supervisor.past import Past
from outlived.supervisor.registry import Active, Cause
from outlived.supervisor.steps import Step, Steps, perform

T = TypeVar("T")

MAX_DATA_BYTES = 256 << 10
NAME_CHARS = 1000
MAX_USAGE = 2**53 - 1
NOTHING_READ = Position()
_DELTAS = frozenset({"text.delta", "reasoning.delta"})
_NAMES = frozenset({"tool_call_id", "name", "stream"})
_ANY_SIZE = {"tool.call": "input", "tool.result": "output", "data": "value"}
"""The field of an event's data in which anything may be."""


class RunDesk:
    """The desk of one attempt of one run."""

    def __init__(
        self,
        assignment: Assignment,
        journal: Journal,
        active: Active,
        grace_seconds: float,
        steps: Steps | None = None,
        *,
        workshop: Workshop,
        position: Position = NOTHING_READ,
        past: Past | None = None,
    ) -> None:
        self._assignment = assignment
        self._journal = journal
        self._active = active
        self._grace_seconds = grace_seconds
        self._ear = journal if active.pulse is None else active.pulse
        self._steps = steps or Steps()
        self._workshop = workshop
        self._position = position
        self._past = past
        self._history: list[wire.Message] = []
        self.ended = False
        self.own_error: dict[str, Any] | None = None

    @property
    def assignment(self) -> Assignment:
        return self._assignment

    @property
    def grace_seconds(self) -> float:
        """No grace for a run that is not ours any more: its next owner may start it elsewhere."""
        return 0.0 if self._active.hurry.is_set() else self._grace_seconds

    @property
    def leaving(self) -> bool:
        return self._active.cause is Cause.LEAVE

    @property
    def workshop(self) -> Workshop:
        return self._workshop

    @property
    def position(self) -> Position:
        owned = self._journal.logs.get(self._assignment.run_id)
        if owned is not None and owned.read is not None:
            self._position = owned.read
        return self._position

    @property
    def input(self) -> str:
        return self._assignment.input

    @property
    def history(self) -> list[wire.Message]:
        return self._history

    async def read_history(self) -> list[wire.Message]:
        if self._past is not None:
            self._history = await self._past.read_history()
        return self._history

    async def read_first_step(self) -> int:
        return 1 if self._past is None else await self._past.read_first_step()

    async def read_session(self) -> Session | None:
        return None if self._past is None else await self._past.read_session()

    def keep_session(self, session: Session | None) -> None:
        if self._past is not None:
            self._past.keep_session(session)

    async def wait_hurry(self) -> None:
        await self._active.hurry.wait()

    async def emit_text(self, text: str) -> None:
        await self._emit_delta("text.delta", text)

    async def emit_reasoning(self, text: str) -> None:
        await self._emit_delta("reasoning.delta", text)

    def step(self, name: str, fn: Callable[..., Awaitable[T]], *args: Any) -> Coroutine[Any, Any, T]:
        # Numbered by the call, performed when it is awaited: see the rules of steps.py.
        return self._perform_step(self._steps.number(_clean_name(name)), fn, args)

    async def _perform_step(self, step: Step, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
        kept = await self._steps.recall(step)
        if kept is None:
            data = {"step": step.number, "name": step.name}
            if not self._steps.is_begun(step):
                await self._emit("step.started", data)
            kept = await perform(step, fn, args)
            if step.number > self._steps.done:
                result = kept if self._steps.keeps else None
                entry = Entry("step.finished", data, result=result)
                await self._ear.append(self._assignment.run_id, entry, wait=True)
        return read_result(kept)  # type: ignore[no-any-return]

    async def tool_call(self, tool_call_id: str, name: str, input: Any) -> None:  # noqa: A002 - the wire's word
        data = {"tool_call_id": tool_call_id, "name": name, "input": input}
        await self._emit_all(self._write("tool.call", data))

    async def tool_result(self, tool_call_id: str, output: Any, *, is_error: bool = False) -> None:
        data = {"tool_call_id": tool_call_id, "output": output, "is_error": bool(is_error)}
        await self._emit_all(self._write("tool.result", data))

    async def data(self, name: str, value: Any) -> None:
        await self._emit_all(self._write("data", {"name": name, "value": value}))

    async def log(self, stream: str, text: str) -> None:
        await self._emit_all(self._write("log", {"stream": stream, "text": text}))

    async def relay(self, said: list[Said], position: Position) -> None:
        entries = [entry for each in said for entry in self._write(each.type, each.data)]
        await self._ear.relay(self._assignment.run_id, entries, position)

    async def usage(self, **report: int | None) -> None:
        if unknown := report.keys() - set(USAGE_FIELDS):
            raise ValueError(
                f"cannot report usage of {', '.join(sorted(unknown))}: it is one of {USAGE_FIELDS}"
            )
        known = {field: amount for field, amount in report.items() if amount is not None}
        for field, amount in known.items():
            if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= MAX_USAGE:
                raise ValueError(
                    f"cannot report {field} of {amount!r}: it is an integer from 0 to {MAX_USAGE}"
                )
        await self._emit("usage", {field: int(amount) for field, amount in known.items()})

    async def note_process(self, process: RunProcess) -> None:
        await self._journal.note_process(self._assignment.run_id, process)
        self._active.pid = process.identity.pid

    def note_end(self, error: dict[str, Any] | None) -> None:
        self.ended, self.own_error = True, error

    async def _emit_delta(self, type_: str, text: str) -> None:
        await self._emit_all(self._write(type_, {"text": text}))

    async def _emit_all(self, entries: list[Entry]) -> None:
        for entry in entries:
            await self._ear.append(self._assignment.run_id, entry)

    async def _emit(self, type_: str, data: dict[str, Any]) -> None:
        await self._ear.append(self._assignment.run_id, Entry(type_, data))

    def _write(self, type_: str, data: dict[str, Any]) -> list[Entry]:
        """What is said, as events that can be stored: clean, none of them too large."""
        data = {name: _clean_name(value) if name in _NAMES else value for name, value in data.items()}
        if type_ in _DELTAS:
            return [Entry(type_, {}, [piece]) for piece in self._split(data["text"])]
        if type_ == "log":
            return [Entry(type_, {**data, "text": piece}) for piece in self._split(data["text"])]
        field = _ANY_SIZE.get(type_)
        return [Entry(type_, data if field is None else self._cut(data, field))]

    def _split(self, text: str) -> list[str]:
        text = self._clean(text)
        return [text[start : start + MAX_DELTA_CHARS] for start in range(0, len(text), MAX_DELTA_CHARS)]

    def _cut(self, data: dict[str, Any], field: str) -> dict[str, Any]:
        """Data whose one field is of any size and shape."""
        cleaned = clean_json(data[field], self._clean)
        if len(msgspec.json.encode({**data, field: cleaned})) <= MAX_DATA_BYTES:
            return {**data, field: cleaned}
        text = cleaned if isinstance(cleaned, str) else msgspec.json.encode(cleaned).decode()
        return {**data, field: text[:MAX_DELTA_CHARS], "truncated": True}

    def _clean(self, text: str) -> str:
        cleaned = clean(text)
        if cleaned is not text:
            self._journal.meter.replaced += count_replaced(text, cleaned)
        return cleaned


def _clean_name(name: str) -> str:
    """A name, an id: something to look for, not to read."""
    return clean(name)[:NAME_CHARS]
