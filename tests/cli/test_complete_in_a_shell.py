"""Completion in real interactive shells, by pressing TAB."""

import shutil

import pytest

from tests.support.runs import perform
from tests.support.terminal import Terminal

PROMPT = "READY> "
CTRL_U = "\x15"
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], f"PS1='{PROMPT}'", 'eval "$(outlive completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        f"PS1='{PROMPT}'; autoload -Uz compinit; compinit -D; unsetopt PROMPT_SP",
        'eval "$(outlive completion zsh)"',
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        f"function fish_prompt; echo -n '{PROMPT}'; end; function fish_right_prompt; end",
        "outlive completion fish | source",
    ),
}


@pytest.fixture(params=SHELLS)
def terminal(request, outlive):
    """An interactive shell that has been taught to complete, at an empty prompt."""
    argv, setup, lesson = SHELLS[request.param]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    with Terminal(argv, {**outlive.environment, "LC_ALL": "C.UTF-8"}, columns=120, rows=40) as terminal:
        terminal.type(f"{setup}; {lesson}; clear\n")
        terminal.wait_shown(lambda rows: rows == [PROMPT.rstrip()])
        yield terminal


def complete(terminal, typed, until):
    """Type something and TAB until the current line is ``until``; erase the line again."""
    terminal.type(typed + "\t")
    terminal.wait_shown(lambda rows: rows == [until])
    terminal.type(CTRL_U)
    terminal.wait_shown(lambda rows: rows == [PROMPT.rstrip()])


def test_tab_completes(terminal, outlive, wire):
    """Commands, options, agents, runs (with a list that says what they are), chats with strange names, files and commands."""
    run = perform(wire, input="x", chat_id="a:chat@home")
    short = run["id"][-8:]
    complete(terminal, "outlive mess", f"{PROMPT}outlive messages")
    complete(terminal, "outlive messages a:ch", f"{PROMPT}outlive messages a:chat@home")
    complete(terminal, "outlive messages a:chat@h", f"{PROMPT}outlive messages a:chat@home")
    complete(terminal, "outlive run --agent outs", f"{PROMPT}outlive run --agent outspoken")
    complete(terminal, f"outlive tail {short[:7]}", f"{PROMPT}outlive tail {short}")
    complete(terminal, "outlive tail @l", f"{PROMPT}outlive tail @last")
    complete(terminal, "outlive list --status=succ", f"{PROMPT}outlive list --status=succeeded")
    complete(terminal, "outlive info --socket /etc/host.co", f"{PROMPT}outlive info --socket /etc/host.conf")
    complete(terminal, "outlive run -- outliv", f"{PROMPT}outlive run -- outlive")
    terminal.type("outlive show \t\t")
    terminal.wait_shown(
        lambda rows: any(short in row and "succeeded, " in row and "demo" in row for row in rows)
    )
