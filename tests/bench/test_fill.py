"""What benchmarks fill tables with, ask Postgres about, and read again: the same as a daemon's own."""

from pathlib import Path

import pytest

from bench.fill import EVENTS_PER_RUN, fill, fill_long_run
from bench.plans import explain_all
from bench.readers import Reader, listen
from tests.support.daemon import Daemon
from tests.support.locks import open_session
from tests.support.postgres import Postgres

RUNS = 500


@pytest.fixture(scope="module")
def filled(postgres: Postgres, short_dir: Path):
    """A daemon on a database with some hundred settled runs, and a long one."""
    database = postgres.create_database()
    daemon = Daemon(short_dir / "filled", database=database).start()
    assert list(fill(database, RUNS)) == [RUNS]
    yield daemon, fill_long_run(database, 3000, 200)
    daemon.stop()


def test_filled_runs_are_like_a_daemons_own(filled):
    """The daemon lists them, shows their messages, and tails them to their end."""
    daemon, _ = filled
    with daemon.connect() as wire:
        latest = wire.call("run/latest", chat_id="chat-7")
        assert latest["run"]["status"] == "succeeded"
        assert latest["message"]["content"] == latest["message"]["parts"][0]["text"]
        events, end = wire.tail(latest["run"]["id"])
        assert [event["seq"] for event in events] == list(range(1, EVENTS_PER_RUN + 1))
        assert end["reason"] == "settled"
        assert len(wire.call("chat/messages", chat_id="chat-7")["messages"]) == 10
        assert wire.call("run/list", status=["failed"])["runs"]


def test_every_statement_has_an_example(filled):
    """No statement of the daemon escapes the look at its plan for want of a parameter."""
    daemon, _ = filled
    plans = explain_all(daemon.database)
    assert plans.unseen == [], "\n".join(plans.unseen)
    assert plans.explained > 30


def test_events_of_a_long_run_have_the_size_that_was_asked_for(filled):
    """A MB/s is computed from that size."""
    daemon, run_id = filled
    with open_session(daemon.database) as session:
        sizes = session.ask(
            f"SELECT DISTINCT octet_length(data) FROM outlived.events WHERE run_id = '{run_id}' AND type = 'log'"
        )
    assert sizes == [(200,)]


def test_readers_count_what_they_are_sent(filled):
    """Every reader has every event and its end; the lines of the log and the tail_end are all counted."""
    daemon, run_id = filled
    readers = [Reader(str(daemon.socket), run_id) for _ in range(3)]
    for reader in readers:
        reader.wait_subscribed()
    heard = listen(readers, timed=True)
    for reader in readers:
        reader.sock.close()
    assert (heard.readers, heard.events, heard.texts) == (3, 3 * 3001, 0)
    assert heard.asked < heard.last
