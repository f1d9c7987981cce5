"""The hub's ring: what it gives is exactly what comes next, or it says that only the store knows."""

from collections.abc import Iterable
from contextlib import ExitStack

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlived.journal import hub as hub_module
from outlived.journal.hub import RING_BYTES, Hub, Watched
from outlived.store.reads import EVENT_BYTES, EVENT_PAGE_BYTES, LoggedEvent
from tests.support.logs import write_at

examples = settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def make_events(first: int, *sizes: int) -> list[LoggedEvent]:
    """Events from number ``first`` on, their data of these sizes."""
    return [
        LoggedEvent(seq, write_at(seq), "text.delta", "x" * size) for seq, size in enumerate(sizes, first)
    ]


def weigh(events: Iterable[LoggedEvent]) -> int:
    return sum(len(event.data) + hub_module.EVENT_BYTES for event in events)


def list_seqs(page: list[LoggedEvent] | None) -> list[int] | None:
    return None if page is None else [event.seq for event in page]


@examples
@given(data=st.data())
def test_a_page_is_what_comes_next_or_nothing_is_claimed(monkeypatch, data: st.DataObject):
    """For any history and any cursor a page begins right after the cursor, has no gap, and is bounded."""
    monkeypatch.setattr(hub_module, "EVENT_BYTES", data.draw(st.integers(0, 15)))
    monkeypatch.setattr(hub_module, "RING_BYTES", data.draw(st.integers(0, 90)))
    monkeypatch.setattr(hub_module, "EVENT_PAGE_BYTES", data.draw(st.integers(1, 60)))
    watched, last = Watched("r"), 0
    for _ in range(data.draw(st.integers(1, 8))):
        step = data.draw(st.sampled_from(["publish", "publish", "elsewhere", "noted"]))
        count = data.draw(st.integers(0, 4))
        if step == "publish":
            sizes = data.draw(st.lists(st.integers(0, 25), min_size=count, max_size=count))
            watched.add(make_events(last + 1, *sizes), settled=False)
        elif step == "noted":
            watched.note(last + count, settled=False)
        last += count
        check_pages(watched, last)


def check_pages(watched: Watched, last: int) -> None:
    assert watched.ring_bytes == weigh(watched._ring)
    assert watched.ring_bytes <= hub_module.RING_BYTES
    for cursor in range(last + 1):
        page = watched.read_after(cursor)
        if page is None:
            continue
        assert list_seqs(page) == list(range(cursor + 1, cursor + 1 + len(page)))
        assert len(page) <= 1 or weigh(page) <= hub_module.EVENT_PAGE_BYTES
        if not page:
            assert cursor >= watched.last_seq, "there is more than the ring has, and it does not say so"


def test_a_full_ring_forgets_the_oldest():
    """A watcher within the ring is served from it; one further behind is sent to the store."""
    watched = Watched("r")
    count = 10
    watched.add(make_events(1, *[RING_BYTES // 4 - EVENT_BYTES] * count), settled=False)
    assert list_seqs(watched.read_after(6)) == [7, 8, 9, 10]
    assert watched.read_after(5) is None
    assert watched.read_after(10) == []


def test_one_event_larger_than_the_ring_is_in_the_store():
    """What does not fit is not kept, and nothing before it pretends to be the newest."""
    watched = Watched("r")
    watched.add(make_events(1, 10), settled=False)
    watched.add(make_events(2, RING_BYTES + 1), settled=False)
    assert watched.last_seq == 2
    assert [watched.read_after(cursor) for cursor in (0, 1, 2)] == [None, None, None]


def test_many_tiny_events_do_not_fill_the_memory():
    """The ring is bounded in events too: an event costs more than its data."""
    watched = Watched("r")
    for first in range(1, 50_000, 1000):
        watched.add(make_events(first, *[2] * 1000), settled=False)
    assert len(watched._ring) <= RING_BYTES // EVENT_BYTES


def test_a_page_is_bounded_in_bytes():
    """A page ends before the event that would make it too large, and has one at least, however large that is."""
    watched = Watched("r")
    watched.add(make_events(1, *[1000 - EVENT_BYTES] * 20, 50_000), settled=False)
    assert list_seqs(watched.read_after(0, 4999)) == [1, 2, 3, 4]
    assert list_seqs(watched.read_after(0, 5000)) == [1, 2, 3, 4, 5]
    assert list_seqs(watched.read_after(18, 5000)) == [19, 20]
    assert list_seqs(watched.read_after(20, 5000)) == [21]
    assert EVENT_PAGE_BYTES >= RING_BYTES  # so that one page may hold the whole ring


def test_all_rings_together_are_bounded(monkeypatch):
    """With thousands of watched runs those that were silent for longest are sent to the store; the newest are not."""
    monkeypatch.setattr(hub_module, "ALL_RINGS_BYTES", 20 * (1000 + EVENT_BYTES))
    hub = Hub()
    with ExitStack() as stack:
        watched = [stack.enter_context(hub.watch(str(number))) for number in range(100)]
        for seq in (1, 2):
            for each in watched:
                hub.publish(each.run_id, make_events(seq, 1000), settled=False)
                assert hub.ring_bytes == sum(other.ring_bytes for other in watched)
                assert hub.ring_bytes <= hub_module.ALL_RINGS_BYTES
        assert [each.read_after(1) is not None for each in watched] == [False] * 80 + [True] * 20
        assert [each.last_seq for each in watched] == [2] * 100
    assert (hub.ring_bytes, hub._rings, hub.list_watched()) == (0, {}, [])


def test_what_was_committed_elsewhere_is_read_from_the_store():
    """A watcher that has all the ring has, of a log that went on under another owner, is sent to the store."""
    watched = Watched("r")
    watched.add(make_events(1, 5, 5), settled=False)
    assert watched.read_after(2) == []
    watched.note(4, settled=True)
    assert watched.read_after(2) is None
    assert watched.read_after(1) is not None


def test_events_after_a_gap_begin_a_new_ring():
    """What comes after events of another owner does not stand beside what came before them."""
    watched = Watched("r")
    watched.add(make_events(1, 5, 5), settled=False)
    watched.add(make_events(5, 5), settled=False)
    assert watched.read_after(1) is None
    assert list_seqs(watched.read_after(4)) == [5]


async def test_every_watcher_is_woken(nursery):
    """News wakes everybody who waits, and only those who wait for it."""
    hub, woken = Hub(), []

    async def wait(name, watched):
        await watched.wait_change(0)
        woken.append(name)

    with hub.watch("r") as one, hub.watch("r") as same, hub.watch("other") as other:
        for name, watched in (("one", one), ("same", same), ("other", other)):
            nursery.start_soon(wait, name, watched)
        await trio.testing.wait_all_tasks_blocked()
        hub.publish("r", make_events(1, 5), settled=False)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == ["one", "same"]
        nursery.cancel_scope.cancel()


async def test_news_between_the_look_and_the_wait_is_not_missed():
    """Who looked at the number of changes first does not wait for news that came before it began to wait."""
    watched = Watched("r")
    seen = watched.changes
    watched.add(make_events(1, 2), settled=False)
    with trio.fail_after(1):
        await watched.wait_change(seen)


async def test_the_end_is_heard_once_and_for_all():
    """``ended`` is set by the settlement, by nothing before it, and stays."""
    watched = Watched("r")
    watched.add(make_events(1, 5), settled=False)
    assert not watched.ended.is_set()
    watched.note(6, settled=True)
    watched.note(6, settled=False)
    with trio.fail_after(1):
        await watched.ended.wait()


def test_a_settlement_is_remembered():
    """Once settled, later news does not unsettle; the number heard of never falls by published events."""
    watched = Watched("r")
    watched.add(make_events(1, 5), settled=True)
    watched.note(1, settled=False)
    watched.add([], settled=False)
    assert (watched.settled, watched.last_seq) == (True, 1)


def test_nothing_is_kept_for_nobody():
    """A run nobody watches costs nothing; the last watcher to leave takes everything along."""
    hub = Hub()
    hub.publish("r", make_events(1, 5), settled=False)
    assert hub.list_watched() == []
    with hub.watch("r") as watched:
        assert watched.read_after(0) is None  # what was published before is in the store
        with hub.watch("r"):
            assert hub.subscribers == 2
        hub.publish("r", make_events(2, 5), settled=False)
        assert list_seqs(watched.read_after(1)) == [2]
    assert (hub.list_watched(), hub.subscribers) == ([], 0)


@pytest.mark.parametrize("leave_early", [True, False])
def test_watchers_may_leave_in_any_order(leave_early: bool):
    """A watched run stays watched until the last one left, whoever came first."""
    hub = Hub()
    first, second = hub.watch("r"), hub.watch("r")
    watched = first.__enter__()
    second.__enter__()
    (first if leave_early else second).__exit__(None, None, None)
    hub.publish("r", make_events(1, 1), settled=False)
    assert watched.last_seq == 1
    (second if leave_early else first).__exit__(None, None, None)
    assert hub.subscribers == 0
