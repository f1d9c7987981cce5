"""kill -9 of the daemon's own Postgres, under load, again and again."""

import itertools
import os
import signal
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Self

import attrs
import pytest

from outlived.store.postmaster import PidFile
from tests.support.daemon import FAST, Daemon
from tests.support.effort import Effort
from tests.support.history import assert_history
from tests.support.runs import read_text, settle, start
from tests.support.waits import wait_until
from tests.support.wire import WireError

CLIENTS = 4


@attrs.define(eq=False)
class Load:
    """Clients that start one run after another, each start with a key, and repeat what was not acknowledged."""

    daemon: Daemon
    acknowledged: dict[str, str] = attrs.Factory(dict)
    """Key -> the run that the daemon said it is."""
    refused: int = 0
    wrong: list[str] = attrs.Factory(list)
    _over: threading.Event = attrs.Factory(threading.Event)
    _threads: list[threading.Thread] = attrs.Factory(list)

    def __enter__(self) -> Self:
        for number in range(CLIENTS):
            thread = threading.Thread(target=self._work, args=(number,))
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def wait_more(self, count: int) -> None:
        """Return once so many more starts were acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_until(
            lambda: self.wrong or len(self.acknowledged) >= wanted, 60, f"{wanted} acknowledged starts"
        )
        assert not self.wrong

    def _work(self, client: int) -> None:
        try:
            with self.daemon.connect(60) as wire:
                for number in itertools.count():
                    key, run_id = str(uuid.uuid4()), None
                    while run_id is None and not self._over.is_set():
                        chat = f"client {client}, chat {number}".replace(" ", "-").replace(",", "")
                        params = {"agent": "demo", "input": "one two three", "chat_id": chat}
                        try:
                            run_id = wire.call("run/start", **params, idempotency_key=key)["run"]["id"]
                        except WireError as error:
                            if error.type != "database_unavailable":
                                raise
                            self.refused += 1
                    if run_id is None:
                        return
                    self.acknowledged[key] = run_id
        except Exception as error:  # noqa: BLE001 - a thread's failure is told by the test
            self.wrong.append(repr(error))


def read_postmaster(daemon: Daemon) -> int | None:
    """The process id of the embedded Postgres; None while none has said that it runs."""
    found = PidFile.read(daemon.state / "postgres" / "data")
    return None if found is None else found.pid


@pytest.mark.timeout(240)
def test_a_killed_postmaster_loses_nothing(
    make_daemon: Callable[..., Daemon], effort: Effort, tmp_path: Path
):
    """Its postmaster killed under load, over and over: the daemon stays, no acknowledged start is lost or doubled, a
    key stands for the same run, agents go on and lose no word, a tail sees all of it, and work goes on each time.
    """
    daemon = make_daemon(
        database=None, config=FAST.replace("lease_seconds = 6", "lease_seconds = 60")
    ).start()
    assert daemon.process is not None
    go = tmp_path / "go"
    script = f"i=0; while [ ! -e {go} ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo over $i"
    with daemon.connect(60) as wire:
        talking = start(wire, command=["sh", "-c", script])
        subscription = wire.call("run/tail", run_id=talking["id"], after_seq=0)["subscription"]
        with Load(daemon) as load:
            for _ in range(effort.choose(3, 10)):
                load.wait_more(20)
                killed = wait_until(lambda: read_postmaster(daemon), what="Postgres runs")
                os.kill(killed, signal.SIGKILL)
                wait_until(lambda old=killed: read_postmaster(daemon) not in {None, old}, 30, "it runs again")
                load.wait_more(20)
                assert daemon.process.poll() is None
        assert not load.wrong
        go.touch()
        events, end = wire.read_tail(subscription)
        lines = read_text(events).splitlines()
        assert lines[:-1] == [f"line {number}" for number in range(1, len(lines))]
        assert (lines[-1], end["reason"]) == (f"over {len(lines) - 1}", "settled")
        for run_id in load.acknowledged.values():
            assert settle(wire, run_id)["status"] == "succeeded"
        for key, run_id in list(load.acknowledged.items())[:: CLIENTS * 5]:
            run = wire.call("run/get", run_id=run_id)["run"]
            again = {"agent": "demo", "input": "one two three", "chat_id": run["chat_id"]}
            assert wire.call("run/start", **again, idempotency_key=key) == {"run": run, "created": False}
        wait_until(lambda: wire.call("server/info")["state"] == "serving")
        acknowledged = {talking["id"], *load.acknowledged.values()}
        assert len(acknowledged) == len(load.acknowledged) + 1
        assert_history(daemon.dsn, acknowledged=acknowledged, settled=True)
    assert daemon.stop() == 0, daemon.read_log()
