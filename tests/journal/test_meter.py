"""What the journal counts: quantiles that are nearly right and of late only, totals that miss nothing."""

import math
import time

from hypothesis import given
from hypothesis import strategies as st

from outlived.journal.meter import ERROR, Meter, Recent
from outlived.rules.run import Status
from tests.support.house import wait_for
from tests.support.journals import make_spec, open_desk, say

SMALLEST, LARGEST = 1e-5, 3600.0
seconds = st.floats(SMALLEST, LARGEST)
shares = st.sampled_from([0.01, 0.25, 0.5, 0.9, 0.99, 1.0])


def find_quantile(values, share):
    """The exact one, by the nearest rank."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


@given(st.lists(seconds, min_size=1, max_size=200), shares)
def test_quantile_is_nearly_right(values, share):
    """A quantile is off by no more than the error that is promised, whatever the values are."""
    recent = Recent(SMALLEST, LARGEST)
    for value in values:
        recent.note(value, 0.0)
    exact = find_quantile(values, share)
    assert abs(recent.read(share, 0.0) / exact - 1) <= ERROR + 1e-9


@given(st.lists(st.integers(1, 4096), min_size=1, max_size=200), shares)
def test_number_is_nearly_right(values, share):
    """So is a quantile of whole numbers, but for its rounding; small ones are exact."""
    recent = Recent(1, 1 << 12)
    for value in values:
        recent.note(value, 0.0)
    exact = find_quantile(values, share)
    read = round(recent.read(share, 0.0))
    assert read == exact if exact <= 10 else abs(read - exact) <= exact * ERROR + 0.5


@given(st.lists(st.sampled_from([0.0, 1e-9, 1e9]), min_size=1, max_size=9), shares)
def test_no_value_is_too_strange(values, share):
    """What lies outside the range is counted at its end, and what is read lies among the values."""
    recent = Recent(SMALLEST, LARGEST)
    for value in values:
        recent.note(value, 0.0)
    assert min(values) <= recent.read(share, 0.0) <= max(values)


@given(st.lists(st.tuples(st.floats(0, 25), seconds), min_size=1, max_size=50), st.floats(0, 60))
def test_old_values_are_forgotten(steps, pause):
    """What is read is of the last window at least, and of the last two at most."""
    recent, now, noted = Recent(SMALLEST, LARGEST, 10.0), 0.0, []
    for step, value in steps:
        now += step
        recent.note(value, now)
        noted.append((now, value))
    now += pause
    read = recent.read(1.0, now)
    late = [value for at, value in noted if at > now - 10.0]
    all_of_it = [value for at, value in noted if at >= now - 20.0]
    if read is None:
        assert not late
    else:
        assert max(late, default=0.0) <= read * (1 + ERROR) * (1 + 1e-9)
        assert read <= max(all_of_it)


def test_nothing_is_known_of_nothing():
    """Without values there is no quantile."""
    meter = Meter()
    assert (meter.read_seconds(0.5), meter.read_size(0.99)) == (None, None)


async def test_journal_counts_what_it_commits(schema):
    """Every commit, item, event, start and settlement is counted once, and a refused start is none."""
    async with open_desk(schema) as desk:
        meter = desk.journal.meter
        runs = [await desk.start(f"c{number}") for number in range(3)]
        for run in runs:
            await desk.journal.append(run, say("a "))
            await desk.journal.append(run, say("b "))
        await desk.ask(make_spec("c0"))
        for run, status in zip(runs, ("succeeded", "succeeded", "aborted"), strict=True):
            await desk.settle(run, status)
        written = sum([len(await desk.reads.list_events(run, 0)) for run in runs])
        assert (meter.started, meter.taken) == (3, 0)
        assert meter.settled == {Status.SUCCEEDED: 2, Status.ABORTED: 1}
        assert meter.events == written
        assert 0 < meter.commits <= meter.items
        assert meter.read_size(1.0) >= 1
        assert 0 < meter.read_seconds(0.5) <= meter.read_seconds(1.0) < 60


async def test_journal_counts_what_comes_and_goes(schema):
    """A run that is given back is released, the one who begins its next attempt has claimed it, and only once."""
    async with open_desk(schema) as desk:
        meter = desk.journal.meter
        spec = make_spec(on_owner_loss="resume")
        await desk.ask(spec)
        desk.begin(spec.id)
        await desk.journal.release(spec.id, "shutdown", None)
        for _ in range(2):
            run = await desk.reads.get_run(spec.id)
            await desk.journal.claim(spec, run, desk.note)
        assert (meter.started, meter.released, meter.claimed) == (1, 1, 1)
        assert meter.settled.total() == 0


async def test_journal_knows_what_waits(schema, session):
    """As long as the database does not answer, what waits grows older; once it is committed, nothing waits."""
    async with open_desk(schema) as desk:
        assert (desk.journal.waiting_since, desk.journal.queued_items) == (None, 0)
        run = await desk.start()
        await desk.flush()
        session.ask("BEGIN")
        session.ask("LOCK TABLE outlived.owners IN EXCLUSIVE MODE")
        before = desk.journal.meter.commits
        for _ in range(3):
            await desk.journal.append(run, say("x"))
        since = desk.journal.waiting_since
        assert since is not None
        await wait_for(lambda: time.monotonic() > since + 0.05, what="it has waited for a while")
        assert desk.journal.waiting_since == since
        assert desk.journal.queued_items >= 1
        assert desk.journal.meter.commits == before
        session.ask("ROLLBACK")
        await desk.flush()
        assert (desk.journal.waiting_since, desk.journal.queued_items) == (None, 0)
