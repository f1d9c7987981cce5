"""The first command starts a daemon by itself: one, with a database of its own, unless that was forbidden."""

import json
import re

import pytest

from tests.support.processes import is_alive
from tests.support.waits import wait_until


def test_two_runs_at_once_start_one_daemon(alone):
    """Two commands that find no daemon end with one daemon that ran both; its log and its end are at hand."""
    processes = [alone.start("run", "--agent", "demo", word) for word in ("one", "two")]
    ends = []
    for process in processes:
        with process:
            ends.append((process.communicate(timeout=60), process.returncode))
    assert [(out, code) for (out, _), code in ends] == [("one", 0), ("two", 0)]
    assert {err for (_, err), _ in ends} <= {
        "",
        "outlive: starting the daemon (its first start creates its database) …\n",
    }
    log = [json.loads(line) for line in alone.run("daemon", "logs", "--json").stdout.splitlines()]
    assert [entry["event"] for entry in log].count("serving") == 1
    pid = json.loads(alone.run("daemon", "status", "--json").stdout)["pid"]
    with alone.start("daemon", "logs", "-f", "-n", "1") as following:
        wait_until(following.stdout.readline, what="the last line")
        assert alone.run("daemon", "stop").stdout == f"{pid} stopped\n"
        assert not is_alive(pid)
        wait_until(lambda: "stopped" in following.stdout.readline(), what="the daemon's last words")
        following.terminate()
    assert alone.run("daemon", "status").returncode == 69


@pytest.mark.parametrize("how", ["option", "environment"])
def test_forbidden_start_is_one_line(alone, how):
    """--no-autostart and OUTLIVE_NO_AUTOSTART start nothing: status 69, one line, and what to do."""
    alone.environment["OUTLIVE_NO_AUTOSTART"] = "1" if how == "environment" else ""
    options = ["--no-autostart"] if how == "option" else []
    done = alone.run("run", *options, "--agent", "demo", "hello")
    assert (done.returncode, done.stdout) == (69, "")
    assert re.fullmatch(
        r"outlive: cannot reach a daemon at \S+: .*; start one with: outlive daemon start\n", done.stderr
    )
    assert not (alone.home / "state").exists()
