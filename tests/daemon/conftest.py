"""The daemon that most modules here share: small times, a few agents, and its history checked at the end."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import FAST, Daemon
from tests.support.history import assert_history
from tests.support.postgres import Postgres

CONFIG = (
    FAST.replace("grace_seconds = 2", "grace_seconds = 0.5")
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


@pytest.fixture(scope="module")
def shared_daemon(postgres: Postgres, short_dir: Path) -> Iterator[Daemon]:
    """One daemon for a module. At its end every run is settled, every log is whole, and nothing went wrong inside."""
    directory = Path(tempfile.mkdtemp(prefix="d-", dir=short_dir))
    daemon = Daemon(directory, database=postgres.create_database(), config=CONFIG).start()
    yield daemon
    assert daemon.stop() == 0, daemon.read_log()
    assert not {"Traceback", "incident"} & set(re.findall(r"\w+", daemon.read_log())), daemon.read_log()
    assert daemon.database is not None
    assert_history(daemon.database, settled=True)
