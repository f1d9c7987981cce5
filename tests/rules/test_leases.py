"""When an owner may be believed, and when it may be declared dead."""

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.rules.leases import TRUST_FRACTION, ProcessIdentity, Verdict, judge_process, trusts_itself

HERE = ProcessIdentity("boot-1", "ns-1", 1, 10)
OWNER = ProcessIdentity("boot-1", "ns-1", 4242, 777)


@pytest.mark.parametrize(
    ("now", "verdict"), [(777, Verdict.ALIVE), (778, Verdict.DEAD), (776, Verdict.DEAD), (None, Verdict.DEAD)]
)
def test_pid_and_start_ticks_are_judged_together(now: int | None, verdict: Verdict):
    """On the same host an owner lives if its pid has its start ticks; a pid used again proves its death."""
    assert judge_process(OWNER, HERE, now) is verdict


@pytest.mark.parametrize("now", [777, 778, None])
@pytest.mark.parametrize("elsewhere", [{"boot_id": "boot-2"}, {"pid_namespace": "ns-2"}])
def test_another_boot_or_pid_namespace_proves_nothing(elsewhere: dict[str, str], now: int | None):
    """What the process table here says of a process of another boot or pid namespace says nothing."""
    assert judge_process(attrs.evolve(OWNER, **elsewhere), HERE, now) is Verdict.UNKNOWN


def test_trust_ends_at_two_thirds_of_the_lease():
    """An owner believes in itself for just under two thirds of its lease, counted from the renewal's start."""

    def trusts(now: float) -> bool:
        return trusts_itself(renewal_began=100.0, now=now, lease_seconds=60.0, database_down=False)

    assert trusts(100.0)
    assert trusts(139.999)
    assert not trusts(140.0)
    assert not trusts(161.0)


def test_trust_is_suspended_while_the_own_database_is_down():
    """Nobody can take anything over while the only database is known to be down."""
    assert trusts_itself(renewal_began=0.0, now=1e9, lease_seconds=60.0, database_down=True)


@settings(derandomize=True, deadline=None)
@given(began=st.floats(0, 1e6), lease=st.floats(0.1, 1e4), waited=st.floats(0, 1e5))
def test_distrust_comes_before_the_lease_ends(began: float, lease: float, waited: float):
    """Whoever still trusts itself has a third of its lease left; trust once lost does not come back by waiting."""

    def trusts(now: float) -> bool:
        return trusts_itself(renewal_began=began, now=now, lease_seconds=lease, database_down=False)

    if trusts(began + waited):
        assert waited < lease * TRUST_FRACTION + 1e-6
    else:
        assert not trusts(began + waited + 1)
