"""One run's life: whatever its agent does ends that run, and nothing else."""

import contextlib

import pytest
import trio

from outlived.agents import AgentBroken, AgentFailed
from outlived.journal import writer
from outlived.journal.items import OwnershipLost
from outlived.rules.lifecycle import fold
from outlived.supervisor.registry import Cause
from tests.support.history import assert_history
from tests.support.house import open_house
from tests.support.locks import open_session, wait_for

DEEP = 3_000
QUEUE_BYTES = 1 << 20


class Mute(Exception):
    """Cannot say what it is."""

    def __str__(self):
        raise SystemExit("not even that")


class Subtle(Exception):
    """Says what cannot be stored."""

    def __str__(self):
        return "a\0b\ud800c"


async def leak_cancelled():
    """A Cancelled that got out of the scope it belongs to."""
    kept = None
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            kept = cancelled
            raise
    return kept


async def raise_leaked(_desk):
    raise await leak_cancelled()


async def raise_leaked_in_a_group(_desk):
    raise BaseExceptionGroup("all", [ValueError("beside"), await leak_cancelled()])


async def recurse(desk):
    await recurse(desk)


async def raise_in_a_nursery(_desk):
    async def exit_here():
        raise SystemExit(4)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(exit_here)
        await trio.sleep_forever()


async def raise_deep_group(_desk):
    error = ValueError("deep")
    for _ in range(DEEP):
        error = ExceptionGroup("one more", [error])
    raise error


def raising(error):
    async def act(_desk):
        raise error

    return act


ODD_NAME = type("Odd" + "é" * 10_000, (Exception,), {})

BAD = {
    "an exception": (raising(ValueError("no")), "ValueError", "no"),
    "one without words": (raising(KeyError()), "KeyError", "KeyError"),
    "SystemExit": (raising(SystemExit(3)), "SystemExit", "3"),
    "KeyboardInterrupt": (raising(KeyboardInterrupt()), "KeyboardInterrupt", "KeyboardInterrupt"),
    "GeneratorExit": (raising(GeneratorExit()), "GeneratorExit", "GeneratorExit"),
    "StopIteration": (raising(StopIteration()), "RuntimeError", "coroutine raised StopIteration"),
    "StopAsyncIteration": (raising(StopAsyncIteration()), "StopAsyncIteration", None),
    "a timeout": (raising(trio.TooSlowError()), "TooSlowError", None),
    "a group of two": (raising(ExceptionGroup("two", [ValueError(), KeyError()])), "ExceptionGroup", None),
    "a group of one": (raising(ExceptionGroup("one", [ValueError("in")])), "ValueError", "in"),
    "a base group": (
        raising(BaseExceptionGroup("both", [SystemExit(1), ValueError()])),
        "BaseExceptionGroup",
        None,
    ),
    "SystemExit in a nursery": (raise_in_a_nursery, "SystemExit", "4"),
    "a Cancelled of its own": (raise_leaked, "Cancelled", None),
    "a Cancelled of its own in a group": (raise_leaked_in_a_group, None, None),
    "a recursion": (recurse, "RecursionError", None),
    "a group nested without end": (raise_deep_group, None, None),
    "one that cannot be printed": (raising(Mute()), "Mute", "Mute"),
    "one that says what cannot be stored": (raising(Subtle()), "Subtle", "a\ufffdb\ufffdc"),
    "one with much to say": (raising(ValueError("x" * 10_000_000)), "ValueError", "x" * 2000),
    "one with a strange name": (raising(ODD_NAME()), None, None),
    "a failure that is no JSON": (
        raising(AgentFailed("exception", "said", exception=object())),
        "AgentFailed",
        "said",
    ),
    "a failure that is a novel": (
        raising(AgentFailed("exception", "said", exception="x" * 1_000_000)),
        "AgentFailed",
        "said",
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_whatever_an_agent_raises_ends_its_run_only(shared_database, bad):
    """A run whose agent raises has failed and says so; its neighbour, the journal and the next run notice nothing."""
    act, name, message = bad
    go_on = trio.Event()

    async def wait(desk):
        await go_on.wait()
        await desk.emit_text("undisturbed")

    async with open_house(shared_database, agents={"bad": act, "wait": wait}) as house:
        neighbour = await house.start("wait")
        run = await house.perform("bad")
        assert run.status == "failed"
        assert run.error["code"] == "exception"
        assert run.error["exception"] == (name or run.error["exception"])
        assert run.error["message"] == (message or run.error["message"])
        assert len(run.error["message"]) <= 2000
        assert (await house.perform("demo", input="next")).status == "succeeded"
        go_on.set()
        assert (await house.wait_settled(neighbour.id)).status == "succeeded"
        assert (await house.read_message(neighbour.id)).content == "undisturbed"
    assert_history(shared_database, acknowledged={run.id, neighbour.id}, settled=True)


async def test_an_error_of_the_agents_own_is_kept_word_for_word(shared_database):
    """``AgentFailed`` is the run's error, made storable."""
    details = {"exit_status": 3, "list": [1, "a\0"]}
    act = raising(AgentFailed("exit_status", "said\ud800", **details))
    async with open_house(shared_database, agents={"bad": act}) as house:
        run = await house.perform("bad")
    assert run.error == {
        "code": "exit_status",
        "message": "said\ufffd",
        "exit_status": 3,
        "list": [1, "a\ufffd"],
    }


async def test_an_agent_that_breaks_while_it_starts_is_unavailable(shared_database):
    """``AgentBroken`` in the middle of a run is agent_unavailable, with what to mend."""
    async with open_house(shared_database, agents={"bad": raising(AgentBroken("mend this"))}) as house:
        run = await house.perform("bad")
    assert run.status == "failed"
    assert run.error == {"code": "agent_unavailable", "message": "mend this"}


async def test_a_run_tells_its_life_in_order(shared_database):
    """Created, started, what the agent did, settled: the log folds to the row, and the message is complete."""
    async with open_house(shared_database) as house:
        run = await house.perform("demo", input="hello big world", metadata={"demo": {"delay_ms": 0}})
        log = await house.read_log(run.id)
        message = await house.read_message(run.id)
    types = [event.type for event in log]
    assert types[:3] == ["run.created", "run.started", "step.started"]
    assert types[-2:] == ["step.finished", "run.settled"]
    assert fold(log).status == run.status == "succeeded"
    assert (message.content, message.status, run.step_count) == ("hello big world", "completed", 1)


# ---------------------------------------------------------------- while being cancelled


def in_cancel(react):
    """An agent that says ``ready``, and does something about its Cancelled."""

    async def act(desk):
        await desk.emit_text("ready")
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            react()
            raise

    return act


def react_with(error):
    def react():
        raise error

    return react


async def swallow(desk):
    await desk.emit_text("ready")
    with trio.CancelScope() as own, contextlib.suppress(trio.Cancelled):
        await trio.sleep_forever()
    assert not own.cancelled_caught


async def raise_beside_cancelled(desk):
    await desk.emit_text("ready")

    async def fail_late():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("beside")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_late)
        await trio.sleep_forever()


STOPPED = {
    "goes": (in_cancel(lambda: None), "aborted", None),
    "goes with an exception beside": (raise_beside_cancelled, "aborted", None),
    "returns nevertheless": (swallow, "succeeded", None),
    "raises something else instead": (in_cancel(react_with(ValueError("late"))), "failed", "ValueError"),
    "exits instead": (in_cancel(react_with(SystemExit(2))), "failed", "SystemExit"),
}


@pytest.mark.parametrize("case", STOPPED.values(), ids=STOPPED.keys())
async def test_what_a_stopped_agent_does_decides(shared_database, case):
    """A stopped run is aborted if Cancelled left its agent, without an error; else the agent's own end counts."""
    act, status, exception = case
    async with open_house(shared_database, agents={"act": act}) as house:
        neighbour = await house.start("demo", input="a b", metadata={"demo": {"delay_ms": 3_600_000}})
        run = await house.start("act")
        await house.wait_logged(run.id, "text.delta")
        house.registry.find(run.id).cancel(Cause.STOP)
        run = await house.wait_settled(run.id)
        assert run.status == status
        assert (run.error or {}).get("exception") == exception
        assert house.registry.find(neighbour.id) is not None
    assert_history(shared_database, settled=True)


async def test_what_was_said_before_a_stop_is_kept(shared_database):
    """The message of an aborted run holds what its agent had said, also while it was cancelled."""

    async def act(desk):
        try:
            await desk.emit_text("before ")
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await desk.emit_text("after")

    async with open_house(shared_database, agents={"act": act}) as house:
        run = await house.start("act")
        await house.wait_logged(run.id, "text.delta")
        house.registry.find(run.id).cancel(Cause.STOP)
        run = await house.wait_settled(run.id)
        message = await house.read_message(run.id)
    assert run.status == "aborted"
    assert (message.content, message.status) == ("before after", "aborted")


@pytest.mark.parametrize(
    ("cause", "error"),
    [
        (Cause.STOP, None),
        (Cause.SHUTDOWN, "shutdown"),
        (Cause.FORCED, "forced"),
        (Cause.DISTRUST, "owner_lost"),
    ],
)
async def test_the_cause_is_the_error(shared_database, cause, error):
    """An aborted run says why; one that somebody stopped needs no reason."""
    async with open_house(shared_database, agents={"act": in_cancel(lambda: None)}) as house:
        run = await house.start("act")
        await house.wait_logged(run.id, "text.delta")
        house.registry.find(run.id).cancel(cause)
        run = await house.wait_settled(run.id)
    assert run.status == "aborted"
    assert (run.error or {}).get("code") == error


# ---------------------------------------------------------------- lost, refused, broken


async def test_a_run_that_is_lost_is_not_written(shared_database):
    """A run that another owner has ends here without a word: its next owner writes the outcome."""
    async with open_house(shared_database, agents={"act": in_cancel(lambda: None)}) as house:
        run = await house.start("act")
        await house.wait_logged(run.id, "text.delta")
        house.registry.find(run.id).cancel(Cause.LOST)
        with trio.fail_after(10):
            await house.registry.wait_empty()
        assert (await house.read_run(run.id)).status == "running"
        house.supervisor.journal.forget(run.id)
        await house.ask("DELETE FROM outlived.runs WHERE id = %(id)s", id=run.id)
        await house.ask("DELETE FROM outlived.events WHERE run_id = %(id)s", id=run.id)
        await house.ask("DELETE FROM outlived.messages WHERE run_id = %(id)s", id=run.id)
        await house.ask("DELETE FROM outlived.chats WHERE chat_id = %(chat)s", chat=run.chat_id)


async def test_an_agent_cannot_give_its_run_away(shared_database):
    """An agent that claims its run was lost - a bug, or a joke - has failed with that: the run is settled here."""
    act = raising(OwnershipLost("a joke"))
    async with open_house(shared_database, agents={"act": act}) as house:
        run = await house.perform("act")
        assert (run.status, run.error["exception"]) == ("failed", "OwnershipLost")
        assert (await house.perform("demo", input="next")).status == "succeeded"


async def test_a_flood_fills_the_queue_not_the_memory(shared_database, monkeypatch):
    """While the database does not take it, an agent that talks without end waits: what is held is bounded."""
    let_go = trio.Event()
    monkeypatch.setattr(writer, "QUEUE_BYTES", QUEUE_BYTES)

    async def flood(desk):
        await desk.emit_text("ready")
        await let_go.wait()
        while True:
            await desk.emit_text("x" * 60_000)

    async with open_house(shared_database, agents={"flood": flood}) as house:
        journal = house.supervisor.journal
        run = await house.start("flood")
        await house.wait_logged(run.id, "text.delta")
        await wait_for(lambda: journal.idle)
        with open_session(shared_database) as session:
            session.lock("SELECT 1 FROM outlived.owners WHERE id = %s FOR UPDATE", journal.owner)
            let_go.set()
            await wait_for(lambda: journal.queued_bytes > QUEUE_BYTES, "the queue is full")
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert journal.queued_bytes <= QUEUE_BYTES + writer.ITEM_BYTES
            house.registry.find(run.id).cancel(Cause.STOP)
            session.release()
        assert (await house.wait_settled(run.id)).status == "aborted"
    assert_history(shared_database, settled=True)
