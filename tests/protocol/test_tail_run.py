"""A tail gives every event once and in order, whatever happens to its connection; on asyncio and on Trio."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlive import BrokenPeer, ConnectionLost, connect, errors, wire
from tests.support.scripted_daemon import RUN_ID, ScriptedDaemon, a_message, a_run, playing, script, telling

LOG = [
    ("run.created", {"trigger": "user"}),
    ("run.started", {"attempt": 1}),
    *[("text.delta", {"text": f"{number} é\n" * (number % 5)}) for number in range(30)],
    ("run.settled", {"status": "succeeded", "error": None}),
]
on_both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s"


@pytest.fixture
def quick(monkeypatch):
    """Trying again begins after a millisecond, so that many cuts fit into a test."""
    monkeypatch.setattr("outlive.patience._FIRST_PAUSE_SECONDS", 0.001)


async def read(client, **options):
    """Everything a tail gives, as (seq, type, data)."""
    async with client.tail(RUN_ID, **options) as tail:
        events = [(event.seq, event.type, event.data) async for event in tail]
        return events, tail


async def note(tail, seen):
    """Put the seq of every event into ``seen``, so that it is known even if the tail raises."""
    async for event in tail:
        seen.append(event.seq)


def told(after=0):
    return [(seq, kind, data) for seq, (kind, data) in enumerate(LOG, start=1) if seq > after]


@on_both
def test_tail_gives_the_whole_log(backend, path):
    """By default a tail begins at the beginning and ends after run.settled."""

    async def main():
        async with connect(path) as client:
            events, tail = await read(client)
            assert events == told()
            assert tail.end.reason == "settled"
            assert tail.last_seq == len(LOG)

    with ScriptedDaemon(path, script(run_tail=telling(LOG))) as daemon:
        anyio.run(main, backend=backend)
        assert daemon.asked("run/tail") == [{"run_id": RUN_ID, "after_seq": 0}]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    backend=st.sampled_from(["asyncio", "trio"]),
    budgets=st.lists(st.integers(1, 4000), max_size=5),
    after=st.integers(0, len(LOG)),
)
def test_cut_connections_neither_repeat_nor_skip(path, quick, backend, budgets, after):
    """Wherever the connection is cut, and however often, the events are those of the log after the cursor."""

    async def main():
        async with connect(path) as client:
            assert (await read(client, after_seq=after))[0] == told(after)

    # The first connection carries calls: it is not cut.
    with ScriptedDaemon(path, script(run_tail=telling(LOG)), [10**9, *budgets]):
        anyio.run(main, backend=backend)


@on_both
def test_lost_daemon_is_waited_for_and_said(backend, path):
    """A daemon that stops and comes back is waited for, and both are said in a sentence with the cursor."""
    notices = []

    def first_part(conversation, request):
        conversation.reply(request, wire.RunTailed("s1", a_run(), None, 0))
        conversation.event(1, *LOG[0])
        conversation.event(2, *LOG[1])

    async def main():
        async with connect(path, notice=notices.append) as client, client.tail(RUN_ID) as tail:
            events = [await anext(tail), await anext(tail)]
            answers["run_tail"] = telling(LOG)
            daemon.vanish()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(come_back)
                events += [event async for event in tail]
            assert [event.seq for event in events] == list(range(1, len(LOG) + 1))

    async def come_back():
        while not notices:
            await anyio.sleep(0.01)
        daemon.listen()

    answers = {"run_tail": first_part}
    with ScriptedDaemon(path, playing(answers)) as daemon:
        anyio.run(main, backend=backend)
        assert daemon.asked("run/tail")[-1]["after_seq"] == 2
    assert "trying again" in notices[0]
    assert notices[-1] == "connected again, going on after event 2"


@on_both
def test_draining_daemon_hands_over(backend, path):
    """A tail_end with draining gives what was received, then asks the next daemon to go on."""
    half = len(LOG) // 2

    def drain(conversation, request):
        after = request["params"]["after_seq"]
        if after == 0:
            telling(LOG[:half], "draining")(conversation, request)
        else:
            telling(LOG)(conversation, request)

    async def main():
        async with connect(path) as client:
            assert (await read(client))[0] == told()

    with ScriptedDaemon(path, script(run_tail=drain)) as daemon:
        anyio.run(main, backend=backend)
        assert [params["after_seq"] for params in daemon.asked("run/tail")] == [0, half]


@on_both
def test_endlessly_draining_daemon_exhausts_the_patience(backend, path):
    """A daemon that accepts and at once drains again is not asked in a tight loop, nor for ever."""

    async def main():
        async with connect(path, patience=0.5) as client:
            with pytest.raises(ConnectionLost, match="stopping"):
                await read(client)

    with ScriptedDaemon(path, script(run_tail=telling([], "draining"))) as daemon:
        anyio.run(main, backend=backend)
        assert len(daemon.asked("run/tail")) < 10


@on_both
def test_snapshot_comes_first(backend, path):
    """With after_seq=None the first reply holds the message so far, and resuming goes on from there."""

    def snapshot(conversation, request):
        if "after_seq" in request["params"]:
            telling(LOG)(conversation, request)
        else:
            conversation.reply(request, wire.RunTailed("s1", a_run(), a_message(), 20))
            conversation.event(21, *LOG[20])
            conversation.close()

    async def main():
        async with connect(path) as client, client.tail(RUN_ID, after_seq=None) as tail:
            assert tail.tailed.message == a_message()
            assert tail.last_seq == 20
            assert [event.seq async for event in tail] == list(range(21, len(LOG) + 1))
            assert tail.tailed.as_of_seq == 20

    with ScriptedDaemon(path, script(run_tail=snapshot)):
        anyio.run(main, backend=backend)


@on_both
@pytest.mark.parametrize("seqs", [[1, 3], [1, 1], [2]])
def test_broken_order_is_never_shown(backend, path, seqs):
    """A daemon that skips or repeats is reported; the event out of order is not handed out."""

    def out_of_order(conversation, request):
        conversation.reply(request, wire.RunTailed("s1", a_run(), None, 0))
        for seq in seqs:
            conversation.event(seq, "text.delta", {"text": "x"})

    async def main():
        seen = []
        async with connect(path) as client:
            with pytest.raises(BrokenPeer, match="cannot follow"):
                await note(client.tail(RUN_ID), seen)
        assert seen == seqs[: len(seen)]

    with ScriptedDaemon(path, script(run_tail=out_of_order)):
        anyio.run(main, backend=backend)


@on_both
def test_errors_end_a_tail(backend, path):
    """What the daemon refuses is raised as its class."""

    async def main():
        async with connect(path) as client:
            with pytest.raises(errors.CursorExpired) as caught:
                await read(client)
            assert caught.value.data == {"first_seq": 5, "last_seq": 9}

    expired = errors.CursorExpired("cannot go back", first_seq=5, last_seq=9)
    with ScriptedDaemon(path, script(run_tail=expired)):
        anyio.run(main, backend=backend)


@on_both
def test_daemon_that_does_not_answer_times_out(backend, path):
    """A tail whose request is not answered raises TimeoutError; a silent run does not."""

    def silent_run(conversation, request):
        conversation.reply(request, wire.RunTailed("s1", a_run(), None, 0))

    async def main():
        async with connect(path, timeout=0.2) as client:
            with pytest.raises(TimeoutError, match="cannot follow"):
                await anext(client.tail(RUN_ID))
            answers["run_tail"] = silent_run
            async with client.tail(RUN_ID) as tail:
                with anyio.move_on_after(0.6) as patience:
                    await anext(tail)
                assert patience.cancelled_caught

    answers = {}
    with ScriptedDaemon(path, playing(answers)):
        anyio.run(main, backend=backend)


@on_both
def test_events_that_go_under_a_tail_are_an_error(backend, path):
    """When the daemon no longer keeps what comes next, all before it is handed out, then CursorExpired is raised."""

    def forgetting(conversation, request):
        if request["params"]["after_seq"] == 0:
            conversation.reply(request, wire.RunTailed("s1", a_run(), None, 0))
            conversation.event(1, *LOG[0])
            conversation.event(2, *LOG[1])
            conversation.end("cursor_expired", 2)
        else:
            assert request["params"]["after_seq"] == 2
            conversation.error(request, errors.CursorExpired("cannot tail", first_seq=10, last_seq=9))

    async def main():
        seen = []
        async with connect(path) as client:
            with pytest.raises(errors.CursorExpired) as caught:
                await note(client.tail(RUN_ID), seen)
        assert seen == [1, 2]
        assert caught.value.data == {"first_seq": 10, "last_seq": 9}

    with ScriptedDaemon(path, script(run_tail=forgetting)):
        anyio.run(main, backend=backend)


@on_both
def test_cancelled_iteration_goes_on(backend, path):
    """A consumer that stops waiting for the next event and comes back misses nothing, on the same connection."""
    go = []

    def slow(conversation, request):
        conversation.reply(request, wire.RunTailed("s1", a_run(), None, 0))
        conversation.event(1, "text.delta", {"text": "a"})
        go.append(conversation)

    async def main():
        async with connect(path) as client, client.tail(RUN_ID) as tail:
            assert (await anext(tail)).seq == 1
            with anyio.move_on_after(0.05):
                await anext(tail)
            (conversation,) = go
            conversation.event(2, "text.delta", {"text": "b"})
            assert (await anext(tail)).seq == 2

    with ScriptedDaemon(path, script(run_tail=slow)) as daemon:
        anyio.run(main, backend=backend)
        assert daemon.connections == 2


@on_both
def test_slow_consumer_stops_the_daemon(backend, path):
    """While nobody asks for events, the daemon's sending stands still, and other calls are answered."""
    sent = []
    text = "x" * 1000

    def flood(conversation, request):
        conversation.reply(request, wire.RunTailed("s1", a_run(), None, 0))
        for seq in range(1, 5001):
            conversation.event(seq, "text.delta", {"text": text})
            sent.append(seq)
        conversation.end("settled", 5000)

    async def main():
        async with connect(path) as client, client.tail(RUN_ID) as tail:
            first = await anext(tail)
            assert (await client.latest("c1")).run is None
            assert len(sent) < 4000, "the socket's buffers hold less than what is left"
            assert [first.seq] + [event.seq async for event in tail] == list(range(1, 5001))

    with ScriptedDaemon(path, script(run_tail=flood, run_latest=wire.RunAndMessage(None, None))):
        anyio.run(main, backend=backend)


@on_both
def test_abandoned_tail_is_closed_with_its_client(backend, path):
    """Leaving the loop early leaks no socket: the client closes it at its end."""

    async def main():
        async with connect(path) as client:
            async for event in client.tail(RUN_ID):
                assert event.seq == 1
                break

    with ScriptedDaemon(path, script(run_tail=telling(LOG))):
        anyio.run(main, backend=backend)
