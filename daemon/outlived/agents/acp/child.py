"""An agent's process with pipes: it cannot do without its daemon, and ends with it.

1. It waits at a gate until it is where it belongs (its cgroup, its limits) and is written down; the shell that waits
   becomes the agent's program. If the daemon dies before that, nothing was started.
2. It runs in a session of its own, and inherits the orphans of what it starts.
3. Nothing of it is left: whatever happens, ``kill`` kills its whole run.

Not here: commands, which outlive their daemon (``agents/program.py``).
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping

import attrs
import trio

from outlived import processes
from outlived.agents import AgentFailed
from outlived.agents.program import choose_program, contain, kill_all
from outlived.agents.workshop import Workshop
from outlived.rules.leases import ProcessIdentity
from outlived.rules.limits import MEMORY, Limits
from outlived.rules.limits import read_error as read_limit_error

GATE = 'read -r gate || exit; exec "$@"'
"""A shell reads a pipe a byte at a time: what follows the line is the program's."""


@attrs.frozen(eq=False)
class Child:
    """A process that talks to us on its stdin and stdout."""

    run_id: str
    workshop: Workshop
    process: trio.Process
    leader: ProcessIdentity
    limits: Limits

    @property
    def stdin(self) -> trio.abc.SendStream:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> trio.abc.ReceiveStream:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def stderr(self) -> trio.abc.ReceiveStream:
        assert self.process.stderr is not None
        return self.process.stderr

    def signal(self, number: signal.Signals) -> None:
        """Signal its group."""
        if self.process.poll() is None:
            processes.signal_group(self.process.pid, number)

    async def kill(self) -> bool:
        """Leave no process of this run; whether it had hit the limit of its memory."""
        return await kill_all(self.workshop, self.run_id, self.leader, self.process)

    def explain(self, error: BaseException, *, out_of_memory: bool) -> BaseException:
        """Why it failed: as it seems, or by its memory's limit."""
        return AgentFailed(**read_limit_error(MEMORY, self.limits)) if out_of_memory else error

    def describe_end(self) -> AgentFailed:
        """What it means that it has ended, or hung up, in the middle of its turn."""
        status = self.process.poll()
        if status is None or status == 0:
            message = "the agent ended in the middle of its turn"
            return AgentFailed("exception", message, exception="EndOfStream")
        if status > 0:
            message = f"the agent exited with status {status} in the middle of its turn"
            return AgentFailed("exit_status", message, exit_status=status)
        name = signal.Signals(-status).name
        return AgentFailed("signal", f"the agent was killed by {name}", signal=name)


async def start_child(
    workshop: Workshop,
    run_id: str,
    command: list[str],
    cwd: str,
    environment: Mapping[str, str],
    limits: Limits,
) -> Child:
    """A process that waits at its gate. Raises AgentFailed: nothing was started."""
    program = choose_program(command, cwd, environment)
    try:
        process = await trio.lowlevel.open_process(
            ["/bin/sh", "-c", GATE, "outlive-agent", program, *command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**environment, "PWD": cwd},
            start_new_session=True,
            preexec_fn=processes.become_subreaper,
        )
    except (OSError, ValueError) as error:
        raise AgentFailed("agent_unavailable", f"cannot start {command[0]}: {error}") from error
    leader = processes.read_child_identity(process.pid)
    child = Child(run_id, workshop, process, leader, limits)
    try:
        contain(workshop, run_id, process.pid, limits)
    except OSError as error:
        with trio.CancelScope(shield=True):
            await child.kill()
        raise AgentFailed("agent_unavailable", f"cannot start {command[0]}: {error}") from error
    return child


async def open_gate(child: Child) -> None:
    """Let the program begin."""
    await child.stdin.send_all(b"go\n")
