"""Runs of a dead owner whose messages are large are taken a few at a time, and all of them."""

import trio

from outlived.journal.writer import Journal
from outlived.store import batches
from outlived.store.owners import read_living
from outlived.supervisor.takeover import reap, take_over
from tests.support.history import assert_history
from tests.support.house import leave_behind, open_house

TEXT = "x" * 300_000


async def test_large_messages_are_taken_a_few_at_a_time(database, monkeypatch):
    """A takeover of many large messages holds as many as fit into its bound at once, goes on by itself, and settles
    every run with all its text.
    """
    monkeypatch.setattr(batches, "TAKE_BYTES", 2 * len(TEXT))
    sizes = []
    take = Journal.take

    async def note(journal, run_ids):
        taken = await take(journal, run_ids)
        sizes.append(len(taken))
        return taken

    monkeypatch.setattr(Journal, "take", note)
    remains = await leave_behind(database, 5, text=TEXT)
    async with open_house(database) as house:
        await reap_all(house)
        with trio.fail_after(20):
            assert await take_over(house.supervisor, remains.run_ids) == 5
        for run_id in remains.run_ids:
            assert (await house.read_message(run_id)).content == TEXT
    assert sizes == [2, 2, 1]
    assert_history(database, settled=True)


async def test_takeovers_at_the_same_time_all_get_on(database, monkeypatch):
    """Takeovers that are asked for together are bounded one by one: none finds its run left out for another's size."""
    monkeypatch.setattr(batches, "TAKE_BYTES", 1)
    remains = await leave_behind(database, 4, text=TEXT)
    counts = []
    async with open_house(database) as house:
        await reap_all(house)

        async def ask(run_id):
            counts.append(await take_over(house.supervisor, [run_id]))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for run_id in remains.run_ids:
                    nursery.start_soon(ask, run_id)
    assert counts == [1] * 4
    assert_history(database, settled=True)


async def reap_all(house) -> None:
    """Declare every other owner dead."""
    for owner in await read_living(house.supervisor.store.sweep, house.supervisor.journal.owner):
        assert await reap(house.supervisor, owner)
