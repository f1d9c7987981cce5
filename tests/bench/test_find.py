"""Figures: ratios, targets, medians over repetitions."""

import pytest

from bench.figures import Broken, Figure, Limit, at_least_of, at_most, merge, percentile
from bench.table import make_changes, make_rows, write_number


def make(value, *, p99=None, limit=100.0, name="rate"):
    beside = Limit("pgbench", limit)
    return Figure(
        name, "runs/s", value, p99=p99, limit=beside, target=at_least_of(0.5, beside), cpu={"daemon": value}
    )


def test_repetitions_become_medians_with_extremes():
    """Every number of a figure is the median of its own repetitions, its value has the extremes beside it."""
    [figure] = merge([[make(40, p99=3.0, limit=90)], [make(70, p99=1.0)], [make(60, p99=2.0, limit=120)]])
    assert (figure.value, figure.low, figure.high, figure.p99) == (60, 40, 70, 2.0)
    assert figure.limit == Limit("pgbench", 100)
    assert figure.target.bound == 50
    assert figure.cpu == {"daemon": 60}
    assert figure.ratio == 0.6


def test_repetitions_of_different_figures_are_refused():
    """A figure that one repetition lacks is no median of anything."""
    with pytest.raises(Broken, match="0 figures are called 'rate'"):
        merge([[make(1)], [make(1, name="other")]])


@pytest.mark.parametrize(("better", "met"), [("more", True), ("less", False)])
def test_a_target_is_met_in_the_figures_own_direction(better, met):
    """A rate is to reach its target, a cost is not to pass it; on the line both are met."""
    assert Figure("it", "ms", 2.0, better, target=at_most(1.0)).met is met
    assert Figure("it", "ms", 1.0, better, target=at_most(1.0)).met is True


def test_a_figure_without_limit_and_target_has_no_verdict():
    """Nothing is claimed that was not asked."""
    bare = Figure("it", "ms", 2.0)
    assert (bare.met, bare.ratio) == (None, None)
    assert list(make_rows([bare])) == [("it", "2 ms", "", "", "", "", "", "")]


def test_percentiles_are_values_that_were_seen():
    """p50 and p99 are measured values, whatever their number and order."""
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([5.0, 1.0, 4.0, 2.0, 3.0], 0.5) == 3.0
    assert percentile(list(range(1, 101)), 0.99) == 99


def test_a_change_says_whether_it_is_better():
    """A higher rate is better, a higher latency is worse; what is new or gone has no change."""
    rows = make_changes(
        [Figure("rate", "runs/s", 100.0), Figure("late", "ms", 1.0, "less"), Figure("gone", "ms", 1.0)],
        [Figure("rate", "runs/s", 150.0), Figure("late", "ms", 1.5, "less"), Figure("new", "ms", 1.0)],
    )
    assert [row[3] for row in rows] == ["+50.0 % better", "+50.0 % worse", "", ""]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234567.8, "1,234,568"), (12.345, "12.3"), (0.00123, "0.00123"), (None, "")],
)
def test_numbers_have_three_digits_that_count(value, text):
    """Enough to compare, not more than was measured."""
    assert write_number(value) == text
