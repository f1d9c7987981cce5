"""A machine's clock that is wrong: only the database's counts, for leases, for times, and for what is newest."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.history import assert_history
from tests.support.runs import perform, read_text, settle, start, start_endless, stop
from tests.support.waits import wait_until

LEASE = 1.5
BRISK = f"""
[owner]
lease_seconds = {LEASE}
heartbeat_seconds = 0.3
[sweep]
interval_seconds = 0.2
[run]
drain_seconds = 0
"""
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
"""A library that answers for the machine's clock. (The program ``faketime`` would stay between us and the daemon.)"""


@pytest.mark.skipif(FAKETIME is None, reason="there is no libfaketime here")
@pytest.mark.parametrize("off", ["+1h", "-1h"])
def test_a_clock_an_hour_off_changes_nothing(make_daemon: Callable[..., Daemon], database: str, off: str):
    """A daemon whose clock is an hour off lives, sweeps, stops, tails and is taken over like its sibling."""
    right, wrong = make_daemon(database, BRISK), make_daemon(database, BRISK)
    wrong.before = ["env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME={off}", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
    right.start()
    wrong.start()
    with right.connect() as here, wrong.connect() as there:
        assert abs(read_time(there.call("server/info")["started_at"]) - time.time()) > 3000, "it is off"
        kept = [start_endless(here), start_endless(there)]
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 2 * LEASE, 30, "two leases are over")
        states = {owner["state"] for owner in there.call("server/owners")["owners"]}
        assert states == {"living"}
        for wire, run in zip((there, here), kept, strict=True):
            assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "running"
            assert stop(wire, run["id"])["status"] == "aborted"
        for wire, other in ((here, there), (there, here)):
            run = start(wire, input="a b c", metadata={"demo": {"delay_ms": 5}})
            assert read_text(other.tail(run["id"])[0]) == "a b c"
            made = perform(wire)
            assert abs(read_time(made["created_at"]) - time.time()) < 60
        for wire in (here, there):
            millis = int(perform(wire)["id"].replace("-", "")[:12], 16)
            assert abs(millis / 1000 - time.time()) < 60, "lists are newest first, by id"
        left = start_endless(there)
        wrong.kill()
        lost = settle(here, left["id"])
        assert (lost["status"], lost["error"]["code"]) == ("aborted", "owner_lost")
    wrong.start()
    with wrong.connect() as there:
        left = start_endless(there)
        right.kill()
        perform(there)
        assert stop(there, left["id"])["status"] == "aborted"
    assert_history(database, settled=True)


def read_time(text: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
