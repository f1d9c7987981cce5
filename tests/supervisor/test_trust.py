"""Whether an owner believes in itself: two thirds of a lease, on a clock that counts sleep."""

import time

import pytest

from outlived.supervisor import trust as room
from outlived.supervisor.trust import Trust, read_clock


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(room, "read_clock", clock)
    return clock


@pytest.mark.parametrize(("passed", "holds"), [(0, True), (39.9, True), (40, False), (1e6, False)])
def test_trust_ends_after_two_thirds_of_the_lease(clock, passed, holds):
    """A third before anybody else may think so, an owner that could not renew stops trusting itself."""
    trust = Trust(60.0, lambda: False)
    trust.renewed(clock.now)
    clock.now += passed
    assert trust.holds is holds


def test_a_renewal_counts_from_its_beginning(clock):
    """A renewal that took long counts from when it was asked for: the lease began somewhere in between."""
    trust = Trust(60.0, lambda: False)
    began = clock.now
    clock.now += 39
    trust.renewed(began)
    clock.now += 1
    assert not trust.holds
    trust.renewed(clock.now)
    assert trust.holds


def test_while_our_own_database_is_down_nobody_can_take_anything(clock):
    """With the embedded Postgres known to be down trust is suspended, not lost."""
    down = True
    trust = Trust(60.0, lambda: down)
    trust.renewed(clock.now)
    clock.now += 1e6
    assert trust.holds


def test_a_database_that_comes_back_leaves_time_to_renew(clock):
    """After our own Postgres was away the owner has as long to renew as nobody may take anything from it."""
    down = True
    trust = Trust(60.0, lambda: down)
    trust.renewed(clock.now)
    clock.now += 1e6
    assert trust.holds
    down = False
    clock.now += 39
    assert trust.holds
    clock.now += 1
    assert not trust.holds


def test_an_owner_without_others_may_sleep(clock):
    """A laptop that slept for longer than the lease trusts itself if nobody was there to take anything; else it does not."""
    trust = Trust(60.0, lambda: False)
    trust.renewed(clock.now)
    trust.alone = True
    clock.now += 1e6
    assert trust.holds
    trust.alone = False
    clock.now += 39
    assert trust.holds
    clock.now += 1e6
    assert not trust.holds


def test_the_clock_counts_what_was_slept():
    """The clock is CLOCK_BOOTTIME: it counts the time that a laptop is suspended."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= read_clock() <= time.clock_gettime(time.CLOCK_BOOTTIME)
