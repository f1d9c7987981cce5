"""One run, end to end."""

from tests.support.daemon import Daemon
from tests.support.history import assert_history
from tests.support.wire import Wire


def test_a_run_is_executed_and_told(shared_daemon: Daemon, wire: Wire):
    """A started run settles, its tail ends with run.settled, and its row is the fold of its log."""
    run = wire.call("run/start", agent="demo", input="hello big world")["run"]
    events, end = wire.tail(run["id"])
    assert end["reason"] == "settled"
    assert events[-1]["type"] == "run.settled"
    assert_history(shared_daemon.database, acknowledged={run["id"]}, settled=True)
