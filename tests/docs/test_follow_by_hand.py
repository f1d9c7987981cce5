"""The program of docs/socket.md that follows a run with nothing but the standard library."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.docs.pages import ROOT, read_blocks
from tests.support.daemon import Daemon


def test_it_survives_a_restart(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """The daemon is killed and started again: the program's events are dense, and end with the settlement."""
    (text,) = [block.text for block in read_blocks(ROOT / "docs/socket.md") if block.title == "follow.py"]
    program = tmp_path / "follow.py"
    program.write_text(text.replace('input="by hand"', 'input="word " * 2000'))
    daemon = make_daemon().start()
    with subprocess.Popen(
        [sys.executable, "-u", str(program)],
        env={"SOCKET": str(daemon.socket)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(8)]
        daemon.kill()
        daemon.start()
        lines = [*first, *process.communicate(timeout=60)[0].splitlines()]
    assert process.returncode == 0
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == list(range(1, len(lines) + 1))
    assert lines[-1].split()[1] == "run.settled"
