"""Coding agents that need no configuration: who may name them, where they work, and what takes their place.

The program here is a script of that name on the daemon's PATH, which prints what the real one has printed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.test_access import ANN, act_as
from tests.support.daemon import FAST, Daemon
from tests.support.runs import perform, read_text
from tests.support.wire import Wire

PRINTED = Path(__file__).parents[1] / "agents/formats/recordings/codex-resumed.jsonl"
SCRIPT = f"""#!/bin/sh
echo "$PWD $* key=$OPENAI_API_KEY secret=$SECRET" >&2
cat >&2
exec cat {PRINTED}
"""


@pytest.fixture
def open_daemon(make_daemon: Callable[..., Daemon], tmp_path: Path) -> Callable[..., Daemon]:
    """Start a daemon that has ``codex`` on its PATH."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "codex").write_text(SCRIPT)
    (bin_ / "codex").chmod(0o755)

    def open_(config: str = FAST) -> Daemon:
        daemon = make_daemon(config=config)
        environment = {"PATH": f"{bin_}:{os.environ['PATH']}", "OPENAI_API_KEY": "k", "SECRET": "s"}
        daemon.before = ["env", *(f"{name}={value}" for name, value in environment.items())]
        return daemon.start()

    return open_


def read_stderr(wire: Wire, run_id: str) -> str:
    return "".join(
        event["data"]["text"]
        for event in wire.tail(run_id)[0]
        if event["type"] == "log" and event["data"]["stream"] == "stderr"
    )


def test_it_works_in_its_callers_directory(open_daemon, tmp_path: Path):
    """``outlive run --agent codex TEXT`` gives it the text, the current directory and its key; its answer is the run's."""
    daemon = open_daemon()
    here = tmp_path / "project"
    here.mkdir()
    command = [sys.executable, "-m", "outlive", "run", "--agent", "codex", "--chat", "c", "fix the tests"]
    done = subprocess.run(
        command,
        cwd=here,
        env={**os.environ, "OUTLIVE_SOCKET": str(daemon.socket)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "You said: [think]"), done.stderr
    with daemon.connect() as wire:
        run = wire.call("run/latest", chat_id="c")["run"]
        said = read_stderr(wire, run["id"])
        assert said == f"{here} exec --json --skip-git-repo-check - key=k secret=\nfix the tests"
        thread = json.loads(PRINTED.read_text().splitlines()[0])["thread_id"]
        second = perform(wire, agent="codex", chat_id="c", cwd=str(here))
        assert f"--skip-git-repo-check resume {thread} -" in read_stderr(wire, second["id"])
        # The script says the thread's totals again: the second turn has used nothing.
        assert (run["usage"]["input_tokens"], second["usage"]["input_tokens"]) == (90, 0)


def test_a_configured_agent_of_the_name_takes_its_place(open_daemon):
    """A configuration wins: its command is run, and its caller's directory is not asked for."""
    daemon = open_daemon(FAST + '[agents.codex]\nkind = "command"\ncommand = ["echo", "mine"]\n')
    with daemon.connect() as wire:
        [codex] = [agent for agent in wire.call("server/info")["agents"] if agent["name"] == "codex"]
        assert not codex["in_cwd"]
        assert read_text(wire.tail(perform(wire, agent="codex")["id"])[0]) == "mine\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_only_the_daemons_own_user_may_name_it(open_daemon, short_dir: Path):
    """Another user neither sees nor starts it; what is configured is there for everybody."""
    daemon = open_daemon(
        FAST + '[server]\nsocket_mode = "666"\n[agents.echo]\nkind = "command"\ncommand = ["echo"]\n'
    )
    for directory in (short_dir, daemon.directory):
        directory.chmod(0o755)
    with act_as(ANN, ANN):
        wire = daemon.connect()
    with wire:
        assert {agent["name"] for agent in wire.call("server/info")["agents"]} == {"demo", "echo"}
        refused = wire.refuse("run/start", agent="codex")
        assert (refused.code, refused.type) == (403, "forbidden")
        assert perform(wire, agent="echo")["status"] == "succeeded"
