"""Tails of a real daemon's runs: the events are those of the log, whatever happens to connections and daemons."""

import gc
import os
from uuid import uuid4

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlive import Event, connect
from tests.support.cutter import Cut, Cutter
from tests.support.runs import ENDLESS, list_seqs


def read_log(daemon, run_id, after_seq=0):
    """The events of a settled run, read by an independent program."""
    with daemon.connect() as wire:
        events, end = wire.tail(run_id, after_seq=after_seq)
    assert end["reason"] == "settled"
    return [msgspec.convert(event, Event) for event in events]


def test_a_tail_is_the_log(backend, shared_daemon):
    """A tail of a run that goes on and one of the settled run give the same, from any cursor."""

    async def main():
        async with connect(shared_daemon.socket) as client:
            started = await client.start(
                agent="demo", input="one two three", metadata={"demo": {"delay_ms": 5}}
            )
            live = [event async for event in client.tail(started)]
            assert live == read_log(shared_daemon, started.run.id)
            assert live == [event async for event in client.tail(started)]
            later = [event async for event in client.tail(started.run, after_seq=3)]
            assert later == live[3:]

    anyio.run(main, backend=backend)


def test_a_snapshot_and_what_follows_are_the_message(backend, shared_daemon):
    """With after_seq=None the message so far comes first; what follows completes it."""

    async def main():
        async with connect(shared_daemon.socket) as client:
            delays = {"demo": {"delay_ms": 20}}
            started = await client.start(agent="demo", input="one two three four", metadata=delays)
            async for event in client.tail(started):
                if event.type == "text.delta":
                    break
            async with client.tail(started, after_seq=None) as tail:
                text = tail.tailed.message.content
                assert text.startswith("one ")
                assert tail.last_seq == tail.tailed.as_of_seq >= event.seq
                text += "".join([event.data["text"] async for event in tail if event.type == "text.delta"])
            assert text == "one two three four"
            assert tail.end.reason == "settled"

    anyio.run(main, backend=backend)


def test_a_tail_may_end_when_it_has_caught_up(backend, shared_daemon):
    """With follow=False the tail gives what is there and ends; read() gives it in pieces of any size."""

    async def main():
        async with connect(shared_daemon.socket) as client:
            started = await client.start(agent="demo", input="a b", metadata=ENDLESS)
            async for event in client.tail(started):
                if event.type == "text.delta":
                    break
            tail = client.tail(started, follow=False)
            seqs = []
            while events := await tail.read():
                seqs += [event.seq for event in events]
            assert seqs == list(range(1, event.seq + 1))
            assert (tail.end.reason, tail.last_seq) == ("caught_up", event.seq)
            await client.stop(started, wait_seconds=20)

    anyio.run(main, backend=backend)


def test_a_tail_survives_a_killed_daemon(backend, make_daemon):
    """Kill -9 and a new daemon: the tail goes on where it was, to the end that the new daemon wrote, and says so."""
    daemon = make_daemon().start()
    notices = []

    async def main():
        async with connect(daemon.socket, notice=notices.append) as client:
            started = await client.start(agent="demo", input="a b", metadata=ENDLESS)
            events = []
            async with client.tail(started) as tail:
                async for event in tail:
                    events.append(event)
                    if event.type == "text.delta":
                        daemon.kill()
                        await anyio.to_thread.run_sync(daemon.start)
            assert events[-1].data["error"]["code"] == "owner_lost"
            assert events == read_log(daemon, started.run.id)
            assert (await client.get(started)).run.status == "aborted", "calls go on as well"

    anyio.run(main, backend=backend)
    assert "trying again" in notices[0]
    assert any(notice.startswith("connected again, going on after event ") for notice in notices)


def test_a_forgotten_tail_holds_no_socket(backend, shared_daemon):
    """Leaving a loop early without closing anything leaves no open file behind, though the client lives on."""

    async def main():
        async with connect(shared_daemon.socket) as client:
            started = await client.start(agent="demo", input="a b", metadata=ENDLESS)
            before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - that of this very process
            for _ in range(20):
                async for _event in client.tail(started):
                    break
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
            await client.stop(started, wait_seconds=20)

    anyio.run(main, backend=backend)


cuts = st.builds(
    Cut,
    sent=st.none() | st.integers(0, 400),
    received=st.none() | st.integers(0, 3000) | st.integers(0, 30_000),
)


@pytest.fixture(scope="module")
def examples(effort):
    """How many random cuts are tried on a run that goes on, and on one that is settled."""
    return effort.choose(30, 400), effort.choose(80, 2000)


def try_cuts(examples, effort, test):
    """Run a hypothesis test with the session's effort."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    bound = settings(
        max_examples=examples, deadline=None, suppress_health_check=quiet, derandomize=effort.seed is None
    )
    bound(test)()


def test_random_cuts_of_everything_lose_nothing(backend, shared_daemon, socket_dir, quick, effort, examples):
    """Start, tail and wait through a line that is cut at random: one run, every event once, in order, as in the log."""

    @given(plan=st.lists(cuts, max_size=8), words=st.integers(1, 12), delay=st.sampled_from([0, 2]))
    def check(plan, words, delay):
        chat_id, text = str(uuid4()), " ".join(f"wörd{number}" * 40 for number in range(words))

        async def main():
            async with connect(cutter.path) as client:
                metadata = {"demo": {"delay_ms": delay}}
                started = await client.start(agent="demo", input=text, chat_id=chat_id, metadata=metadata)
                assert started.created, "that an earlier attempt made it is nobody's business"
                events = [event async for event in client.tail(started)]
                waited = await client.wait(started)
                runs = (await client.list_runs(chat_id=chat_id)).runs
            assert events == read_log(shared_daemon, started.run.id)
            assert waited.message.content == text
            assert [run.id for run in runs] == [started.run.id]

        with Cutter(socket_dir / "s", shared_daemon.socket, plan) as cutter:
            anyio.run(main, backend=backend)

    try_cuts(examples[0], effort, check)


def test_random_cuts_of_a_tail_lose_nothing(backend, shared_daemon, socket_dir, quick, effort, examples):
    """Wherever and however often a tail's connection is cut: never a repeat, never a gap, from any cursor."""
    with shared_daemon.connect() as wire:
        metadata = {"demo": {"delay_ms": 5}}  # else words would be joined
        run = wire.call("run/start", agent="demo", input="lorem ipsum " * 30, metadata=metadata)["run"]
        log, _ = wire.tail(run["id"])
    assert len(log) > 10

    @given(plan=st.lists(cuts, max_size=8), after=st.integers(0, len(log)))
    def check(plan, after):
        async def main():
            async with connect(cutter.path) as client, client.tail(run["id"], after_seq=after) as tail:
                events = [event async for event in tail]
            assert [event.seq for event in events] == list_seqs(log)[after:]
            assert [event.data for event in events] == [event["data"] for event in log[after:]]

        with Cutter(socket_dir / "s", shared_daemon.socket, plan) as cutter:
            anyio.run(main, backend=backend)

    try_cuts(examples[1], effort, check)


def test_a_cut_while_the_consumer_is_slow_loses_nothing(backend, shared_daemon, socket_dir, quick):
    """What was received before the cut is handed out, and what was not is fetched again."""

    async def main():
        async with connect(cutter.path) as client:
            delays = {"demo": {"delay_ms": 1}}  # else words would be joined
            text = f"{'x' * 4000} " * 100
            started = await client.start(agent="demo", input=text, metadata=delays)
            await client.wait(started)
            seqs = []
            async for event in client.tail(started):
                seqs.append(event.seq)
                if event.seq % 3 == 0:
                    cutter.cut_all()
            log = read_log(shared_daemon, started.run.id)
            assert seqs == [event.seq for event in log]

    with Cutter(socket_dir / "s", shared_daemon.socket) as cutter:
        anyio.run(main, backend=backend)
        assert cutter.connections > 2
