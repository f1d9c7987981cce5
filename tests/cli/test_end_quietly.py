"""A reader that goes away ends a command without a word."""

import subprocess

import pytest

from tests.support.runs import perform, start_endless


@pytest.fixture
def shell(outlive):
    """Run a line of bash, in which ``outlive`` is a program like any other."""

    def run(line):
        return subprocess.run(
            ["bash", "-c", line],
            env=outlive.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "command", ["tail RUN", "tail RUN --json", "show RUN", "messages chatty", "list", "daemon logs -n 20000"]
)
def test_head_ends_it(shell, outlive, wire, command):
    """``| head -1`` prints one line, nothing on stderr, and the command ends by itself."""
    run = perform(wire, chat_id="chatty", input="word\n" * 20_000, metadata={"demo": {"delay_ms": 0}})
    (outlive.home / "state").mkdir()
    (outlive.home / "state" / "outlived.log").write_text("a line\n" * 20_000, "utf-8")
    done = shell(f"outlive {command.replace('RUN', run['id'])} | head -1; echo ${{PIPESTATUS[0]}}")
    assert done.stderr == ""
    first, code = done.stdout.splitlines()
    assert first
    assert code in {"0", "141"}


def test_run_goes_on_without_its_reader(shell, wire):
    """``outlive run | head -1`` leaves the run alone."""
    done = shell("outlive run -- sh -c 'echo first; sleep 0.5; echo second; echo third' | head -1")
    assert (done.stdout, done.stderr) == ("first\n", "")
    run = wire.call("run/list", limit=1)["runs"][0]
    waited = wire.call("run/wait", run_id=run["id"])
    assert waited["run"]["status"] == "succeeded"
    assert waited["message"]["content"] == "first\nsecond\nthird\n"


def test_input_comes_from_a_pipe_and_a_chat_goes_on(shell, outlive, wire):
    """``… | outlive run`` reads its input; --chat goes on, --key finds the same run, --on-active joins."""
    done = shell(
        "echo piped | outlive run --agent demo --chat talk; outlive run --agent demo --chat talk --key k more; echo;"
        "outlive run --agent demo --chat talk --key k more; echo; outlive messages talk"
    )
    assert done.stdout.startswith("piped\nmore\nmore\n--- user (completed")
    assert done.stdout.count("--- ") == 4
    assert "which was there already" in done.stderr
    active = start_endless(wire, chat_id="talk")
    arguments = ("run", "--agent", "demo", "--chat", "talk", "--on-active", "join", "ignored")
    with outlive.start(*arguments) as joined:
        assert joined.stdout.read(6) == "first "
        assert wire.call("run/stop", run_id=active["id"], wait_seconds=20)["outcome"] == "stopped"
        _, err = joined.communicate(timeout=20)
    assert joined.returncode == 3
    assert f"this is run {active['id'][-8:]}, which was there already" in err
