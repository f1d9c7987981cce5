"""A daemon as the wire tests want it: short times, a few agents; and what must be true when it ends."""

import re
import tempfile
from pathlib import Path

from tests.support.daemon import FAST, Daemon

CONFIG = (
    FAST.replace("grace_seconds = 2", "grace_seconds = 0.3")
    + """
[agents.shout]
kind = "command"
description = "Says it louder"
command = ["tr", "a-z", "A-Z"]

[agents.placed]
kind = "command"
command = ["sh", "-c", "pwd; printf '%s %s' \\"$CONFIGURED\\" \\"$GIVEN\\""]
cwd = "/"
env = { CONFIGURED = "by the file", GIVEN = "by the file" }

[agents.no-program]
kind = "command"
command = ["no-such-program-on-any-path"]

[agents.no-module]
kind = "python"
target = "no_such_module_anywhere:agent"
"""
)


def make_home(short_dir: Path) -> Path:
    """A directory for one daemon."""
    return Path(tempfile.mkdtemp(prefix="d-", dir=short_dir))


def end_cleanly(daemon: Daemon) -> None:
    """Stop it; it must have nothing to complain about."""
    assert daemon.stop() == 0, daemon.read_log()
    words = set(re.findall(r"\w+", daemon.read_log()))
    assert not {"Traceback", "incident"} & words, daemon.read_log()
