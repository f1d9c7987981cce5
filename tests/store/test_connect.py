"""Opening a connection: whatever interrupts it, nothing stays open."""

import gc
import warnings

import pytest
import trio

from outlived.store.postgres import TrioConnection, connect


@pytest.mark.parametrize("step", ["set_autocommit", "execute"])
async def test_a_cancelled_attempt_leaves_no_connection_behind(postgres, monkeypatch, step):
    """An attempt that is cancelled when the server has already answered hangs up at once, not when garbage is collected."""
    scope, made = trio.CancelScope(), []
    take_step = getattr(TrioConnection, step)

    async def cancel_first(connection, *args):
        made.append(connection)
        scope.cancel()
        await take_step(connection, *args)

    monkeypatch.setattr(TrioConnection, step, cancel_first)
    dsn = f"{postgres.dsn} options='-c datestyle=German'"
    with warnings.catch_warnings(record=True) as found, scope:
        warnings.simplefilter("always")
        await connect(dsn, "test")
    assert scope.cancelled_caught
    assert made.pop().closed
    gc.collect()
    assert found == []
