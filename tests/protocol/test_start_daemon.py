"""A daemon is started when none is there: once, in the background, and with a clear word when it fails.

The daemon here is a stand-in that can be told to be slow or to fail; the real one is started in ``tests/daemon``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support.command_line import CommandLine
from tests.support.scripted_daemon import ScriptedDaemon, an_info, script, wait_until

STAND_IN = """
import fcntl, os, sys, threading, time
from pathlib import Path
from outlive import wire
from tests.support.scripted_daemon import ScriptedDaemon, a_run, an_info, script, telling

told = [word for word in sys.argv[1:] if word != "--personal"]
assert told == ["serve", "--socket", os.environ["OUTLIVE_SOCKET"], "--state-dir", sys.argv[-1]], sys.argv
state = Path(sys.argv[-1])
with (state / "started").open("a") as record:
    record.write(f"{os.getpid()} {os.getsid(0)} {os.getcwd()} {os.environ.get('OUTLIVE_RUN_ID') or os.environ.get('NOTIFY_SOCKET')}\\n")
if os.environ.get("STAND_IN_FAILS"):
    print("cannot serve: it was told to fail", file=sys.stderr)
    sys.exit(1)
lock = (state / "lock").open("w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("cannot serve: another daemon does", file=sys.stderr)
    sys.exit(1)
time.sleep(float(os.environ.get("STAND_IN_SLOW", "0")))
log = [("text.delta", {"text": "done"}), ("run.settled", {"status": "succeeded", "error": None})]
answers = script(
    server_info=an_info(os.getpid()), run_start=wire.RunStarted(a_run(), True), run_tail=telling(log)
)
with ScriptedDaemon(Path(told[2]), answers):
    print("serving", file=sys.stderr, flush=True)
    threading.Event().wait(60)
"""


@pytest.fixture
def outlive(tmp_path):
    """A command line whose ``outlived`` is the stand-in, with no daemon there yet; what was started is ended."""
    package = tmp_path / "stand-in" / "outlived"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    line = CommandLine(
        tmp_path,
        OUTLIVE_NO_AUTOSTART="",
        OUTLIVE_RUN_ID="a run",
        NOTIFY_SOCKET="/nowhere",
        PYTHONWARNINGS="default",
    )
    line.environment["PYTHONPATH"] = f"{package.parent}{os.pathsep}{line.environment['PYTHONPATH']}"
    yield line
    for pid, *_ in started(line):
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue


def started(outlive):
    """What the stand-ins wrote down: pid, session, directory, run."""
    record = outlive.home / "state" / "started"
    return [line.split() for line in record.read_text().splitlines()] if record.exists() else []


def test_run_starts_a_daemon_in_the_background(outlive):
    """The first run starts a daemon with its own session, away from here, and without the name of a run or the ear of a manager."""
    done = outlive.run("run", "--agent", "demo")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done", "")
    ((pid, session, directory, run),) = started(outlive)
    assert (session, directory, run) == (pid, "/", "None")
    state = outlive.home / "state"
    assert (state.stat().st_mode & 0o777, (state / "outlived.log").stat().st_mode & 0o777) == (0o700, 0o600)
    assert outlive.run("run", "--agent", "demo").stdout == "done"
    assert len(started(outlive)) == 1


def test_many_runs_at_once_start_one_daemon(outlive):
    """Commands that find no daemon at the same moment end with one daemon that serves them all."""
    outlive.environment["STAND_IN_SLOW"] = "0.5"
    processes = [outlive.start("run", "--agent", "demo") for _ in range(4)]
    ends = []
    for process in processes:
        with process:
            ends.append((*process.communicate(timeout=30), process.returncode))
    assert ends == [("done", "", 0)] * 4
    assert len(started(outlive)) == 1


def test_interrupted_start_is_continued_by_the_next(outlive):
    """Who interrupts a slow start leaves a daemon that is still starting; the next command waits for that one."""
    outlive.environment["STAND_IN_SLOW"] = "1.5"
    with outlive.start("run", "--agent", "demo") as process:
        wait_until(lambda: started(outlive))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    done = outlive.run("run", "--agent", "demo")
    assert (done.returncode, done.stdout) == (0, "done")
    assert len(started(outlive)) == 1


def test_slow_start_is_said(outlive):
    """A start that takes more than a second says what it is doing."""
    outlive.environment["STAND_IN_SLOW"] = "1.5"
    done = outlive.run("run", "--agent", "demo")
    assert (done.returncode, done.stdout) == (0, "done")
    assert done.stderr == "outlive: starting the daemon (its first start creates its database) …\n"


def test_failed_start_names_the_reason_and_the_log(outlive):
    """A daemon that cannot start is one line with its last word and the place of its log, and status 69."""
    outlive.environment["STAND_IN_FAILS"] = "1"
    done = outlive.run("run", "--agent", "demo")
    log = outlive.home / "state" / "outlived.log"
    assert done.returncode == 69
    assert done.stderr.splitlines()[-1] == (
        "outlive: cannot start a daemon, it ended with status 1: "
        f"cannot serve: it was told to fail; its log is {log}"
    )


def test_loser_against_a_daemon_started_by_hand_is_served(outlive):
    """Where somebody else's daemon is just coming up, the one started here may lose: its socket counts."""
    outlive.environment["STAND_IN_SLOW"] = "1"
    state = outlive.home / "state"
    state.mkdir()
    argv = [
        sys.executable,
        "-m",
        "outlived",
        "serve",
        "--socket",
        str(outlive.socket),
        "--state-dir",
        str(state),
    ]
    with subprocess.Popen(argv, env=outlive.environment, stderr=subprocess.DEVNULL) as by_hand:
        wait_until((state / "lock").exists)
        done = outlive.run("run", "--agent", "demo")
        by_hand.terminate()
    assert (done.returncode, done.stdout) == (0, "done")
    assert len(started(outlive)) == 2


@pytest.mark.parametrize("how", ["option", "environment"])
def test_autostart_can_be_turned_off(outlive, how):
    """--no-autostart and OUTLIVE_NO_AUTOSTART=1 start nothing and say that nobody is there."""
    arguments = ["--no-autostart"] if how == "option" else []
    outlive.environment["OUTLIVE_NO_AUTOSTART"] = "1" if how == "environment" else ""
    done = outlive.run("run", *arguments, "--agent", "demo")
    assert done.returncode == 69
    assert started(outlive) == []


@pytest.mark.parametrize("missing", ["outlived", "psycopg"])
def test_missing_parts_are_named(outlive, missing):
    """Without what the daemon needs, one line says what to install."""
    blocker = (
        "from importlib.machinery import PathFinder\nreal = PathFinder.find_spec\n"
        f"PathFinder.find_spec = lambda name, *rest: None if name == {missing!r} else real(name, *rest)\n"
    )
    (outlive.home / "stand-in" / "sitecustomize.py").write_text(blocker)
    done = outlive.run("run", "--agent", "demo")
    assert done.returncode == 69
    assert done.stderr.startswith(f"outlive: cannot start a daemon: {missing} is not installed; ")
    assert done.stderr.endswith(" -m pip install 'outlive[daemon]'\n")
    assert done.stderr.count("\n") == 1


def test_daemon_is_started_shown_and_stopped(outlive):
    """The verbs start, status, logs and stop do what they say; starting twice starts one."""
    first = json.loads(outlive.run("daemon", "start", "--json").stdout)
    second = json.loads(outlive.run("daemon", "start", "--json").stdout)
    assert first["pid"] == second["pid"] == int(started(outlive)[0][0])
    assert str(outlive.socket) in outlive.run("daemon", "status").stdout
    assert outlive.run("daemon", "logs").stdout == "serving\n"
    done = outlive.run("daemon", "stop")
    assert (done.returncode, done.stdout) == (0, f"{first['pid']} stopped\n")
    assert outlive.run("daemon", "status").returncode == 69


@pytest.mark.parametrize("pid", [1, 2**22 + 1])
def test_only_the_daemon_itself_is_stopped(outlive, pid):
    """A pid that did not open the socket, or that is nobody here, gets no signal."""
    with ScriptedDaemon(outlive.socket, script(server_info=an_info(pid))):
        done = outlive.run("daemon", "stop")
    assert done.returncode == 2
    assert "cannot stop" in done.stderr
