"""A command at work: its wrapper, its spool, its cgroup; started by this daemon, or by one before it.

Theory of operation. A command is the child of a *wrapper*, a few lines of shell in a session of their own, and not of
the daemon: daemons come and go. The wrapper

- waits at a *gate* (a pipe) until the daemon has put it where it belongs and has written down, durably, who it is. If
  the daemon dies before that, the gate falls shut and nothing was started: there is no command nobody knows of;
- runs the command in the foreground, with the spool's files for its streams;
- writes the command's status into the spool, and *lingers*, stopped, until somebody kills it. Where there are no
  cgroups it is a child subreaper: what the command's processes leave behind become its children, so that all of them
  can be found below it as long as it is there. Killing it is the last act of every run.

It hears the signals of its group and does not mind them; a command has the usual ones.

1. A command has ended when its status is there, or when its wrapper is gone.
2. A shell tells a signal n and a status of 128+n apart only in its own child: such a status is read as that signal.
3. Who is signalled is known by pid and start ticks. A group is signalled only while its leader is that process.

Not here: what the streams say (``follow.py``), when to end a command (``command.py``).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import attrs
import structlog
import trio

from outlived import processes
from outlived.agents import AgentFailed
from outlived.agents.spool import Spool
from outlived.agents.watch import Pulse
from outlived.agents.workshop import Workshop
from outlived.cgroups import Cgroup
from outlived.containment import apply_limits
from outlived.rules.leases import ProcessIdentity
from outlived.rules.limits import MEMORY, Limits
from outlived.rules.limits import read_error as read_limit_error

log = structlog.get_logger("outlived.program")

WRAPPER = """
trap : HUP INT QUIT PIPE ALRM TERM USR1 USR2
spool=$1
shift
read -r gate || exit
"$@" <"$spool/stdin" >>"$spool/stdout" 2>>"$spool/stderr"
printf '%3d\\n' "$?" 1<>"$spool/status"
while :; do kill -STOP "$$"; done
"""
_NAME = "outlive-run"
_FOREIGN = Path("/proc/sys/fs/binfmt_misc")
_FIRST_SIGNAL_STATUS = 128
_SHELL_FAILED = {126, 127}


@attrs.define(eq=False)
class Program:
    """``leader`` is the wrapper; ``child``: it is ours to wait for. ``ended``: rule 1."""

    run_id: str
    workshop: Workshop
    spool: Spool
    leader: ProcessIdentity
    pulse: Pulse
    cgroup: Cgroup | None
    limits: Limits
    child: trio.Process | None = None
    ended: trio.Event = attrs.Factory(trio.Event)
    out_of_memory: bool = False

    async def watch(self) -> None:
        """Set ``ended`` once it has."""
        async with trio.open_nursery() as nursery:

            async def watch_leader() -> None:
                await processes.wait_gone(self.leader)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch_leader)
            while self.spool.read_status() is None:
                await self.pulse.wait()
            nursery.cancel_scope.cancel()
        self.ended.set()

    def signal(self, number: signal.Signals) -> None:
        """Signal the command's process group."""
        if processes.read_start_ticks(self.leader.pid) == self.leader.start_ticks:
            processes.signal_group(self.leader.pid, number)

    def hold(self) -> None:
        """Let it run no further, for a while; the next daemon will know that it was us."""
        self.spool.mark_held()
        if self.cgroup is not None:
            self.cgroup.freeze()
        else:
            self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again, whoever stopped it."""
        if self.cgroup is not None:
            self.cgroup.thaw()
        self.signal(signal.SIGCONT)
        self.spool.mark_held(held=False)

    async def kill(self) -> None:
        """Leave no process of this run, its wrapper last."""
        self.out_of_memory = await kill_all(self.workshop, self.run_id, self.leader, self.child)

    def read_error(self) -> dict[str, object] | None:
        """How a command that has ended has ended, as the run's error; None for success."""
        status, said = self.spool.read_status(), self.spool.read_said()
        if status is None:
            message = "the command's process is gone, and nobody has recorded how it ended"
            return {"code": "process_lost", "message": message}
        if status in _SHELL_FAILED and said:
            return {"code": "agent_unavailable", "message": f"cannot start the command: {said}"}
        error = read_exit(status)
        return read_limit_error(MEMORY, self.limits) if error is not None and self.out_of_memory else error

    def close(self) -> None:
        self.workshop.watch.close(self.spool.path)


def read_exit(status: int) -> dict[str, object] | None:
    """The run's error for a status as shells have it (rule 2); None for success."""
    if status == 0:
        return None
    try:
        name = signal.Signals(status - _FIRST_SIGNAL_STATUS).name
    except ValueError:
        message = f"the command exited with status {status}"
        return {"code": "exit_status", "message": message, "exit_status": status}
    return {"code": "signal", "message": f"the command was killed by {name}", "signal": name}


@attrs.frozen
class Order:
    """What is to be started."""

    run_id: str
    attempt: int
    command: list[str]
    cwd: str
    environment: dict[str, str]
    given: bytes
    limits: Limits


async def start(workshop: Workshop, order: Order) -> Program:
    """A program whose wrapper waits at its gate. Raises AgentFailed: nothing was started."""
    program = choose_program(order.command, order.cwd, order.environment)
    try:
        spool = workshop.add_spool(order.run_id, order.attempt, order.given)
        return await _start(workshop, order, spool, program)
    except (OSError, ValueError) as error:
        workshop.discard(order.run_id)
        raise AgentFailed("agent_unavailable", f"cannot start {order.command[0]}: {error}") from error


async def _start(workshop: Workshop, order: Order, spool: Spool, program: str) -> Program:
    odd, environment = _part_names(order.environment)
    through = ["/usr/bin/env", *odd] if odd else []
    with (spool.path / "said").open("wb") as said:
        child = await trio.lowlevel.open_process(
            ["/bin/sh", "-c", WRAPPER, _NAME, str(spool.path), *through, program, *order.command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd=order.cwd,
            env=environment,
            start_new_session=True,
            preexec_fn=processes.become_subreaper,
        )
    leader = processes.read_child_identity(child.pid)
    pulse = workshop.watch.open(spool.path)
    started = Program(order.run_id, workshop, spool, leader, pulse, None, order.limits, child)
    try:
        started.cgroup = contain(workshop, order.run_id, child.pid, order.limits)
    except OSError:
        await discard(started)
        raise
    return started


async def open_gate(program: Program) -> None:
    """Let the command begin."""
    assert program.child is not None
    assert program.child.stdin is not None
    async with program.child.stdin as gate:
        await gate.send_all(b"go\n")


async def discard(program: Program) -> None:
    """End a program whose gate was never opened."""
    assert program.child is not None
    program.child.kill()
    await program.child.wait()
    if (cgroup := program.workshop.containment.find_cgroup(program.run_id)) is not None:
        cgroup.remove()
    program.close()
    program.workshop.discard(program.run_id)


def adopt(workshop: Workshop, run_id: str, spool: Spool, leader: ProcessIdentity, limits: Limits) -> Program:
    """A program that an earlier daemon started, whatever has become of it."""
    pulse, cgroup = workshop.watch.open(spool.path), workshop.containment.find_cgroup(run_id)
    return Program(run_id, workshop, spool, leader, pulse, cgroup, limits)


def contain(workshop: Workshop, run_id: str, pid: int, limits: Limits) -> Cgroup | None:
    """Put a process that waits at its gate where its run belongs, within its limits. Raises OSError."""
    cgroup = workshop.containment.open_cgroup(run_id, limits)
    if cgroup is not None and not cgroup.add(pid):
        cgroup = None
    apply_limits(pid, limits, cgroup)
    return cgroup


async def kill_all(
    workshop: Workshop, run_id: str, leader: ProcessIdentity, child: trio.Process | None
) -> bool:
    """Leave no process of a run, its leader last; whether it had hit the limit of its memory."""
    find = workshop.containment.find_cgroup
    cgroup = find(run_id)
    out_of_memory = cgroup is not None and cgroup.was_out_of_memory()
    ended = child is not None and child.poll() is not None
    if await processes.kill_run_processes({run_id: leader}, just_ended=ended, find_container=find):
        log.error("cannot kill every process of a run that ended", run_id=run_id)
    elif child is not None:
        await child.wait()
    if cgroup is not None:
        cgroup.remove()
    return out_of_memory


def choose_program(command: list[str], cwd: str, environment: Mapping[str, str]) -> str:
    """The program's absolute path. Raises AgentFailed if it is not there, or no program."""
    program = find_program(command[0], cwd, environment)
    complaint = "there is no such program" if program is None else explain_unfit(program)
    if program is None or complaint is not None:
        raise AgentFailed("agent_unavailable", f"cannot start {command[0]}: {complaint}")
    return program


def find_program(name: str, cwd: str, environment: Mapping[str, str]) -> str | None:
    """The program's absolute path, as it would be found from there; None if there is none."""
    path = environment.get("PATH") or os.environ.get("PATH")
    where = str(Path(cwd) / name) if "/" in name else name
    found = shutil.which(where, path=path)
    return None if found is None else str(Path(cwd) / found)


def explain_unfit(path: str) -> str | None:
    """Why the kernel would refuse to execute that file; None if nothing speaks against it.

    A shell does not ask the kernel alone: it takes whatever is no program for a script, a spoilt program too.
    """
    try:
        with Path(path).open("rb") as file:
            beginning = file.read(512)
    except OSError:
        return None  # it may be executed and not read
    if beginning.startswith(b"#!"):
        words = beginning[2:].split(b"\n")[0].split()
        interpreter = os.fsdecode(words[0]) if words else ""
        return None if os.access(interpreter, os.X_OK) else f"its interpreter {interpreter!r} is not there"
    if beginning.startswith(b"\x7fELF") or b"\0" not in beginning:
        return None
    foreign = any(entry.name not in {"register", "status"} for entry in _FOREIGN.glob("*"))
    return None if foreign else "it is neither a program nor a script"


def _part_names(environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Variables that no shell hands on (``a.b``), as arguments of ``env``; and all others."""
    odd = [f"{name}={value}" for name, value in environment.items() if not _is_plain(name)]
    return odd, {name: value for name, value in environment.items() if _is_plain(name)}


def _is_plain(name: str) -> bool:
    return name.isidentifier() and name.isascii()
