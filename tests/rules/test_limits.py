"""When a limit is reached, and what a run says that reached one."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.rules.limits import IDLE, MEMORY, NO_LIMITS, WALL, Limits, look, read_error

examples = settings(derandomize=True, deadline=None)
seconds = st.floats(0, 1e6)
bounds = st.none() | st.floats(0.001, 1e6)


@pytest.mark.parametrize(
    ("limits", "elapsed", "silent", "found"),
    [
        (Limits(wall_seconds=10), 9, 9, (None, 1)),
        (Limits(wall_seconds=10), 10, 0, (WALL, 0)),
        (Limits(idle_seconds=10), 1000, 4, (None, 6)),
        (Limits(idle_seconds=10), 1000, 11, (IDLE, 0)),
        (Limits(wall_seconds=10, idle_seconds=3), 1, 1, (None, 2)),
        (Limits(wall_seconds=10, idle_seconds=3), 9.5, 1, (None, 0.5)),
        (Limits(wall_seconds=10, idle_seconds=3), 12, 4, (WALL, 0)),
    ],
)
def test_the_first_limit_that_can_be_reached_counts(limits, elapsed, silent, found):
    """A limit is reached when its time is over; until then the nearer one says when to look again."""
    assert look(limits, elapsed=elapsed, silent=silent) == found


@given(wall=bounds, idle=bounds, elapsed=seconds, silent=seconds)
@examples
def test_whoever_looks_again_when_told_misses_nothing(wall, idle, elapsed, silent):
    """No limit is reported before its time, and waiting as long as told leads to one that is reached."""
    limits = Limits(wall, idle)
    if wall is None and idle is None:
        return
    found, left = look(limits, elapsed=elapsed, silent=silent)
    if found is not None:
        assert (elapsed if found == WALL else silent) >= getattr(limits, found)
        return
    assert left > 0
    again, rest = look(limits, elapsed=elapsed + left, silent=silent + left)
    assert again is not None or rest <= math.ulp(max(elapsed, silent, left)) * 4


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (WALL, "the run took longer than 90.5 s"),
        (IDLE, "the agent did nothing for 7 s"),
        (MEMORY, "the run needed more memory than 1024 bytes"),
    ],
)
def test_the_error_names_the_limit(limit, says):
    """``error.code`` is limit, ``error.limit`` which, and the message says how much it was."""
    limits = Limits(wall_seconds=90.5, idle_seconds=7, max_memory=1024)
    assert read_error(limit, limits) == {"code": "limit", "message": says, "limit": limit}


def test_a_run_has_no_limits_unless_told():
    """Nothing is limited by itself."""
    assert Limits(None, None, None, None) == NO_LIMITS
