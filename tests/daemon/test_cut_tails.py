"""A subscriber whose connection is cut again and again, anywhere: its pieces, put together, are the log."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.readers import Reader
from tests.support.runs import list_seqs, perform, settle, start
from tests.support.wire import Json, Wire

EVENTS = 200
CUTS = st.lists(st.integers(0, 3000), min_size=1, max_size=12)
"""Bytes after which a connection is cut, in turn; an event's line has some 300."""


def show(events: list[Json]) -> list[tuple[int, str, Json]]:
    return [(event["seq"], event["type"], event["data"]) for event in events]


def shape(effort: Effort, usual: int, long: int) -> settings:
    return settings(
        derandomize=effort.seed is None,
        database=None,
        max_examples=effort.choose(usual, long),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@pytest.fixture(scope="module")
def settled(shared_daemon: Daemon) -> tuple[str, list[Json]]:
    """A settled run of 200 events and more: its id and its log."""
    with shared_daemon.connect() as wire:
        run = perform(wire, input="word " * EVENTS, metadata={"demo": {"delay_ms": 1}})
        while run["last_seq"] < EVENTS:  # words that met in one commit are one event
            delay = {"demo": {"delay_ms": 8}}
            run = perform(wire, input="word " * (EVENTS + 20), metadata=delay)
        return run["id"], wire.tail(run["id"])[0]


def follow(daemon: Daemon, run_id: str, cuts: Iterator[int]) -> list[Json]:
    """Tail a run as a client does whose connections are cut after so many bytes, until it has the end."""
    events: list[Json] = []
    for after in cuts:
        with Reader(daemon.socket, run_id, events[-1]["seq"] if events else 0) as reader:
            reader.take_exactly(after)
            events += reader.events
        if events and events[-1]["type"] == "run.settled":
            break
    return events


def grow(cuts: list[int]) -> Iterator[int]:
    """Those cuts round after round, each round later: every pattern comes to an end."""
    more = 400
    while True:
        yield from cuts
        yield from (cut + more for cut in cuts)
        more *= 2


@pytest.mark.parametrize("live", [True, False])
def test_cut_after_every_single_event(
    shared_daemon: Daemon, wire: Wire, settled: tuple[str, list[Json]], live: bool
):
    """Cut after each event of a run of 200 and resumed with its seq, a tail is the log, while it grows and later."""
    run_id = settled[0]
    if live:
        run_id = start(wire, input="word " * EVENTS, metadata={"demo": {"delay_ms": 5}})["id"]
    events: list[Json] = []
    while not events or events[-1]["type"] != "run.settled":
        with shared_daemon.connect() as other:
            tailed = other.call("run/tail", run_id=run_id, after_seq=events[-1]["seq"] if events else 0)
            events += other.read_tail(tailed["subscription"], until=1)[0]
    whole, _ = wire.tail(run_id)
    assert list_seqs(events) == list(range(1, len(events) + 1))
    assert show(events) == show(whole)
    assert live or len(whole) >= EVENTS


def test_cut_anywhere_in_a_settled_log(
    shared_daemon: Daemon, settled: tuple[str, list[Json]], effort: Effort
):
    """Whatever the pattern of cuts, between lines, within them, before the reply: nothing is missing, nothing twice."""
    run_id, whole = settled

    @shape(effort, 12, 300)
    @given(cuts=CUTS)
    def check(cuts: list[int]) -> None:
        assert show(follow(shared_daemon, run_id, grow(cuts))) == show(whole)

    check()


def test_cut_anywhere_in_a_log_that_grows(shared_daemon: Daemon, wire: Wire, effort: Effort):
    """The same while the run is at work, with other subscribers on it (its events are in memory then) and without."""

    @shape(effort, 10, 100)
    @given(cuts=CUTS, watched=st.booleans(), delay=st.sampled_from([0, 1, 3]))
    def check(cuts: list[int], watched: bool, delay: int) -> None:
        run = start(wire, input="word " * 100, metadata={"demo": {"delay_ms": delay}})
        with ExitStack() as stack:
            if watched:
                stack.enter_context(Reader(shared_daemon.socket, run["id"]))
            events = follow(shared_daemon, run["id"], grow(cuts))
        settle(wire, run["id"])
        assert show(events) == show(wire.tail(run["id"])[0])

    check()
