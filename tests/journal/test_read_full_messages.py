"""A message that is full is read without the rest of its log, however long that is."""

from typing import Any

from outlived.journal import log as log_module
from outlived.store import reads as reads_module
from tests.support.history import assert_history
from tests.support.journals import open_desk, say
from tests.support.locks import Session

LIMIT = 50_000


def count_rows(desk: Any, monkeypatch) -> list[int]:
    """The rows of every read from now on."""
    counted: list[int] = []
    query = type(desk.pool).query

    async def count(pool: Any, sql: Any, *rest: Any) -> Any:
        rows = await query(pool, sql, *rest)
        counted.append(len(rows))
        return rows

    monkeypatch.setattr(type(desk.pool), "query", count)
    return counted


async def test_a_full_message_is_stored_at_once(schema: str, session: Session, monkeypatch):
    """The commit after the one that filled a message stores it; reading it takes nothing of what was said since."""
    monkeypatch.setattr(log_module, "SAVE_BYTES", 1 << 30)
    async with open_desk(schema, limit=LIMIT) as desk:
        run_id = await desk.start()
        for _ in range(40):
            await desk.journal.append(run_id, say("x" * 10_000), wait=True)
        counted = count_rows(desk, monkeypatch)
        found = await desk.reads.get_run_and_message(run_id)
        assert found is not None
        assert (found[1].content, found[1].truncated) == ("x" * LIMIT, True)
        assert counted == [1]
        await desk.settle(run_id)
    assert_history(schema, settled=True)


async def test_what_is_not_stored_yet_is_read_in_pages_until_it_is_full(
    schema: str, session: Session, monkeypatch
):
    """Of events that a stored message has not seen as many are read as it can still hold, and a page more at most."""
    monkeypatch.setattr(log_module, "SAVE_BYTES", 1 << 30)
    monkeypatch.setattr(reads_module, "SHAPING_PAGE_BYTES", 10_000)
    async with open_desk(schema) as desk:
        run_id = await desk.start()
        for number in range(60):
            await desk.journal.append(run_id, say(f"{number:09} " * 100), wait=True)
        whole = await desk.reads.get_run_and_message(run_id)
        assert whole is not None
        assert (len(whole[1].content), whole[1].truncated) == (60_000, False)
        counted = count_rows(desk, monkeypatch)
        short = await reads_module.Reads(desk.pool, 15_000).get_run_and_message(run_id)
        assert short is not None
        assert (short[1].content, short[1].truncated) == (whole[1].content[:15_000], True)
        assert sum(counted) <= 1 + 20
        await desk.settle(run_id)
    assert_history(schema, settled=True)
