"""Readers that take nothing, little, or half: each costs a bounded amount of memory, and nobody but itself notices.

The first fixture begins what takes half a minute; the last tests look at how it ended.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from outlived.server.outbox import STALL_SECONDS
from outlived.server.session import LINGER_SECONDS
from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.memory import read_peak, read_rss, reset_peak
from tests.support.processes import wait_idle
from tests.support.readers import Reader
from tests.support.runs import perform, settle, start, start_shell, stop
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire

READERS = 200
MOST = 64
"""MiB that they may cost together."""
LINE = "a line of the flood"
TRICKLES = 100


def flood(wire: Wire, megabytes: int, go: Path) -> Json:
    """Start a run that waits for ``go`` and then says so many million bytes."""
    script = f"while [ ! -e {go} ]; do sleep 0.02; done; yes '{LINE}' | head -c {megabytes}000000"
    return start_shell(wire, script)


def read_flood(wire: Wire, run_id: str) -> int:
    """Tail a run to its end as a healthy reader does, holding nothing; the bytes it said, every event in its place."""
    wire.call("run/tail", run_id=run_id, after_seq=0)
    last, said = 0, 0
    while True:
        line = wire.wait_notification()
        if line["method"] == "run/tail_end":
            assert (line["params"]["reason"], line["params"]["last_seq"]) == ("settled", last)
            return said
        event = line["params"]
        assert event["seq"] == last + 1
        last, said = event["seq"], said + len(event["data"].get("text", ""))


@attrs.frozen
class Stalled:
    """Readers that have stopped, each in its own way, with more waiting for them than any buffer holds."""

    daemon: Daemon
    run: Json
    began: float
    never: Reader
    bytewise: Reader
    half_closed: Reader


@pytest.fixture(scope="module", autouse=True)
def stalled(shared_daemon: Daemon) -> Iterator[Stalled]:
    """They need half a minute to be given up, so they begin before the other tests and are looked at after them."""
    over = threading.Event()

    def take_bytes() -> None:
        while not over.wait(0.5) and bytewise.take(1):
            pass

    with ExitStack() as stack:
        wire = stack.enter_context(shared_daemon.connect())
        run = perform(wire, command=["sh", "-c", "yes 'more than all buffers' | head -c 2000000"])
        never, bytewise, half_closed = (
            stack.enter_context(Reader(shared_daemon.socket, run["id"])) for _ in range(3)
        )
        for reader in (never, bytewise, half_closed):
            reader.wait_answered()
        half_closed.sock.shutdown(socket.SHUT_WR)
        thread = threading.Thread(target=take_bytes)
        thread.start()
        yield Stalled(shared_daemon, run, time.monotonic(), never, bytewise, half_closed)
        over.set()
        thread.join()


def test_200_that_never_read_cost_little(make_daemon: Callable[..., Daemon], effort: Effort, tmp_path: Path):
    """While 200 subscribers take nothing of a flood, the daemon holds less than 64 MiB for all of them, and a reader
    beside them gets every event in order; one that begins to read at last gets every event too.
    """
    megabytes = effort.choose(50, 200)
    daemon = make_daemon().start()
    assert daemon.process is not None
    pid, go = daemon.process.pid, tmp_path / "go"
    with daemon.connect(60) as wire, ExitStack() as stack:
        go.touch()
        read_flood(wire, flood(wire, 20, go)["id"])  # what a flood alone costs
        alone, before = read_peak(pid), read_rss(pid)
        go.unlink()
        run = flood(wire, megabytes, go)
        readers = [stack.enter_context(Reader(daemon.socket, run["id"])) for _ in range(READERS)]
        for reader in readers:
            reader.wait_answered()
        reset_peak(pid)
        go.touch()
        assert read_flood(wire, run["id"]) == megabytes * 1_000_000
        assert read_peak(pid) - alone < MOST
        assert read_rss(pid) - before < MOST
        late = readers[0]
        late.take_all()
        assert late.has_ended
        last = settle(wire, run["id"])["last_seq"]
        assert [event["seq"] for event in late.events] == list(range(1, last + 1))


def test_a_trickle_costs_as_little(shared_daemon: Daemon, wire: Wire):
    """Readers that take a little now and then are served on, hold no more than those that take nothing, and find all
    in order when they hurry up.
    """
    assert shared_daemon.process is not None
    pid = shared_daemon.process.pid
    run = start_shell(wire, "yes 'text for a trickle' | head -c 6000000")
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(shared_daemon.socket, run["id"])) for _ in range(20)]
        last = settle(wire, run["id"])["last_seq"]
        before = read_rss(pid)
        for _ in range(TRICKLES):
            for reader in readers:
                assert reader.take(20_000)
                assert not reader.is_hung_up
        assert read_rss(pid) - before < MOST / READERS * len(readers)
        readers[-1].take_all()
        assert [event["seq"] for event in readers[-1].events] == list(range(1, last + 1))


ASKED: dict[str, Json] = {
    "run/get": {"run_id": ""},
    "run/latest": {"chat_id": "large"},
    "run/list": {"chat_id": "large"},
    "run/wait": {"run_id": ""},
    "run/stop": {"run_id": ""},
    "run/tail": {"run_id": ""},
    "chat/messages": {"chat_id": "large"},
    "server/describe": {},
}


@pytest.fixture(scope="module")
def large_run(shared_daemon: Daemon) -> Json:
    """A settled run whose row and whose messages are as large as a request may be."""
    with shared_daemon.connect() as wire:
        command = ["sh", "-c", "cat", *["x" * 100_000] * 5]
        return perform(wire, command=command, input="x" * 500_000, chat_id="large")


@pytest.mark.parametrize("method", ASKED)
def test_answers_that_nobody_reads_are_not_piled_up(
    shared_daemon: Daemon, wire: Wire, large_run: Json, method: str
):
    """A client that asks for hundreds of large answers and reads none makes the daemon hold a few of them, whichever
    the method, while others are served; when it reads, it gets all.
    """
    assert shared_daemon.process is not None
    pid = shared_daemon.process.pid
    params = {**ASKED[method], **({"run_id": large_run["id"]} if "run_id" in ASKED[method] else {})}
    before = read_rss(pid)
    reset_peak(pid)
    with shared_daemon.connect(60) as greedy:
        waiting = {greedy.send(method, params) for _ in range(200)}
        perform(wire, input="others are served")
        wait_idle(pid)
        while waiting:
            line = greedy.read()
            if "id" in line:
                assert "result" in line, str(line)[:300]
                waiting.remove(line["id"])
    assert read_peak(pid) - before < MOST


def test_waits_that_end_together_are_not_piled_up(shared_daemon: Daemon, wire: Wire, tmp_path: Path):
    """The same for hundreds of run/wait that are answered in the instant in which a large run ends."""
    assert shared_daemon.process is not None
    pid, go = shared_daemon.process.pid, tmp_path / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.02; done"
    run = start(wire, command=["sh", "-c", script, *["x" * 100_000] * 9])
    before = read_rss(pid)
    with shared_daemon.connect(60) as greedy:
        waiting = [greedy.send("run/wait", {"run_id": run["id"]}) for _ in range(200)]
        wait_idle(pid)
        reset_peak(pid)
        go.touch()
        settle(wire, run["id"])
        wait_idle(pid)
        assert all(greedy.wait_reply(number)["settled"] for number in waiting)
    assert read_peak(pid) - before < MOST


def test_a_reader_that_shuts_its_ear_is_gone(shared_daemon: Daemon, wire: Wire):
    """A client that shuts down its reading side is closed as soon as there is something to say to it."""
    run = start_shell(
        wire, "while :; do echo tick; sleep 0.05; done"
    )  # little at a time: its connection never fills
    with Reader(shared_daemon.socket, run["id"]) as reader:
        reader.wait_answered()
        reader.sock.shutdown(socket.SHUT_RD)
        poll_end(reader)
    stop(wire, run["id"])


def poll_end(reader: Reader) -> None:
    """Wait until writing fails: reading says nothing any more."""

    def is_broken() -> bool:
        try:
            reader.sock.send(b"\n")
        except OSError:
            return True
        return False

    wait_until(is_broken, what="the daemon has closed the connection")


# ---------------------------------------------------------------- what the fixture began


def test_a_half_closed_reader_that_stops_is_let_go(stalled: Stalled):
    """Who has said all it will say, and takes nothing of what is left to say to it, is hung up on after ten seconds."""
    left = stalled.began + LINGER_SECONDS + 10 - time.monotonic()
    wait_until(lambda: stalled.half_closed.is_hung_up, max(left, 1.0), "it is hung up on")
    stalled.half_closed.take_all()
    seqs = [event["seq"] for event in stalled.half_closed.events]
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_stalled_reader_is_hung_up_on_and_may_come_back(stalled: Stalled, wire: Wire):
    """A reader that takes nothing for 30 s with data waiting is closed, also one that takes single bytes of a buffer
    that stays full; what it has is the beginning of the log, and after its last seq comes the rest.
    """
    for reader in (stalled.never, stalled.bytewise):
        left = stalled.began + STALL_SECONDS + 15 - time.monotonic()
        wait_until(lambda who=reader: who.is_hung_up, max(left, 1.0), "it is hung up on")
    assert time.monotonic() - stalled.began > STALL_SECONDS - 1
    stalled.daemon.wait_logged("the peer took nothing")
    reader = stalled.never
    reader.take_all()
    assert not reader.has_ended
    events = reader.events
    with Reader(stalled.daemon.socket, stalled.run["id"], events[-1]["seq"]) as again:
        again.take_all()
        events += again.events
    whole, _ = wire.tail(stalled.run["id"])
    assert [(event["seq"], event["data"]) for event in events] == [
        (event["seq"], event["data"]) for event in whole
    ]
    assert json.loads(bytes(reader.taken).splitlines()[0])["id"] == 1
