"""What stands behind TAB: ``outlive __complete``, without a shell."""

import time

import pytest

from outlive.cli.complete import complete, for_bash, split
from outlive.cli.perform import parser
from tests.support.runs import perform, start_endless

BREAKS = " \t\n\"'><=;|&(:@"


@pytest.fixture
def ask(outlive):
    """Ask for the candidates of the last word; value -> description."""

    def ask(*words):
        done = outlive.run("__complete", "words", *words)
        assert (done.returncode, done.stderr) == (0, "")
        lines = [line.partition("\t") for line in done.stdout.splitlines()]
        return {value: description for value, _, description in lines}

    return ask


def offer(*words):
    """The candidates of the last word, as they are made where no daemon need be asked."""
    return dict(complete(parser(), words))


def test_commands_and_options_are_offered():
    """Commands, their verbs, their options and the choices of these are read from the parsers."""
    commands = offer("")
    assert {
        "run",
        "tail",
        "stop",
        "wait",
        "show",
        "list",
        "chats",
        "messages",
        "info",
        "daemon",
        "completion",
    } <= set(commands)
    assert commands["list"] == "list runs, newest first"
    assert "__complete" not in commands
    assert set(offer("st")) == {"stop"}
    assert set(offer("daemon", "st")) == {"start", "status", "stop"}
    assert set(offer("info", "--s")) == {"--socket", "--stats"}
    assert set(offer("daemon", "logs", "--f")) == {"--follow"}
    assert set(offer("list", "--status", "fa")) == {"failed"}
    assert set(offer("list", "--status=fa")) == {"--status=failed"}
    assert set(offer("completion", "")) == {"bash", "zsh", "fish"}
    assert {"--agent", "--"} <= set(offer("run", ""))
    assert offer("fly", "") == offer("run", "--key", "") == {}


def test_shell_is_asked_for_what_it_knows():
    """Files, directories and commands behind -- are the shell's business."""
    assert set(offer("list", "--socket", "/tm")) == {":files"}
    assert set(offer("run", "--cwd", "")) == {":directories"}
    assert set(offer("run", "--chat", "c", "--", "")) == {":command"}
    assert set(offer("run", "--", "make", "te")) == {":command"}


def test_runs_chats_and_agents_are_offered(ask, outlive, wire):
    """Runs by the end of their id or by its front, chats and agents come from the daemon, each with what it is."""
    done, active = perform(wire, chat_id="a-chat:1"), start_endless(wire)
    short = {run["id"][-8:] for run in (done, active)}
    offered = ask("tail", "")
    assert short | {"@last"} <= set(offered)
    assert offered[done["id"][-8:]].startswith("succeeded, ")
    assert offered[done["id"][-8:]].endswith(": demo")
    assert set(ask("show", done["id"][-8:-2])) == {done["id"][-8:]}
    assert done["id"] in ask("show", done["id"][:20])
    assert active["id"][-8:] in ask("stop", "")
    assert done["id"][-8:] not in ask("stop", "")
    assert active["id"][-8:] not in ask("wait", active["id"], "")
    assert set(ask("run", "--agent", "out")) == {"outspoken"}
    assert ask("run", "--agent=out") == {"--agent=outspoken": "Says everything once"}
    assert "a-chat:1" in ask("messages", "a-")
    assert "a-chat:1" in ask("run", "--chat", "")
    assert "default" in ask("list", "--workspace", "")
    socket, outlive.environment["OUTLIVE_SOCKET"] = outlive.environment["OUTLIVE_SOCKET"], "/nowhere"
    assert "outspoken" in ask("run", "--socket", socket, "--agent", "")
    wire.call("run/stop", run_id=active["id"])


def test_nobody_there_is_silence(ask, outlive, tmp_path):
    """Without a daemon nothing is said, nothing is started, and TAB does not hang."""
    outlive.environment.update(OUTLIVE_SOCKET=str(tmp_path / "s"), OUTLIVE_NO_AUTOSTART="")
    began = time.monotonic()
    assert ask("tail", "") == ask("run", "--agent", "") == ask("messages", "") == {}
    assert time.monotonic() - began < 10
    assert not (outlive.home / "state").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("outlive ", [""]),
        ("outlive tail @l", ["tail", "@l"]),
        ("outlive run 'two wo", ["run", "two wo"]),
        ("outlive run \"it's", ["run", "it's"]),
        ("A=b outlive list --status=", ["list", "--status="]),
        ("outlive run a\\ b ", ["run", "a b", ""]),
    ],
)
def test_line_is_cut_as_a_shell_does(line, words):
    """Quotes may still be open where the cursor is."""
    assert split(line, "outlive") == words


def test_bash_gets_what_it_inserts():
    """Only what stands behind the last word break is given to bash; a list has descriptions, a single candidate none."""
    found = [("a:b", "one"), ("a:c", "two 你好")]
    assert for_bash(found[:1], "a:", BREAKS, "9") == ["b"]
    assert for_bash(found, "a:", BREAKS, "63") == ["b  (one)", "c  (two 你好)"]
    assert for_bash(found, "a:", BREAKS, "37") == ["b", "c"]
    assert for_bash([("--status=failed", "")], "--status=f", BREAKS, "9") == ["failed"]
    assert for_bash([("@last", "")], "@l", BREAKS, "9") == ["@last"]
    assert for_bash([("you@home", "")], "you@h", BREAKS, "9") == ["@home"]
