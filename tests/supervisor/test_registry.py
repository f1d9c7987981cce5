"""The abort registry: who is at work, why it was cancelled, and waiting for the end of all."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.supervisor.registry import Active, Cause, Registry

examples = settings(derandomize=True, deadline=None)


def test_a_run_is_found_from_entry_to_leave():
    """A run is in the registry from its entry until it leaves, and nobody else is."""
    registry = Registry()
    assert (len(registry), registry.find("a"), list(registry)) == (0, None, [])
    a, b = registry.enter("a"), registry.enter("b")
    assert registry.find("a") is a
    assert list(registry) == [a, b]
    registry.leave(a)
    registry.leave(a)
    assert registry.find("a") is None
    assert list(registry) == [b]


def test_the_registry_may_change_while_it_is_walked():
    """Whoever walks over the runs may end them on the way."""
    registry = Registry()
    for name in "abc":
        registry.enter(name)
    for active in registry:
        registry.leave(active)
    assert len(registry) == 0


@examples
@given(st.lists(st.sampled_from(Cause), min_size=1))
def test_the_first_cause_stays_but_for_a_lost_ownership(causes):
    """Whatever comes later, a run was ended for its first reason; only a lost ownership overrules it, for good."""
    active = Active("run")
    for cause in causes:
        active.cancel(cause)
    assert active.cause is (Cause.LOST if Cause.LOST in causes else causes[0])
    assert active.scope.cancel_called
    assert active.hurry.is_set() == (Cause.LOST in causes)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, Cause.FORCED),
        (Cause.SHUTDOWN, Cause.FORCED),
        (Cause.STOP, Cause.STOP),
        (Cause.DISTRUST, Cause.DISTRUST),
        (Cause.LOST, Cause.LOST),
    ],
)
def test_force_ends_the_grace_and_keeps_a_persons_reason(before, after):
    """A second request to stop takes every grace, and is the reason only of what the first one ended."""
    active = Active("run")
    if before is not None:
        active.cancel(before)
    active.force()
    assert active.cause is after
    assert active.hurry.is_set()
    assert active.scope.cancel_called


async def test_cancelling_all_reaches_each_scope():
    """Every agent at work is cancelled at once, for the same reason."""
    registry = Registry()
    ended = []

    async def work(active):
        with active.scope:
            await trio.sleep_forever()
        ended.append(active.run_id)
        registry.leave(active)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(work, registry.enter(name))
            await trio.testing.wait_all_tasks_blocked()
            registry.cancel_all(Cause.SHUTDOWN)
            await registry.wait_empty()
    assert sorted(ended) == ["a", "b", "c"]


@pytest.mark.parametrize("waiters", [1, 3])
async def test_everybody_who_waits_for_the_end_is_woken(waiters):
    """However many wait, each learns that the last agent has ended, and that the last run has left."""
    registry = Registry()
    heard = []

    async def wait(condition, name):
        await condition()
        heard.append(name)

    first, second = registry.enter("a"), registry.enter("b")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for _ in range(waiters):
                nursery.start_soon(wait, registry.wait_performed, "performed")
                nursery.start_soon(wait, registry.wait_empty, "empty")
            await trio.testing.wait_all_tasks_blocked()
            registry.note_performed(first)
            registry.leave(second)
            await trio.testing.wait_all_tasks_blocked()
            assert heard == ["performed"] * waiters
            registry.leave(first)
    assert heard == ["performed"] * waiters + ["empty"] * waiters


async def test_a_run_that_is_only_settled_is_not_waited_for_as_an_agent():
    """Runs that were taken over perform nothing: nobody waits for their agents, but for them to leave."""
    registry = Registry()
    taken = registry.enter("a", performing=False)
    with trio.fail_after(5):
        await registry.wait_performed()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registry.wait_empty)
            await trio.testing.wait_all_tasks_blocked()
            registry.leave(taken)


async def test_a_registry_that_fills_again_is_waited_for_again():
    """Who waits for the end is not told of an end that a new run has overtaken."""
    registry = Registry()
    old, emptied = registry.enter("old"), trio.Event()

    async def wait():
        await registry.wait_empty()
        emptied.set()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            registry.leave(old)
            new = registry.enter("new")
            await trio.testing.wait_all_tasks_blocked()
            assert not emptied.is_set()
            registry.leave(new)
