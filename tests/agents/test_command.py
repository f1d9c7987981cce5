"""``command`` agents: real programs, from their start to the last of their processes."""

import signal

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived import processes
from outlived.agents import AgentBroken, AgentFailed, Assignment, AssignmentRefused
from outlived.agents import command as room
from outlived.agents.command import CommandAgent
from outlived.agents.program import read_exit
from tests.support.desk import RememberingDesk, make_desk, perform
from tests.support.locks import wait_for
from tests.support.programs import list_pids, python, read_child, read_state, read_written, shell
from tests.support.workshops import open_workshop

examples = settings(derandomize=True, deadline=None)

BOUND = 1 << 20


async def run(command, desk=None, **agent):
    """Let a command have its whole turn; its desk."""
    desk = desk or make_desk()
    with trio.fail_after(30):
        seen = await perform(CommandAgent(command, **agent), desk)
    assert seen.raised is None, seen.raised
    assert not seen.cancelled
    return desk


async def stop_when(command, text, desk=None, act=None):
    """Let a command say ``text``, then cancel it; how it ended, its desk, the seconds that took."""
    desk = desk or make_desk()
    scope, seen = trio.CancelScope(), None

    async def live():
        nonlocal seen
        seen = await perform(CommandAgent(command), desk, scope)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live)
            await desk.wait_text(text)
            if act is not None:
                await act(desk)
            began = trio.current_time()
            scope.cancel()
    assert seen is not None
    return seen, desk, trio.current_time() - began


# ---------------------------------------------------------------- a whole turn


async def test_a_program_reads_its_input_answers_and_is_logged():
    """Input arrives on stdin with an end of file, stdout is the answer, stderr the log, and it is one step."""
    desk = await run(shell("cat; echo oops >&2"), make_desk("hello wörld"))
    assert desk.text == "hello wörld"
    assert desk.logged == "oops\n"
    assert [what for what in desk.did if what[0].startswith("step")] == [
        ("step.started", "command"),
        ("step.finished", "command"),
    ]
    assert (desk.ended, desk.own_error) == (True, None)


async def test_the_environment_says_which_run_it_is(monkeypatch):
    """A program finds its run, chat, workspace and attempt; nobody can set those; the caller's variables beat the
    configured ones; the daemon's own are withheld, and others of its environment unless they are named.
    """
    for name in ("OUTLIVED_DATABASE", "LISTEN_FDS", "NOTIFY_SOCKET", "PGHOST", "CREDENTIALS_DIRECTORY"):
        monkeypatch.setenv(name, "the daemon's")
    monkeypatch.setenv("INHERITED", "1")
    monkeypatch.setenv("LEFT_BEHIND", "the daemon's")
    desk = make_desk(
        env={"GIVEN": "by the caller", "BOTH": "by the caller", "OUTLIVE_RUN_ID": "forged"}, attempt=3
    )
    script = "import os; print('\\n'.join(f'{name}={value}' for name, value in os.environ.items()))"
    configured = {"BOTH": "by the file", "CONFIGURED": "1"}
    await run(python(script), desk, env=configured, inherit=("INHERITED",))
    found = dict(line.split("=", 1) for line in desk.text.splitlines() if "=" in line)
    wanted = {
        "OUTLIVE_RUN_ID": desk.assignment.run_id,
        "OUTLIVE_CHAT_ID": "chat",
        "OUTLIVE_WORKSPACE": "default",
        "OUTLIVE_ATTEMPT": "3",
        "GIVEN": "by the caller",
        "BOTH": "by the caller",
        "CONFIGURED": "1",
        "INHERITED": "1",
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert "the daemon's" not in desk.text


async def test_a_program_has_a_session_of_its_own():
    """A Ctrl-C in the daemon's terminal does not reach a command: its session and group are those of its wrapper."""
    desk = await run(python("import os; print(os.getsid(0) == os.getpgid(0) == os.getppid())"))
    assert desk.text == "True\n"


async def test_the_desk_is_told_the_process():
    """A next owner will find the command by the identity of its wrapper."""
    desk = await run(python("import os; print(os.getppid())"))
    assert desk.process is not None
    assert desk.process.identity.pid == desk.process.pgid == int(desk.text)
    assert desk.process.identity.boot_id == processes.read_boot_id()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("exit 0", None),
        ("exit 7", {"code": "exit_status", "exit_status": 7}),
        ("kill -9 $$", {"code": "signal", "signal": "SIGKILL"}),
        ("kill -TERM $$", {"code": "signal", "signal": "SIGTERM"}),
    ],
)
async def test_the_exit_status_is_the_end(script, error):
    """Status 0 is a success; any other, or a signal that was not ours, is named."""
    desk = await run(shell(script))
    assert desk.ended
    assert {name: value for name, value in (desk.own_error or {}).items() if name != "message"} == (
        error or {}
    )


@examples
@given(st.integers(0, 255))
def test_every_exit_has_a_reading(status):
    """Each status of a shell becomes an error, 128+n that of signal n if there is one; 0 alone does not."""
    error = read_exit(status)
    assert (error is None) == (status == 0)
    if error is not None:
        known = {number.value: number.name for number in signal.Signals}
        if status - 128 in known:
            assert (error["code"], error["signal"]) == ("signal", known[status - 128])
        else:
            assert (error["code"], error["exit_status"]) == ("exit_status", status)
        assert "cannot" not in str(error["message"])


# ---------------------------------------------------------------- the ladder


async def test_output_after_sigterm_is_kept():
    """What a program says after SIGTERM belongs to the answer; that it then exits with 0 makes it no success."""
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    seen, desk, seconds = await stop_when(shell(script), "ready")
    assert seen.cancelled
    assert desk.text == "ready\nbye\n"
    assert not desk.ended
    assert ("step.finished", "command") not in desk.did
    assert seconds < 10


async def test_sigterm_reaches_the_whole_group(word):
    """The children of a shell hear SIGTERM too: they may say good-bye themselves."""
    child = "import os, signal, time; signal.signal(15, lambda *_: (os.write(1, b'child\\n'), os._exit(0)))"
    child += "; os.write(1, b'ready\\n'); time.sleep(1000)"
    script = (
        f"""trap 'wait; echo parent; exit' TERM; {" ".join(python("@")[:2])} -c "{child}" {word} & wait"""
    )
    seen, desk, _ = await stop_when(shell(script), "ready")
    assert seen.cancelled
    assert desk.text == "ready\nchild\nparent\n"


async def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(word):
    """Without a reaction the whole tree is killed, not before the grace is over."""
    desk = make_desk(grace_seconds=0.3)
    script = f"trap '' TERM; sleep {word} & echo ready; while :; do sleep 0.02; done"
    seen, desk, seconds = await stop_when(shell(script), "ready", desk)
    assert seen.cancelled
    assert not desk.ended
    assert 0.3 <= seconds < 10


async def test_no_grace_means_no_delay():
    """With a grace of nothing a SIGTERM-proof program is killed at once."""
    seen, _, seconds = await stop_when(
        shell("trap '' TERM; echo ready; while :; do sleep 0.02; done"), "ready", make_desk(grace_seconds=0)
    )
    assert seen.cancelled
    assert seconds < 10


async def test_a_stopped_program_is_woken_to_hear_its_end():
    """A program that was stopped with SIGSTOP still gets to run its SIGTERM handler."""

    async def wait_stopped(desk):
        await wait_for(lambda: read_state(read_child(desk.process.pgid)) == "T", "the program is stopped")

    script = "trap 'echo bye; exit 0' TERM; echo ready; kill -STOP $$; while :; do sleep 0.02; done"
    seen, desk, seconds = await stop_when(shell(script), "ready", act=wait_stopped)
    assert seen.cancelled
    assert desk.text == "ready\nbye\n"
    assert seconds < 10


async def test_a_stopped_program_that_ignores_sigterm_is_killed(word):
    """Neither SIGSTOP nor a deaf ear keeps a program alive."""

    async def wait_stopped(desk):
        await wait_for(lambda: read_state(read_child(desk.process.pgid)) == "T", "the program is stopped")

    script = f"trap '' TERM; sleep {word} & echo ready; kill -STOP $$; while :; do kill -STOP $$; done"
    seen, _, _ = await stop_when(shell(script), "ready", make_desk(grace_seconds=0.2), wait_stopped)
    assert seen.cancelled


async def test_a_hurry_ends_the_grace():
    """When there is no more time the program that still enjoys its grace is killed."""
    desk = make_desk(grace_seconds=1000)
    script = "trap 'echo no' TERM; echo ready; while :; do sleep 0.02; done"
    scope = trio.CancelScope()
    seen = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def live():
                seen.append(await perform(CommandAgent(shell(script)), desk, scope))

            nursery.start_soon(live)
            await desk.wait_text("ready")
            scope.cancel()
            await desk.wait_text("no")
            desk.hurry.set()
    assert seen[0].cancelled


async def test_a_cancel_before_the_start_starts_nothing(word):
    """A run that is stopped before its program was started never starts it."""
    scope, desk = trio.CancelScope(), make_desk()
    scope.cancel()
    seen = await perform(CommandAgent(shell(f"echo started; sleep {word}")), desk, scope)
    assert seen.cancelled
    assert desk.process is None
    assert desk.text == ""


async def test_a_natural_end_stays_natural():
    """A stop that arrives while the step's end is being written came too late: the program ended by itself."""
    desk = make_desk()
    desk.durable = trio.Event()
    scope, seen = trio.CancelScope(), []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def live():
                seen.append(await perform(CommandAgent(shell("echo done; exit 3")), desk, scope))

            nursery.start_soon(live)
            await wait_for(lambda: ("step.finished", "command") in desk.did, "the step is being finished")
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert not seen, "the end of the step is waited for"
            desk.durable.set()
    assert desk.ended
    assert desk.own_error is not None
    assert desk.own_error["exit_status"] == 3


# ---------------------------------------------------------------- what is left behind


LEAVERS = {
    "a background child": "sleep {word} &",
    "a child in a session of its own that holds stdout": "setsid sleep {word} &",
    "a double fork": "( (sleep {word} &) & )",
    "a daemon": "(setsid sh -c 'sleep {word} & exec sleep {word}' &)",
    "a child with its streams closed": "sleep {word} <&- >&- 2>&- &",
    "a child without our environment": "env -i sleep {word} &",
}


@pytest.mark.parametrize("script", LEAVERS.values(), ids=LEAVERS.keys())
async def test_what_an_ended_program_left_is_killed(script, word):
    """The turn ends when the first process does, at once, and nothing that it left behind lives on."""
    began = trio.current_time()
    desk = await run(shell(script.format(word=word) + "\necho done"))
    assert desk.text == "done\n"
    assert desk.own_error is None
    assert not list_pids(word)
    assert trio.current_time() - began < room.DRAIN_SECONDS


@pytest.mark.parametrize("script", LEAVERS.values(), ids=LEAVERS.keys())
async def test_what_a_stopped_program_left_is_killed(script, word):
    """A stop ends every process of the run, however it forked."""
    script = script.format(word=word) + "\necho ready; while :; do sleep 0.02; done"
    seen, _, _ = await stop_when(shell(script), "ready")
    assert seen.cancelled
    assert not list_pids(word)


@pytest.mark.parametrize("ending", ["sleep {word}", "exit 0", "exec >&-; sleep {word}"])
async def test_a_desk_that_fails_leaves_nothing_behind(ending, word):
    """An exception in the desk ends the turn with that exception, and every process with it."""
    desk = make_desk()
    desk.refuse = RuntimeError("no more room")
    agent = CommandAgent(
        shell(f"setsid sleep {word} & sleep {word} & echo ready; {ending.format(word=word)}")
    )
    with trio.fail_after(20):
        seen = await perform(agent, desk)
    assert seen.raised is desk.refuse
    assert not list_pids(word)


class FailingLater(RememberingDesk):
    """A desk that fails, once it is told to, with what it was given."""

    failing = trio.Event()

    async def relay(self, said, position):
        await self.failing.wait()
        raise RuntimeError(said)


async def test_a_desk_that_fails_after_the_end_leaves_nothing_behind(word, monkeypatch):
    """An exception while the rest of the output is read does not save what the program left behind."""
    desk = FailingLater(make_desk().assignment)
    kill = processes.kill_run_processes

    async def kill_later(*args, **options):
        if not desk.failing.is_set():
            await wait_for(lambda: list_pids(word), "the left-over lives")
            desk.failing.set()
            await trio.sleep_forever()
        return await kill(*args, **options)

    desk.failing = trio.Event()
    monkeypatch.setattr(processes, "kill_run_processes", kill_later)
    with trio.fail_after(20):
        seen = await perform(CommandAgent(shell(f"setsid sleep {word} & echo ready")), desk)
    assert isinstance(seen.raised, RuntimeError)
    assert not list_pids(word)


# ---------------------------------------------------------------- streams


async def test_a_flood_is_slowed_not_buffered():
    """A program that says more than is taken is held up: what is not durable of it never grows much beyond its bound."""
    desk = make_desk(grace_seconds=0)
    desk.room = trio.Event()
    scope = trio.CancelScope()
    with open_workshop() as workshop, trio.fail_after(20):
        desk.workshop = attrs.evolve(workshop, max_spool_bytes=BOUND)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(perform, CommandAgent(["yes"]), desk, scope)
            pid = (await wait_for(lambda: desk.process, "it has started")).pgid
            await wait_for(lambda: read_state(read_child(pid)) == "T", "it is held up")
            assert not desk.text
            said = read_written(read_child(pid))
            assert said >= BOUND
            await trio.sleep(0.1)
            assert read_written(read_child(pid)) == said
            desk.room.set()
            await wait_for(lambda: len(desk.text) > 2 * said, "it goes on")
            scope.cancel()


async def test_a_flood_fails_where_that_is_wanted():
    """Configured so, a program that says more than is taken fails, and is gone; what it said until then is kept."""
    desk = make_desk(grace_seconds=0)
    desk.room = trio.Event()
    with open_workshop() as workshop, trio.fail_after(20):
        desk.workshop = attrs.evolve(workshop, max_spool_bytes=BOUND, on_full="fail")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(perform, CommandAgent(["yes"]), desk)
            await wait_for(lambda: desk.ended, "it has failed")
            desk.room.set()
    assert desk.own_error is not None
    assert desk.own_error["code"] == "output_limit"
    assert len(desk.text) >= BOUND
    assert not set(desk.text) - {"y", "\n"}


async def test_a_desk_that_is_slow_at_the_end_loses_nothing():
    """What a program had said when it ended is passed on, however long the journal has no room for it."""
    desk = make_desk()
    desk.room = trio.Event()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(perform, CommandAgent(python("print('x' * 120_000 + 'end', end='')")), desk)
            pid = (await wait_for(lambda: desk.process, "it has started")).pgid
            await wait_for(lambda: read_state(pid) is None, "it has ended, and was waited for")
            await trio.testing.wait_all_tasks_blocked(0.05)
            desk.room.set()
    assert desk.text == "x" * 120_000 + "end"
    assert desk.own_error is None


@pytest.mark.parametrize("then", ["exec sleep {word}", "while :; do echo more; done; {word}"])
async def test_nobody_escapes(word, tmp_path, then):
    """A process that forked twice, has a session and an environment of its own and holds stdout is killed all the same."""
    script = f"touch {tmp_path}/free; {then.format(word=word)}"
    escape = f'(env -i setsid sh -c "{script}" &) & while [ ! -e {tmp_path}/free ]; do :; done'
    desk = await run(shell(f"echo begin; {escape}; echo done >&2"))
    assert not list_pids(word)
    assert (tmp_path / "free").exists()
    assert desk.text.startswith("begin\n")
    assert desk.logged == "done\n"
    assert desk.own_error is None


@pytest.mark.parametrize("script", ["exec <&-; echo done", "echo done", "head -c 10; echo done"])
async def test_a_program_need_not_read_its_input(script):
    """A program that ignores its input, closes it, or reads a part of it, ends as it would have."""
    desk = await run(shell(script), make_desk("x" * 1_000_000))
    assert desk.text.endswith("done\n")
    assert desk.own_error is None


async def test_a_large_input_and_a_large_output_pass_each_other():
    """A program that answers while it reads is never waited for by somebody who waits for it."""
    text = "0123456789abcdef" * 100_000
    desk = await run(["cat"], make_desk(text))
    assert desk.text == text


# ---------------------------------------------------------------- programs that cannot be started


def _gone(path):
    path.unlink()


def _not_executable(path):
    path.chmod(0o600)


def _no_format(path):
    path.write_bytes(b"\x00\x01\x02")


@pytest.mark.parametrize("spoil", [_gone, _not_executable, _no_format])
async def test_a_program_that_cannot_be_started_fails_the_run(tmp_path, spoil):
    """A program that disappears, or turns unusable, between the check and the start is agent_unavailable."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o700)
    agent = CommandAgent([str(program)])
    agent.check()
    spoil(program)
    seen = await perform(agent, make_desk())
    assert isinstance(seen.raised, AgentFailed)
    assert seen.raised.error["code"] == "agent_unavailable"
    assert str(program) in seen.raised.error["message"]


async def test_a_directory_that_is_gone_fails_the_run(tmp_path):
    """A working directory that disappears after the check is agent_unavailable too."""
    seen = await perform(CommandAgent(["true"], cwd=str(tmp_path / "gone")), make_desk())
    assert isinstance(seen.raised, AgentFailed)
    assert seen.raised.error["code"] == "agent_unavailable"


@pytest.mark.parametrize(
    "program", ["no-such-program-anywhere", "/no/such/program", "/etc", "/proc/version", "", "nul\0nul"]
)
def test_a_program_that_is_not_there_is_refused_beforehand(program):
    """What cannot be started is said before a run is stored, with the program's name."""
    with pytest.raises(AgentBroken, match="cannot start"):
        CommandAgent([program]).check()


def _assignment(**given):
    given = {"workspace": "default", "chat_id": "chat", "attempt": 1, "input": "", "metadata": {}, **given}
    return Assignment(run_id="run", **given)


@pytest.mark.parametrize("cwd", ["relative", "/no/such/directory", "/etc/hostname", "nul\0nul"])
def test_a_wrong_directory_is_refused_beforehand(cwd):
    """The caller's wrong directory is the caller's error, with its path; a configured one is the agent's."""
    with pytest.raises(AssignmentRefused, match="cannot run in") as refused:
        CommandAgent(["true"]).check_assignment(_assignment(cwd=cwd))
    assert refused.value.path == "$.cwd"
    with pytest.raises(AgentBroken, match="cannot run in"):
        CommandAgent(["true"], cwd=cwd).check_assignment(_assignment())


def test_programs_are_found_where_they_will_be_started(tmp_path):
    """The caller's PATH and directory count for the check as they do for the start."""
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    CommandAgent(["only-here"]).check_assignment(_assignment(env={"PATH": str(tmp_path)}))
    CommandAgent(["./only-here"]).check_assignment(_assignment(cwd=str(tmp_path)))
    with pytest.raises(AgentBroken):
        CommandAgent(["only-here"]).check_assignment(_assignment())
    with pytest.raises(AgentBroken):
        CommandAgent(["./only-here"]).check_assignment(_assignment())
