"""Steps: numbered by their calls, performed once, and what they returned is there for the next attempt."""

import math
from contextlib import suppress

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlived.chores.sweeper import sweep_all
from outlived.identifiers import make_id
from outlived.journal import writer
from outlived.journal.items import OwnershipLost
from outlived.settings import RunSettings
from outlived.supervisor.drain import drain
from tests.support.history import assert_history
from tests.support.house import FAST, ask, open_house, wait_for

TIRELESS = attrs.evolve(FAST, run=RunSettings(grace_seconds=2, drain_seconds=0, max_attempts=1000))


async def interrupt(dsn, act, **params):
    """Let a run get as far as its agent goes before it sleeps, and release it; its id."""
    async with open_house(dsn, agents={"act": act}, settings=TIRELESS) as house:
        run = await house.start("act", on_owner_loss="resume", **params)
        asleep = await house.wait_logged(run.id, "data")
        assert asleep.data["name"] == "asleep"
        assert await drain(house.supervisor, trio.Event())
    return run.id


async def sleep(desk):
    await desk.data("asleep", None)
    await trio.sleep_forever()


async def resume(dsn, run_id, act):
    """Let the run's next attempt end; the run and its log."""
    async with open_house(dsn, agents={"act": act}, settings=TIRELESS) as house:
        await sweep_all(house.supervisor)
        run = await house.wait_settled(run_id)
        return run, await house.read_log(run_id)


def list_steps(log):
    """(attempt, what, number, name) of every event of a step."""
    attempt, found = 0, []
    for event in log:
        if event.type == "run.started":
            attempt = event.data["attempt"]
        if event.type.startswith("step."):
            found.append((attempt, event.type.removeprefix("step."), *event.data.values()))
    return found


class Worker:
    """Does what it is told, and remembers how often."""

    def __init__(self):
        self.done = []

    async def do(self, what, result=None):
        self.done.append(what)
        await trio.lowlevel.checkpoint()
        return result


# ---------------------------------------------------------------- across attempts


async def test_a_finished_step_is_not_performed_again(shared_database):
    """The next attempt gets what the step returned, value for value, and the log tells of the step once."""
    worker, got = Worker(), []
    strange = {"text": "é\0\ud800", "numbers": [1, 2.5, -0.0, 2**70], "pair": ("a", None), "": {}}

    async def act(desk):
        got.append(await desk.step("look", worker.do, "look", strange))
        await desk.step("nothing", worker.do, "nothing")
        if desk.assignment.attempt == 1:
            await sleep(desk)
        await desk.step("say", worker.do, "say", 3)

    run_id = await interrupt(shared_database, act)
    run, log = await resume(shared_database, run_id, act)
    assert (run.status, run.step_count, run.attempt) == ("succeeded", 3, 2)
    assert worker.done == ["look", "nothing", "say"]
    assert repr(got) == repr([{**strange, "pair": ["a", None]}] * 2)
    assert list_steps(log) == [
        (1, "started", 1, "look"), (1, "finished", 1, "look"), (1, "started", 2, "nothing"),
        (1, "finished", 2, "nothing"), (2, "started", 3, "say"), (2, "finished", 3, "say"),
    ]  # fmt: skip
    assert_history(shared_database, settled=True)


async def test_a_step_that_was_cut_or_raised_is_performed_again(shared_database):
    """Only a step that finished is kept; the others keep their numbers and are tried anew."""
    worker = Worker()

    async def fail():
        worker.done.append("fail")
        if len(worker.done) == 1:
            raise ValueError

    async def cut(desk):
        worker.done.append("cut")
        if desk.assignment.attempt == 1:
            await sleep(desk)

    async def act(desk):
        with suppress(ValueError):
            await desk.step("fail", fail)
        await desk.step("keep", worker.do, "keep")
        await desk.step("cut", cut, desk)

    run_id = await interrupt(shared_database, act)
    run, log = await resume(shared_database, run_id, act)
    assert (run.status, run.step_count) == ("succeeded", 3)
    assert worker.done == ["fail", "keep", "cut", "fail", "cut"]
    finished = [(attempt, number) for attempt, what, number, _ in list_steps(log) if what == "finished"]
    assert finished == [(1, 2), (2, 1), (2, 3)]
    assert_history(shared_database, settled=True)


@pytest.mark.parametrize("swallow", [False, True])
async def test_another_name_fails_the_run(shared_database, swallow):
    """A step that asks for what another one returned fails the run, whatever the agent makes of it; nothing is guessed."""
    worker = Worker()

    async def act(desk):
        first = "look" if desk.assignment.attempt == 1 else "listen"
        names = (first, "say", "and more")
        for name in names:
            if swallow:
                with suppress(Exception):
                    await desk.step(name, worker.do, name)
            else:
                await desk.step(name, worker.do, name)
            if name == "say":
                await sleep(desk) if desk.assignment.attempt == 1 else await desk.emit_text("on")

    run_id = await interrupt(shared_database, act)
    run, log = await resume(shared_database, run_id, act)
    assert (run.status, run.error["code"]) == ("failed", "nondeterminism")
    assert {"step": 1, "expected": "look", "found": "listen"}.items() <= run.error.items()
    assert run.error["message"] == "cannot go on: step 1 ('listen') was 'look' in an earlier attempt"
    assert worker.done == ["look", "say"]
    assert [each for each in list_steps(log) if each[0] == 2] == []
    assert_history(shared_database, settled=True)


async def test_steps_that_are_started_at_once_have_the_order_of_their_calls(shared_database):
    """Steps handed to a nursery are numbered by the program, however they are scheduled: the next attempt finds each."""
    worker, got = Worker(), []

    async def look(number):
        await trio.sleep(0.001 * (number * 7 % 5))
        return await worker.do(number, number * 10)

    async def act(desk):
        found = {}

        async def keep(number, step):
            found[number] = await step

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(keep, number, desk.step(f"look {number}", look, number))
        got.append(found)
        if desk.assignment.attempt == 1:
            await sleep(desk)

    run_id = await interrupt(shared_database, act)
    run, _ = await resume(shared_database, run_id, act)
    assert (run.status, run.step_count) == ("succeeded", 10)
    assert sorted(worker.done) == list(range(10))
    assert got == [{number: number * 10 for number in range(10)}] * 2
    assert_history(shared_database, settled=True)


async def test_a_nursery_may_start_steps(shared_database):
    """``start_soon(desk.step, …)`` counts as the call, in the order of the program."""
    worker = Worker()

    async def act(desk):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(desk.step, f"{number}", worker.do, number)

    async with open_house(shared_database, agents={"act": act}) as house:
        run = await house.perform("act")
        steps = [(number, name) for _, what, number, name in list_steps(await house.read_log(run.id))]
    assert set(steps) == {(number + 1, f"{number}") for number in range(20)}


async def test_the_database_may_be_away_while_steps_are_recalled(shared_database, proxy, monkeypatch):
    """An attempt that cannot read what was kept waits for the database; it neither fails nor performs anything twice."""
    monkeypatch.setattr("outlived.supervisor.insist.RETRY_SECONDS", 0.01)
    worker, ready, go = Worker(), trio.Event(), trio.Event()

    async def act(desk):
        if desk.assignment.attempt == 2:
            ready.set()
            await go.wait()
        await desk.step("look", worker.do, "look")
        if desk.assignment.attempt == 1:
            await sleep(desk)

    run_id = await interrupt(shared_database, act)
    async with open_house(
        shared_database, through=proxy.dsn, agents={"act": act}, settings=TIRELESS
    ) as house:
        await sweep_all(house.supervisor)
        await ready.wait()
        proxy.leave()
        go.set()
        await trio.sleep(0.1)  # long enough for some tries; what matters is checked below
        assert house.registry.find(run_id) is not None
        proxy.come_back()
        assert (await house.wait_settled(run_id)).status == "succeeded"
    assert worker.done == ["look"]
    assert_history(shared_database, settled=True)


async def test_only_a_run_that_may_be_resumed_keeps_results(shared_database):
    """Results of other runs are not stored: nobody would ever read them."""
    worker = Worker()

    async def act(desk):
        await desk.step("look", worker.do, "look", 1)

    async with open_house(shared_database, agents={"act": act}) as house:
        for kept, params in (
            (1, {"on_owner_loss": "resume"}),
            (0, {}),
            (0, {"on_owner_loss": "resume", "detached": False}),
        ):
            run = await house.perform("act", **params)
            rows = await house.ask(
                "SELECT position, name, result FROM outlived.steps WHERE run_id = %(id)s", id=run.id
            )
            assert rows == [(1, "look", "1")] * kept


# ---------------------------------------------------------------- in one attempt


@pytest.mark.parametrize("on_owner_loss", ["abort", "resume"])
async def test_the_first_attempt_sees_what_a_next_one_would(shared_database, on_owner_loss):
    """What a step returns is read from what is kept at once, whether the run may be resumed or not."""
    got = []

    async def act(desk):
        got.append(await desk.step("pair", Worker().do, "pair", ("a", ["b"])))

    async with open_house(shared_database, agents={"act": act}) as house:
        assert (await house.perform("act", on_owner_loss=on_owner_loss)).status == "succeeded"
    assert got == [["a", ["b"]]]


WRONG = {
    "a set": ({1}, "TypeError", "cannot keep what step 1 ('wrong') returned, a set: it is no JSON value: a set"),
    "not a number": (math.nan, "TypeError", "a float: it is no JSON value: nan"),
    "too large": ("x" * 300_000, "ValueError", "a str: it is 300002 bytes of JSON, and at most 262144 are kept"),
}  # fmt: skip


@pytest.mark.parametrize(("result", "exception", "message"), WRONG.values(), ids=WRONG.keys())
async def test_a_result_that_cannot_be_kept_is_an_error_of_its_step(
    shared_database, result, exception, message
):
    """The error names step and type, the step is not finished, and the run fails by it."""

    async def act(desk):
        await desk.step("wrong", Worker().do, "wrong", result)

    async with open_house(shared_database, agents={"act": act}) as house:
        run = await house.perform("act")
        assert (run.status, run.error["exception"], run.step_count) == ("failed", exception, 0)
        assert message in run.error["message"]
    assert_history(shared_database, settled=True)


async def test_steps_do_not_nest(shared_database):
    """A step inside a step is refused; one that is begun after its outer step, or beside it, is not."""
    worker = Worker()

    async def outer(desk, nursery, late):
        nursery.start_soon(late)
        with pytest.raises(
            RuntimeError, match=r"cannot begin step 'inner' inside step 1 \('outer'\): steps do not nest"
        ):
            await desk.step("inner", worker.do, "inner")

    async def act(desk):
        ended = trio.Event()

        async def late():
            await ended.wait()
            await desk.step("late", worker.do, "late")

        async with trio.open_nursery() as nursery:
            await desk.step("outer", outer, desk, nursery, late)
            ended.set()

    async with open_house(shared_database, agents={"act": act}) as house:
        run = await house.perform("act")
        assert (run.status, run.step_count) == ("succeeded", 2), run.error
    assert worker.done == ["late"]


# ---------------------------------------------------------------- whatever happens


@attrs.define
class Doom:
    """Ends a daemon at its journal's commit of that number: before it, or after it, unheard of. ``left`` counts down."""

    left: int
    after: bool
    happened: trio.Event = attrs.Factory(trio.Event)

    async def write(self, write_batch, connection, *args):
        self.left -= 1
        if self.left > 0 or self.after:
            await write_batch(connection, *args)
        else:
            await connection.execute("ROLLBACK")
        if self.left <= 0:
            self.happened.set()
            await trio.sleep_forever()


programs = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.sampled_from(["look", "say", "think"]), st.integers(0, 9)),
        st.tuples(st.just("text"), st.just("…"), st.integers(0, 9)),
        st.tuples(st.just("both"), st.sampled_from(["left", "right"]), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=6,
)
dooms = st.lists(st.tuples(st.integers(1, 8), st.booleans()), max_size=3)


@attrs.define
class Life:
    """An agent that carries out a program, and what it did: (call, attempt) of every step's function, in order."""

    program: list
    name: str = attrs.Factory(make_id)
    done: list = attrs.Factory(list)
    results: list = attrs.Factory(list)

    async def act(self, desk):
        got = []

        async def do(call, result):
            await desk.emit_text(f"[{call}]")
            self.done.append((call, desk.assignment.attempt))
            await trio.lowlevel.checkpoint()
            return [result, call]

        async def keep(index, step):
            got[index] = await step

        for index, (what, name, value) in enumerate(self.program):
            if what == "text":
                await desk.emit_text(f"{name}{value}")
                continue
            calls = [f"{index}a"] if what == "step" else [f"{index}a", f"{index}b"]
            async with trio.open_nursery() as nursery:
                for call in calls:
                    got.append(None)
                    nursery.start_soon(keep, len(got) - 1, desk.step(name, do, call, value))
        self.results.append(got)


def expect(program):
    """What the steps of a program return."""
    calls = [
        (f"{index}{side}", value)
        for index, (what, _, value) in enumerate(program)
        for side in {"text": "", "step": "a", "both": "ab"}[what]
    ]
    return [[value, call] for call, value in calls]


async def sweep(house):
    with suppress(OwnershipLost):  # it dies in between
        await sweep_all(house.supervisor)


async def live_once(dsn, life, run_id, doom):
    """Live in one house until the run is settled, or until the doom; the run's id, and whether it is settled."""
    async with open_house(dsn, agents={life.name: life.act}, settings=TIRELESS) as house:
        with pytest.MonkeyPatch.context() as patch:
            if run_id is None:
                run_id = (await house.start(life.name, on_owner_loss="resume")).id
            if doom is not None:
                write_batch = writer.write_batch
                patch.setattr(writer, "write_batch", lambda *args: doom.write(write_batch, *args))
            house.services.start_soon(sweep, house)

            async def look():
                run = await house.read_run(run_id)
                return run.finished_at is not None or (doom is not None and doom.happened.is_set())

            await wait_for(look, what=f"run {run_id} is settled, or its daemon at its end")
            if doom is not None:
                owner = house.supervisor.journal.owner
                await ask(
                    dsn, "UPDATE outlived.owners SET dead_at = clock_timestamp() WHERE id = %(o)s", o=owner
                )
                house.supervisor.journal.lose()
        return run_id, (await house.read_run(run_id)).finished_at is not None


@settings(
    derandomize=True, max_examples=30, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(program=programs, deaths=dooms)
async def test_any_program_survives_any_deaths(shared_database, program, deaths):
    """Killed before or after any commits, a program comes to the same results, and nothing that was finished is done again."""
    life, run_id, settled = Life(program), None, False
    for left, after in deaths:
        if not settled:
            run_id, settled = await live_once(shared_database, life, run_id, Doom(left, after))
    if not settled:
        run_id, settled = await live_once(shared_database, life, run_id, None)
    assert settled
    assert all(results == expect(program) for results in life.results)
    assert life.results
    async with open_house(shared_database) as house:
        run, log = await house.read_run(run_id), await house.read_log(run_id)
    assert run.status == "succeeded", run.error
    finished = {number: attempt for attempt, what, number, _ in list_steps(log) if what == "finished"}
    assert len(finished) == run.step_count == len(expect(program))
    for number, (_, call) in enumerate(expect(program), 1):
        attempts = [attempt for each, attempt in life.done if each == call]
        assert attempts[-1] == finished[number], "it is not performed after its commit"
        assert attempts == sorted(set(attempts)), "it is performed once per attempt"
    assert_history(shared_database, settled=True)
