"""An error is one line: what is wrong, and what to do about it."""

import re
import sys

import pytest

from tests.support.runs import start_endless


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "ls", "-la", "a b"], 2, r"cannot understand -la a b; a command goes behind --: outlive run -- ls -la 'a b'"),
        (["run", "make"], 2, r"cannot tell what to run: .* a command behind --: outlive run -- make"),
        (["run", "--agent", "demo", "two", "words"], 2, r"cannot understand words; an INPUT of several words goes into quotes; .*"),
        (["run", "--agent", "demo", "--", "ls"], 2, r"cannot run both an agent .*: give one of them"),
        (["run", "--agent", "dmeo"], 2, r"cannot start a run: .*'dmeo'; which agents there are shows: outlive info"),
        (["run", "--follow", "--detach", "--agent", "demo"], 2, r"argument -d/--detach: not allowed with argument -f/--follow; .*"),
        (["run", "--chat", "busy", "--agent", "demo"], 1, r".*; wait for it \(outlive wait [0-9a-f-]{36}\), stop it, or use --on-active join"),
        (["tail", "ffffffff"], 2, r"cannot find run 'ffffffff' .*; see: outlive list"),
        (["stop", "@last", "ffffffff"], 2, r"cannot find run 'ffffffff' .*; see: outlive list"),
        (["list", "--colour"], 2, r"cannot understand --colour; see: outlive list --help"),
        (["daemon", "logs"], 2, r"cannot show a log: there is no \S+outlived.log, .*; if systemd started one: journalctl -u outlived"),
    ],
)  # fmt: skip
def test_error_is_one_line_with_advice(outlive, wire, arguments, code, said):
    """Each mistake of a newcomer is answered by one line that says how to do it right, and stops or starts nothing."""
    busy = start_endless(wire, chat_id="busy")
    done = outlive.run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert re.fullmatch(f"outlive: {said}\n", done.stderr), done.stderr
    stopped = wire.call("run/stop", run_id=busy["id"], wait_seconds=10)
    assert stopped["outcome"] == "stopped"


def test_rich_is_imported_where_it_is_needed_only(outlive):
    """What a script asks for does not wait for libraries that only terminals need; a version waits for nothing."""
    for arguments, unused in (
        (["info"], {"rich"}),
        (["--version"], {"rich", "anyio", "msgspec", "outlive.client"}),
    ):
        code = f"code = main(sys.argv[1:]); print(sorted({unused!r} & set(sys.modules)), file=sys.stderr)"
        outlive.argv = [
            sys.executable,
            "-c",
            f"import sys; from outlive.cli import main; {code}; sys.exit(code)",
        ]
        done = outlive.run(*arguments)
        assert (done.returncode, done.stderr) == (0, "[]\n")
