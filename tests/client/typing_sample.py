"""What a type checker must see of the client; checked with mypy --strict by test_check_types.py, never run."""

from __future__ import annotations

from typing import assert_type

from outlive import (
    Client,
    Event,
    Message,
    NotFound,
    Run,
    RunActive,
    RunFound,
    RunPage,
    RunStarted,
    ServerDescription,
    ServerStats,
    Tail,
    TailEnd,
    connect,
    events,
    sync,
)


async def take_turn() -> None:
    """The natural way."""
    async with connect(timeout=5, patience=0, notice=print) as client:
        assert_type(client, Client)
        started = await client.start(agent="demo", input="hi")
        assert_type(started, RunStarted)
        assert_type(started.run, Run)
        tail = client.tail(started)
        assert_type(tail, Tail)
        async for event in tail:
            assert_type(event, Event)
            match events.read_data(event):
                case events.TextDelta(text):
                    assert_type(text, str)
                case events.Settled() as settled:
                    assert_type(settled.stop_reason, str | None)
        assert_type(tail.end, TailEnd | None)
        found = await client.get(started.run.id)
        assert_type(found, RunFound)
        assert_type(found.message.content, str)
        latest = await client.latest("c1")
        assert_type(latest.message, Message | None)
        assert_type(await client.describe(), ServerDescription)
        stats = await client.stats()
        assert_type(stats.commit_p99_seconds, float | None)


def take_turn_without_async() -> None:
    """The façade has the same types."""
    with sync.connect() as client:
        assert_type(client, sync.Client)
        started = client.start(command=["true"], detached=False)
        assert_type(started, RunStarted)
        with client.tail(started, after_seq=None) as tail:
            assert_type(tail, sync.Tail)
            for event in tail:
                assert_type(event, Event)
        assert_type(client.list_runs(status=["running"]), RunPage)
        assert_type(client.stats(), ServerStats)
        try:
            client.stop(started, wait_seconds=1)
        except (NotFound, RunActive) as error:
            assert_type(error.data.get("active_run_id"), object)  # type: ignore[assert-type]


async def make_mistakes() -> None:
    """Each line that is wrong is ignored by its error's name: a missing error would be an error."""
    async with connect() as client:
        await client.start(agnt="demo")  # type: ignore[call-arg]
        await client.start(agent="demo", on_active="queue")  # type: ignore[arg-type]
        await client.get(1)  # type: ignore[arg-type]
        repr((await client.latest("c1")).run.id)  # type: ignore[union-attr]
        await client.list_runs(status=["sleeping"])  # type: ignore[list-item]
    with sync.connect() as blocking:
        blocking.start(agnt="demo")  # type: ignore[call-arg]
        blocking.get(1)  # type: ignore[arg-type]
        await blocking.info()  # type: ignore[misc]
