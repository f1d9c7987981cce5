"""Actors: one that fails is logged and started again, later each time; one that must not fail ends the daemon."""

import pytest
import structlog
import trio

from outlived.supervisor.actors import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    STABLE_SECONDS,
    DaemonBroken,
    keep,
    keep_or_break,
)


@pytest.fixture
def logs():
    with structlog.testing.capture_logs() as logs:
        yield logs


class Body:
    """An actor that notes when it is started, and lives as its script says: seconds, then an exception or the end."""

    def __init__(self, *script):
        self.script = list(script)
        self.began = []

    async def __call__(self):
        self.began.append(trio.current_time())
        seconds, error = self.script.pop(0)
        await trio.sleep(seconds)
        if error is not None:
            raise error


async def test_an_actor_that_returns_is_done(autojump_clock, logs):
    """The end of an actor is its own business: it is neither logged nor started again."""
    body = Body((5, None))
    await keep("actor", body)
    assert (len(body.began), logs) == (1, [])


async def test_an_actor_that_fails_is_started_again_later_each_time(autojump_clock, logs):
    """Each failure is logged with its traceback, and waited for twice as long, up to a limit."""
    body = Body(*[(0, ValueError(str(number))) for number in range(10)], (0, None))
    await keep("actor", body)
    pauses = [after - before for before, after in zip(body.began, body.began[1:], strict=False)]
    assert pauses == pytest.approx([min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) for number in range(10)])
    assert len(logs) == 10
    assert {(line["actor"], line["log_level"], line["exc_info"]) for line in logs} == {
        ("actor", "error", True)
    }


async def test_after_a_stable_time_it_begins_anew(autojump_clock, logs):
    """An actor that lived long is started again as quickly as the first time."""
    error = ValueError()
    body = Body((0, error), (0, error), (0, error), (STABLE_SECONDS + 1, error), (0, error), (0, None))
    await keep("actor", body)
    pauses = [line["pause_seconds"] for line in logs]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.2])


async def test_a_group_is_a_failure_like_any_other(autojump_clock, logs):
    """What an actor's own nursery raises starts it again too."""
    body = Body((0, ExceptionGroup("two", [ValueError(), KeyError()])), (0, None))
    await keep("actor", body)
    assert (len(body.began), len(logs)) == (2, 1)


@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: ExceptionGroup("one", [error])])
async def test_a_broken_daemon_passes(autojump_clock, logs, wrap):
    """An actor that says that the daemon cannot go on is not started again, however deep it says so."""
    broken = DaemonBroken("cannot go on")
    with pytest.raises((DaemonBroken, ExceptionGroup)) as raised:
        await keep("actor", Body((0, wrap(broken)), (0, None)))
    assert raised.value is broken or raised.value.exceptions == (broken,)
    assert logs == []


async def test_a_cancel_ends_an_actor_in_its_work_and_in_its_pause(autojump_clock, logs):
    """Cancelled is nobody's failure: it ends the actor, and is not logged."""
    for body in (Body((1000, None)), Body((0, ValueError()), (0, None))):
        with trio.move_on_after(FIRST_PAUSE / 2) as scope:
            await keep("actor", body)
        assert scope.cancelled_caught
        assert len(body.began) == 1
    assert len(logs) == 1


async def test_a_failing_actor_disturbs_no_neighbour(autojump_clock, logs):
    """Its neighbours notice nothing."""
    ticks = []

    async def tick():
        for number in range(20):
            await trio.sleep(0.1)
            ticks.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, "bad", Body((0, ValueError()), (0, ValueError()), (0, None)))
        nursery.start_soon(keep, "good", tick)
    assert ticks == list(range(20))


async def test_an_actor_that_must_not_fail_breaks_the_daemon(logs):
    """Its failure is logged and becomes the daemon's, with its name and its reason."""
    with pytest.raises(DaemonBroken, match="cannot go on without the journal: ValueError: because") as raised:
        await keep_or_break("journal", Body((0, ValueError("because"))))
    assert isinstance(raised.value.__cause__, ValueError)
    assert [line["actor"] for line in logs] == ["journal"]


async def test_an_actor_that_must_not_fail_may_be_cancelled(autojump_clock, logs):
    """Being told to stop is no failure."""
    with trio.move_on_after(1) as scope:
        await keep_or_break("journal", Body((1000, None)))
    assert scope.cancelled_caught
    assert logs == []
