"""What is found: a figure, beside its limit and its target.

1. A latency's ``value`` is its p50, in ms, and it has a ``p99``. A rate's ``value`` is units per second.
2. A limit and a target's bound have the figure's unit, so that a ratio is a division.

Not here: how figures are written down (``report.py``) and shown (``table.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Literal

import attrs

Better = Literal["more", "less"]


class Broken(Exception):
    """What was measured did not do what it should: there is no figure. The message says what was lost."""


@attrs.frozen
class Limit:
    """What the machine allows, measured in the same run."""

    name: str
    value: float


@attrs.frozen
class Target:
    """What is to be reached: ``text`` for the reader, ``bound`` in the figure's unit."""

    text: str
    bound: float


@attrs.frozen
class Figure:
    """One number, and what makes it readable.

    ``low`` and ``high`` are the extremes of the repetitions. ``cpu``: milliseconds per unit of work, by process
    ("daemon", "postgres", "load"). ``load``: where this point lies on a curve, in runs per second offered.
    """

    name: str
    unit: str
    value: float
    better: Better = "more"
    p99: float | None = None
    limit: Limit | None = None
    target: Target | None = None
    cpu: dict[str, float] = attrs.Factory(dict)
    note: str = ""
    load: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def ratio(self) -> float | None:
        """The figure divided by its limit: at best 1 for most rates, and for latencies at least 1."""
        return self.value / self.limit.value if self.limit and self.limit.value else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target.bound if self.better == "more" else self.value <= self.target.bound


def at_least(bound: float) -> Target:
    """A rate that is to be reached."""
    return Target(f"≥ {bound:,.10g}", bound)


def at_most(bound: float) -> Target:
    """A cost that is not to be passed."""
    return Target(f"≤ {bound:,.10g}", bound)


def at_least_of(factor: float, limit: Limit) -> Target:
    """A rate that is to be reached, as a part of its limit."""
    return Target(f"≥ {factor:g} x limit", factor * limit.value)


def at_most_of(factor: float, limit: Limit) -> Target:
    """A cost that is not to be passed, as a multiple of its limit."""
    return Target(f"≤ {factor:g} x limit", factor * limit.value)


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that ``part`` (0 to 1) of all values do not exceed. ``values`` need not be sorted."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def merge(repetitions: Sequence[Sequence[Figure]]) -> list[Figure]:
    """The median of every figure over the repetitions, with its extremes; in the order of the first."""
    return [_merge_one([_find(each, first.name) for each in repetitions]) for first in repetitions[0]]


def _find(figures: Sequence[Figure], name: str) -> Figure:
    found = [figure for figure in figures if figure.name == name]
    if len(found) != 1:
        raise Broken(f"cannot merge the repetitions: {len(found)} figures are called {name!r}")
    return found[0]


def _merge_one(same: Sequence[Figure]) -> Figure:
    first = same[0]
    values = [figure.value for figure in same]
    return attrs.evolve(
        first,
        value=median(values),
        low=min(values) if len(values) > 1 else None,
        high=max(values) if len(values) > 1 else None,
        p99=_median(figure.p99 for figure in same),
        limit=attrs.evolve(first.limit, value=_median(figure.limit and figure.limit.value for figure in same))
        if first.limit
        else None,
        target=attrs.evolve(
            first.target, bound=_median(figure.target and figure.target.bound for figure in same)
        )
        if first.target
        else None,
        cpu={part: _median(figure.cpu.get(part) for figure in same) for part in first.cpu},
        load=_median(figure.load for figure in same),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
