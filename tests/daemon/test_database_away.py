"""While the database is away, or is not what it should be: what is answered, and that nothing is lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from tests.support.daemon import Daemon
from tests.support.history import assert_history
from tests.support.runs import perform, settle, start, start_endless, stop, wait_text
from tests.support.waits import wait_until

PATIENT = "[owner]\nlease_seconds = 60\nheartbeat_seconds = 0.5\n[sweep]\ninterval_seconds = 0.5\n[run]\ngrace_seconds = 1\ndrain_seconds = 0.2\n"


@contextmanager
def shut(server: str, dsn: str) -> Iterator[None]:
    """The database refuses everybody, and has hung up on those who were in."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_daemon_outlasts_its_database(make_daemon: Callable[..., Daemon], postgres):
    """Without its database a daemon answers database_unavailable, retryable, says degraded, keeps its connections, its
    tails and its runs, and goes on where it was when the database is back.
    """
    daemon = make_daemon(config=PATIENT).start()
    assert daemon.database is not None
    with daemon.connect() as wire:
        settled = perform(wire)
        words = " ".join(f"word{number}" for number in range(60))
        run = start(wire, input=words, metadata={"demo": {"delay_ms": 10}})
        endless = start_endless(wire)
        tails = [
            wire.call("run/tail", run_id=found["id"], after_seq=0)["subscription"] for found in (run, endless)
        ]
        with shut(postgres.dsn, daemon.database):
            for method, params in (
                ("run/get", {"run_id": settled["id"]}),
                ("run/list", {}),
                ("chat/create", {}),
            ):
                error = wire.refuse(method, **params)
                assert (error.code, error.type, error.data["retryable"]) == (
                    503,
                    "database_unavailable",
                    True,
                )
            wait_until(lambda: wire.call("server/info")["state"] == "degraded")
        events, end = wire.read_tail(tails[0])
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert "".join(event["data"].get("text", "") for event in events) == words
        assert (events[-1]["data"]["status"], end["reason"]) == ("succeeded", "settled")
        wait_until(lambda: wire.call("server/info")["state"] == "serving")
        assert stop(wire, endless["id"])["status"] == "aborted"
        assert wire.read_tail(tails[1])[1]["reason"] == "settled"
    assert daemon.stop() == 0, daemon.read_log()
    assert_history(daemon.database, settled=True)


def test_what_waits_for_the_database_is_seen(make_daemon: Callable[..., Daemon], postgres):
    """server/stats needs no database: while that is away they say so, and how much waits for it, and since when."""
    daemon = make_daemon(config=PATIENT).start()
    assert daemon.database is not None
    with daemon.connect() as wire:
        run = start(wire, input="a b " * 1000, metadata={"demo": {"delay_ms": 20}})
        wait_text(wire, run["id"], "a ")
        with shut(postgres.dsn, daemon.database):
            wait_until(lambda: wire.call("server/stats")["database"] == "degraded")
            earlier = wait_until(
                lambda: [each for each in [wire.call("server/stats")] if each["queue_items"]]
            )[0]
            wait_until(
                lambda: wire.call("server/stats")["queue_oldest_seconds"] > earlier["queue_oldest_seconds"]
            )
            later = wire.call("server/stats")
            assert 0 < earlier["queue_bytes"] <= later["queue_bytes"]
            assert later["commits_total"] == earlier["commits_total"]
        wait_until(lambda: wire.call("server/stats")["commits_total"] > later["commits_total"])
        assert wire.call("server/stats")["database"] == "ok"
        stop(wire, run["id"])


def test_a_start_may_wait_for_the_database(make_daemon: Callable[..., Daemon], postgres):
    """A start that comes while the database is away for a moment is answered once it is back, and is one run."""
    daemon = make_daemon(config=PATIENT).start()
    assert daemon.database is not None
    with daemon.connect() as wire:
        perform(wire)
        with shut(postgres.dsn, daemon.database):
            waiting = wire.send("run/start", {"agent": "demo", "input": "x", "chat_id": "stored"})
            wait_until(lambda: wire.call("server/info")["state"] == "degraded")
        answer = wire.wait_reply(waiting)
        assert answer["created"] is True
        assert settle(wire, answer["run"]["id"])["status"] == "succeeded"
        assert len(wire.call("run/list", chat_id="stored")["runs"]) == 1
    assert daemon.stop() == 0, daemon.read_log()
    assert_history(daemon.database, acknowledged={answer["run"]["id"]}, settled=True)


def test_a_bug_is_told_with_an_incident(make_daemon: Callable[..., Daemon]):
    """What no caller can mend is answered internal_error with an incident that the daemon's log explains; the reply
    shows nothing of its inside, and connection and daemon live.
    """
    daemon = make_daemon(config=PATIENT).start()
    assert daemon.database is not None
    with daemon.connect() as wire, psycopg.connect(daemon.database, autocommit=True) as connection:
        run = perform(wire, chat_id="known")
        connection.execute("ALTER TABLE outlived.chats RENAME TO lost_chats")
        error = wire.refuse("chat/get", chat_id="known")
        assert (error.code, error.type, error.data["retryable"]) == (-32603, "internal_error", False)
        assert error.data["incident"] in error.message
        assert error.data["incident"] in daemon.read_log()
        assert "lost_chats" not in str(error.data) + error.message
        assert "Traceback" not in error.message
        connection.execute("ALTER TABLE outlived.lost_chats RENAME TO chats")
        assert wire.call("chat/get", chat_id="known")["chat"]["last_run_id"] == run["id"]
    assert daemon.stop() == 0, daemon.read_log()
