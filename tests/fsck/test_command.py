"""``outlived fsck`` as a person or a script calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support.runs import perform, start_endless


def fsck(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("OUTLIVED_")}
    return subprocess.run(
        [sys.executable, "-m", "outlived", "fsck", *map(str, arguments)],
        env={**known, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def database(shared_daemon) -> str:
    """The database of a daemon that is running, with a settled run and an active one."""
    with shared_daemon.connect() as wire:
        perform(wire, chat_id="settled")
        start_endless(wire, chat_id="active")
    assert shared_daemon.database is not None
    return shared_daemon.database


def test_a_clean_database_is_called_clean(database):
    """Status 0, one line with counts, also while the daemon works; for a script the same as JSON."""
    done = fsck("--database", database)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("clean: 2 runs, ")
    assert done.stdout.endswith(" events, 1 runs unsettled\n")
    again = fsck("--json", OUTLIVED_DATABASE=database)
    [summary] = [json.loads(line) for line in again.stdout.splitlines()]
    assert again.returncode == 0
    assert summary["events"] > 8
    del summary["events"]
    assert summary == {"clean": True, "problems": 0, "runs": 2, "unsettled": 1, "orphaned": 0}


def test_each_problem_has_a_line(postgres, database, make_daemon):
    """Status 1; each problem names its run and says what is wrong, the last line sums up."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        run = perform(wire)
    assert daemon.stop() == 0
    with psycopg.connect(daemon.dsn) as connection:
        connection.execute("UPDATE outlived.messages SET content = 'x' WHERE role = 'assistant'")
        connection.execute("DELETE FROM outlived.events WHERE seq = 2")
    done = fsck("--database", daemon.dsn)
    assert done.returncode == 1
    *problems, summary = done.stdout.splitlines()
    assert problems == [f"run {run['id']}: its log has event 3 where 2 should be"]
    assert summary.startswith("1 problem: 1 runs, ")
    told = fsck("--database", daemon.dsn, "--json")
    problem, summed = [json.loads(line) for line in told.stdout.splitlines()]
    assert problem == {
        "kind": "gap",
        "run_id": run["id"],
        "what": "its log has event 3 where 2 should be",
    }
    assert (told.returncode, summed["clean"], summed["problems"]) == (1, False, 1)


def test_the_embedded_database_is_found(make_daemon):
    """Without a DSN it is the state directory's Postgres, if that is up; else the line says what to do."""
    daemon = make_daemon(database=None).start()
    with daemon.connect() as wire:
        perform(wire)
    assert fsck("--state-dir", daemon.state).stdout.startswith("clean: 1 runs")
    daemon.kill()
    assert fsck(OUTLIVED_STATE_DIR=str(daemon.state)).stdout.startswith("clean: 1 runs")
    daemon.start()
    assert daemon.stop() == 0
    stopped = fsck("--state-dir", daemon.state)
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert "outlived serve" in stopped.stderr
    assert stopped.stderr.count("\n") == 1


def test_nothing_to_check_is_said_in_one_line(postgres, tmp_path):
    """No database, an empty one, one that cannot be reached: status 1, one line that says so, no traceback."""
    for arguments, said in (
        (["--state-dir", tmp_path], "--database DSN"),
        (["--database", postgres.create_database()], "no daemon was ever here"),
        (["--database", "host=/nowhere"], "/nowhere"),
        (["--database", "no dsn at all"], "connection info"),
    ):
        done = fsck(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("outlived: cannot ")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_nothing_is_changed(database):
    """The checker cannot write, even where it is allowed to."""
    from outlived.store.history import open_snapshot

    with open_snapshot(database) as snapshot, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        snapshot._connection.execute("DELETE FROM outlived.events")
