"""One turn's conversation with an ACP agent, over its pipes: who asks whom, in which order.

1. What comes is read and carried out in its order, by one task; what goes is sent by another, so that neither side waits
   for the other to read.
2. Before the prompt, ``session/load`` replays the whole conversation: none of that is this turn's.
3. Files and terminals are refused; permissions are answered by the policy. Both are asked of us, and both are answered
   in their turn.

Not here: starting and ending the process (``__init__.py``), what messages mean (``peer.py``, ``updates.py``).
"""

from __future__ import annotations

import codecs
from typing import Any

import attrs
import structlog
import trio

from outlived.agents import AgentFailed, Desk, Said
from outlived.agents.acp.child import Child
from outlived.agents.acp.peer import Answered, Asked, Id, Message, Noise, Peer, Told
from outlived.agents.acp.permissions import Policy, decide
from outlived.agents.acp.updates import Updates

log = structlog.get_logger("outlived.acp")

READ_BYTES = 64 << 10
WAITING_LINES = 64


class Refused(Exception):
    """The agent answered a request with an error."""

    def __init__(self, method: str, error: dict[str, Any]) -> None:
        code, message = error.get("code"), error.get("message")
        super().__init__(message if isinstance(message, str) and message else f"{method} failed ({code})")
        self.code = code


@attrs.define(eq=False)
class Talk:
    """``listening``: the prompt was sent, updates are this turn's. ``hung_up``: nothing more will come."""

    child: Child
    desk: Desk
    policy: Policy
    listening: bool = False
    cancelled: bool = False
    session_id: str | None = None
    hung_up: trio.Event = attrs.Factory(trio.Event)
    _peer: Peer = attrs.Factory(Peer)
    _updates: Updates = attrs.Factory(Updates)
    _waiting: dict[Id, trio.Event] = attrs.Factory(dict)
    _answers: dict[Id, Answered] = attrs.Factory(dict)
    _lines: tuple[trio.MemorySendChannel[bytes], trio.MemoryReceiveChannel[bytes]] = attrs.Factory(
        lambda: trio.open_memory_channel[bytes](WAITING_LINES)
    )

    def begin(self, nursery: trio.Nursery) -> None:
        """Read and write, in tasks of that nursery."""
        nursery.start_soon(self._send)
        nursery.start_soon(self._receive)
        nursery.start_soon(self._log_stderr)

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of a request. Raises Refused; AgentFailed if the agent hangs up."""
        request_id, line = self._peer.ask(method, params)
        answered = self._waiting[request_id] = trio.Event()
        await self._lines[0].send(line)
        await answered.wait()
        answer = self._answers.pop(request_id, None)
        if answer is None:
            with trio.move_on_after(1):
                await self.child.process.wait()
            raise self.child.describe_end()
        if answer.error is not None:
            raise Refused(method, answer.error)
        return answer.result if isinstance(answer.result, dict) else {}

    async def tell(self, method: str, params: dict[str, Any]) -> None:
        """Say something that is not answered."""
        await self._lines[0].send(self._peer.tell(method, params))

    async def cancel(self) -> bool:
        """Ask the agent to end its turn; False if there is no turn yet."""
        self.cancelled = True
        if not self.listening:
            return False
        await self.tell("session/cancel", {"sessionId": self.session_id})
        return True

    async def say(self, said: list[Said]) -> None:
        """Let the desk have it."""
        for each in said:
            await say(self.desk, each)

    async def finish(self) -> None:
        """Say what is left of this turn."""
        self.listening = False
        await self.say(self._updates.finish())

    # ---- tasks

    async def _send(self) -> None:
        async for line in self._lines[1]:
            try:
                await self.child.stdin.send_all(line)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # it does not read any more; what it says is still read

    async def _receive(self) -> None:
        try:
            while chunk := await self._read(self.child.stdout):
                for message in self._peer.receive(bytes(chunk)):
                    await self._take(message)
        finally:
            self.hung_up.set()
            for event in self._waiting.values():
                event.set()

    async def _log_stderr(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while chunk := await self._read(self.child.stderr):
            if text := decoder.decode(chunk):
                await self.desk.log("stderr", text)

    async def _read(self, stream: trio.abc.ReceiveStream) -> bytes | bytearray:
        try:
            return await stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    # ---- what came

    async def _take(self, message: Message) -> None:
        match message:
            case Answered(id=request_id):
                if (event := self._waiting.pop(request_id, None)) is not None:
                    self._answers[request_id] = message
                    event.set()
            case Told(method="session/update", params={"update": dict(update)}):
                if self.listening:
                    await self.say(self._updates.read(update))
            case Asked(method="session/request_permission"):
                await self._permit(message)
            case Asked(method=method):
                reason = f"cannot do {method}: this client offers neither files nor terminals"
                await self._lines[0].send(self._peer.refuse(message, reason))
            case Noise(line=line, reason=reason):
                await self.desk.log("stdout", f"{line}\n")
                log.warning("an agent says what is no JSON-RPC", run_id=self.child.run_id, reason=reason)

    async def _permit(self, asked: Asked) -> None:
        if self.cancelled:
            await self._lines[0].send(self._peer.answer(asked, {"outcome": {"outcome": "cancelled"}}))
            return
        decision = decide(self.policy, asked.params)
        call = asked.params.get("toolCall")
        if isinstance(call, dict):
            await self.say(self._updates.begin(call))
        await self.say([decision.record])
        await self._lines[0].send(self._peer.answer(asked, decision.outcome))


async def say(desk: Desk, said: Said) -> None:
    """Do at the desk what an event says."""
    data = said.data
    match said.type:
        case "text.delta":
            await desk.emit_text(data["text"])
        case "reasoning.delta":
            await desk.emit_reasoning(data["text"])
        case "tool.call":
            await desk.tool_call(data["tool_call_id"], data["name"], data["input"])
        case "tool.result":
            await desk.tool_result(data["tool_call_id"], data["output"], is_error=data["is_error"])
        case "data":
            await desk.data(data["name"], data["value"])
        case _:
            raise AgentFailed("exception", f"cannot say {said.type}", exception="ValueError")
