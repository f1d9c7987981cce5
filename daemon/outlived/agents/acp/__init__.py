"""``acp`` agents: any program that speaks the Agent Client Protocol, version 1, on its stdin and stdout.

Theory of operation. An agent's process lives for one turn. It is told what this client is, goes on with its session of
the chat (``session/load``) or begins one, gets the input as a prompt, and says in updates what it does; the answer to the
prompt ends the turn. A cancel of the run does not reach the conversation as ``Cancelled``: like a command's life it runs
under a shield, and the cancel becomes ``session/cancel`` first.

1. The ladder of a stop: ``session/cancel``, and the half of the grace for the agent to end its turn; SIGTERM to its
   group, and the rest; SIGKILL to everything of the run.
2. The pipes are the daemon's: such a run is never adopted. After a crash its processes are killed, and
   ``on_owner_loss`` decides.
3. A session is kept per chat. An agent that cannot load sessions, or has lost this one, is told the chat's history in its
   prompt.
4. One step, named ``prompt``.

Not here: the conversation (``talk.py``), the process (``child.py``), events (``updates.py``), what the agent may do
(``permissions.py``). Why our own peer and not the protocol's library: docs/decisions/0028.
"""

from __future__ import annotations

import os
import signal
from typing import Any, ClassVar

import attrs
import trio

from outlive import wire
from outlived import __version__, processes
from outlived.agents import AgentFailed, Assignment, Desk, Session
from outlived.agents.acp.child import Child, open_gate, start_child
from outlived.agents.acp.permissions import Policy
from outlived.agents.acp.talk import Refused, Talk
from outlived.agents.acp.updates import read_usage
from outlived.agents.command import KILL_SECONDS, CommandAgent, turn_cancel_into_stop, wait_any
from outlived.agents.environment import make_environment
from outlived.store.stops import RunProcess

STEP = "prompt"
LEAVE_SECONDS = 3.0
"""How long a process may take to end once its turn is over, before it is told to."""
AUTH_REQUIRED = -32000
_GOOD_ENDS = (None, "end_turn", "cancelled")


@attrs.frozen
class AcpAgent:
    """``program``: the command, and where and with what it runs."""

    kind: ClassVar[str] = "acp"

    program: CommandAgent
    permissions: Policy = "allow_reads"

    @property
    def description(self) -> str:
        return self.program.description

    def check(self) -> None:
        self.program.check()

    def check_assignment(self, assignment: Assignment) -> None:
        self.program.check_assignment(assignment)

    async def perform(self, desk: Desk) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True) as life:
                nursery.start_soon(turn_cancel_into_stop, stop, life, desk, KILL_SECONDS)
                await desk.step(STEP, self._live, desk, stop)
            nursery.cancel_scope.cancel()

    async def _live(self, desk: Desk, stop: trio.Event) -> None:
        assignment = desk.assignment
        cwd = self.program.choose_directory(assignment)
        environment = make_environment(os.environ, self.program.inherit, self.program.env, assignment)
        child = await start_child(
            desk.workshop, assignment.run_id, self.program.command, cwd, environment, self.program.limits
        )
        talk = Talk(child, desk, self.permissions)
        try:
            await self._converse(talk, cwd, stop)
        except BaseException as error:
            out_of_memory = await _kill(child)
            if (reason := child.explain(error, out_of_memory=out_of_memory)) is not error:
                raise reason from error
            raise
        await _kill(child)
        if talk.cancelled:  # the cancel ends the turn; its step was cut, not finished
            raise AgentFailed("signal", "the agent was stopped", signal="SIGTERM")

    async def _converse(self, talk: Talk, cwd: str, stop: trio.Event) -> None:
        """The turn, in the time it has."""
        child, over = talk.child, trio.Event()
        async with trio.open_nursery() as nursery:
            turn = trio.CancelScope()
            nursery.start_soon(_insist_on_end, talk, stop, over, turn)
            with turn:
                await talk.desk.note_process(
                    RunProcess(processes.read_host(), child.leader, child.process.pid)
                )
                await open_gate(child)
                talk.begin(nursery)
                await self._work(talk, cwd)
            over.set()
            await _see_out(child, gently=not turn.cancelled_caught)
            nursery.cancel_scope.cancel()

    async def _work(self, talk: Talk, cwd: str) -> None:
        """The turn, from the first word to the answer of the prompt."""
        desk = talk.desk
        try:
            session, told = await _open_session(talk, cwd)
            prompt = _write_prompt(desk.assignment, [] if told else await desk.read_history())
            talk.session_id, talk.listening = session.id, True
            result = await talk.ask("session/prompt", {"sessionId": session.id, "prompt": prompt})
        except Refused as error:
            raise _explain(error) from error
        await talk.finish()
        if usage := read_usage(result):
            await desk.usage(**usage)
        reason = result.get("stopReason")
        if reason not in _GOOD_ENDS:
            message = f"the agent ended its turn for another reason: {reason}"
            raise AgentFailed("exception", message, exception=str(reason)[:200])
        if not talk.cancelled:
            desk.note_end(None)


async def _open_session(talk: Talk, cwd: str) -> tuple[Session, bool]:
    """The chat's session, or a new one; and whether the agent knows what was said before."""
    given = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
    about = {"name": "outlive", "title": "Outlive", "version": __version__}
    can = await talk.ask(
        "initialize", {"protocolVersion": 1, "clientCapabilities": given, "clientInfo": about}
    )
    capabilities = can.get("agentCapabilities")
    kept = await talk.desk.read_session()
    if kept is not None and isinstance(capabilities, dict) and capabilities.get("loadSession") is True:
        try:
            await talk.ask("session/load", {"sessionId": kept.id, "cwd": cwd, "mcpServers": []})
        except Refused as error:
            await talk.desk.log("outlived", f"the agent cannot load its session, and begins anew: {error}\n")
        else:
            return kept, True
    new = await talk.ask("session/new", {"cwd": cwd, "mcpServers": []})
    name = new.get("sessionId")
    if not isinstance(name, str):
        raise AgentFailed("exception", "the agent has opened a session without an id", exception="ValueError")
    session = Session(name)
    talk.desk.keep_session(session)
    return session, False


def _explain(error: Refused) -> AgentFailed:
    if error.code == AUTH_REQUIRED:
        return AgentFailed("agent_unavailable", f"the agent wants to be logged in first: {error}")
    return AgentFailed("exception", str(error), exception=f"ACP error {error.code}")


def _write_prompt(assignment: Assignment, history: list[wire.Message]) -> list[dict[str, Any]]:
    """The content of a prompt: what was said before, where the agent does not know it, and what is asked."""
    prompt: list[dict[str, Any]] = []
    if said := [f"{message.role}: {message.content}" for message in history if message.content]:
        before = "This conversation so far:\n\n" + "\n\n".join(said) + "\n\nWhat is asked now:"
        prompt.append({"type": "text", "text": before})
    for part in assignment.parts or [{"type": "text", "text": assignment.input}]:
        if part.get("type") == "text":
            prompt.append({"type": "text", "text": str(part.get("text", ""))})
        elif isinstance(url := part.get("url"), str):
            prompt.append({"type": "resource_link", "uri": url, "name": str(part.get("filename") or url)})
    return prompt


async def _insist_on_end(talk: Talk, stop: trio.Event, over: trio.Event, turn: trio.CancelScope) -> None:
    """Once ``stop`` is set: the ladder, until the turn is over."""
    await stop.wait()
    if over.is_set():
        return
    grace = talk.desk.grace_seconds
    with trio.move_on_after(grace / 2):
        if await talk.cancel():
            await wait_any(over.wait, talk.desk.wait_hurry)
    if not over.is_set():
        talk.child.signal(signal.SIGTERM)
        talk.child.signal(signal.SIGCONT)
        with trio.move_on_after(grace / 2):
            await wait_any(over.wait, talk.hung_up.wait, talk.desk.wait_hurry)
    turn.cancel()


async def _kill(child: Child) -> bool:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + KILL_SECONDS):
        return await child.kill()
    return False


async def _see_out(child: Child, *, gently: bool) -> None:
    """The turn is over: the process may end by itself, for it may have something to put away."""
    await child.stdin.aclose()
    for number in (None, signal.SIGTERM) if gently else ():
        if number is not None:
            child.signal(number)
        with trio.move_on_after(LEAVE_SECONDS):
            await child.process.wait()
        if child.process.poll() is not None:
            return
