"""What an end means: every end has exactly one outcome, and the table says which."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.agents import AgentBroken, AgentFailed
from outlived.rules.run import Status
from outlived.supervisor.judge import (
    LOST,
    MAX_ERROR_BYTES,
    OWNER_LOST,
    End,
    Outcome,
    Release,
    describe,
    judge,
    judge_loss,
)
from outlived.supervisor.registry import Cause

examples = settings(derandomize=True, deadline=None)

EXIT = {"code": "exit_status", "message": "the command exited with status 3", "exit_status": 3}
LIMIT = {"code": "limit", "message": "the run took longer than 1 s", "limit": "wall_seconds"}
FAILED = AgentFailed(**EXIT)
ABORTING = [Cause.STOP, Cause.SHUTDOWN, Cause.FORCED, Cause.DISTRUST]

TABLE = {
    "it returned": (End(), Status.SUCCEEDED, None),
    "it raised": (End(raised=FAILED), Status.FAILED, "exit_status"),
    "it was stopped": (End(cancelled=True, cause=Cause.STOP), Status.ABORTED, None),
    "it was stopped, and raised": (
        End(cancelled=True, cause=Cause.STOP, raised=FAILED),
        Status.ABORTED,
        None,
    ),
    "the daemon stopped": (End(cancelled=True, cause=Cause.SHUTDOWN), Status.ABORTED, "shutdown"),
    "the daemon was in a hurry": (End(cancelled=True, cause=Cause.FORCED), Status.ABORTED, "forced"),
    "it could not be heard": (End(cancelled=True, cause=Cause.DISTRUST), Status.ABORTED, "owner_lost"),
    "it returned although it was stopped": (End(cause=Cause.STOP), Status.SUCCEEDED, None),
    "it raised although it was stopped": (End(cause=Cause.STOP, raised=FAILED), Status.FAILED, "exit_status"),
    "it reached a limit": (End(cancelled=True, cause=Cause.LIMIT, limit=LIMIT), Status.FAILED, "limit"),
    "it raised at its limit": (
        End(cancelled=True, cause=Cause.LIMIT, raised=FAILED, limit=LIMIT),
        Status.FAILED,
        "limit",
    ),
    "it was stopped, then reached a limit": (
        End(cancelled=True, cause=Cause.STOP, limit=LIMIT),
        Status.ABORTED,
        None,
    ),
    "it returned at its limit": (End(cause=Cause.LIMIT, limit=LIMIT), Status.SUCCEEDED, None),
    "it ended well by itself, before our signal": (
        End(cancelled=True, cause=Cause.STOP, own=True),
        Status.SUCCEEDED,
        None,
    ),
    "it ended badly by itself, before our signal": (
        End(cancelled=True, cause=Cause.SHUTDOWN, own=True, own_error=EXIT),
        Status.FAILED,
        "exit_status",
    ),
}


@pytest.mark.parametrize(("end", "status", "code"), TABLE.values(), ids=TABLE.keys())
def test_the_table(end, status, code):
    """Each end that is known has the outcome that the table names."""
    outcome = judge(end)
    assert outcome.status is status
    assert (outcome.error or {}).get("code") == code


errors = st.one_of(
    st.builds(ValueError, st.text()),
    st.builds(AgentFailed, st.text(), st.text()),
    st.builds(AgentBroken, st.text()),
    st.builds(SystemExit, st.integers()),
    st.builds(lambda error: ExceptionGroup("one", [error]), st.builds(AgentFailed, st.text(), st.text())),
    st.builds(lambda error: BaseExceptionGroup("two", [error, ValueError()]), st.builds(SystemExit)),
)
ends = st.builds(
    End,
    cancelled=st.booleans(),
    cause=st.none() | st.sampled_from(ABORTING),
    raised=st.none() | errors,
    own=st.booleans(),
    own_error=st.none() | st.just(EXIT),
)


@examples
@given(ends)
def test_every_end_has_one_outcome(end):
    """Success has no error, failure has one, an abort has one unless somebody asked for it; it can be stored."""
    outcome = judge(end)
    assert outcome.status in {Status.SUCCEEDED, Status.FAILED, Status.ABORTED}
    asked_for = outcome.status is Status.ABORTED and end.cause is Cause.STOP
    assert (outcome.error is None) == (outcome.status is Status.SUCCEEDED or asked_for)
    if outcome.error is not None:
        assert {"code", "message"} <= outcome.error.keys()
        assert "\\u0000" not in msgspec.json.encode(outcome.error).decode()


@examples
@given(ends)
def test_an_abort_needs_a_cancel_that_came_through(end):
    """Nothing but a cancel that left the agent, and came before its own end, makes a run aborted."""
    aborted = judge(end).status is Status.ABORTED
    assert aborted == (end.cancelled and end.cause is not None and not end.own)


@examples
@given(ends, st.sampled_from(ABORTING), errors)
def test_what_an_agent_says_on_its_way_out_is_lost(end, cause, error):
    """Once the cancel has come through it does not matter what was raised beside it."""
    seen = End(True, cause, end.raised, False, None)
    assert judge(seen) == judge(End(True, cause, error, False, None))


@examples
@given(ends)
def test_a_run_is_released_only_where_its_daemon_alone_ended_it(end):
    """What may be resumed has the outcome of any run, unless it was cut short by its daemon's end or distrust."""
    outcome = judge(end, resumable=True)
    cut = end.cancelled and not end.own and end.cause in {Cause.SHUTDOWN, Cause.FORCED, Cause.DISTRUST}
    if cut:
        assert outcome == Release(LOST if end.cause is Cause.DISTRUST else "shutdown")
    else:
        assert outcome == judge(end)


@examples
@given(st.booleans(), st.integers(0, 9), st.integers(1, 9))
def test_a_loss_is_a_release_as_often_as_may_be(resumable, lost, limit):
    """So many attempts may be lost, the last of them fails the run; a run that may not be resumed is lost at once."""
    outcome = judge_loss(resumable=resumable, lost=lost, max_attempts=limit)
    if not resumable:
        assert outcome == Outcome(Status.ABORTED, OWNER_LOST)
    elif lost + 1 < limit:
        assert outcome == Release(LOST)
    else:
        assert (outcome.status, outcome.error["code"]) == (Status.FAILED, "too_many_attempts")


def test_an_owner_that_is_lost_is_said_the_same_way_everywhere():
    """A distrustful owner and a takeover tell the same story."""
    assert judge(End(True, Cause.DISTRUST)) == Outcome(Status.ABORTED, OWNER_LOST)


@examples
@given(
    st.recursive(st.none() | st.integers() | st.floats() | st.text() | st.binary(), st.lists, max_leaves=20)
)
def test_an_error_of_an_agents_own_is_always_storable(details):
    """Whatever details an agent gives its failure, an error of bounded size comes out."""
    error = describe(AgentFailed("exception", "said", details=details))
    assert error["code"] == "exception"
    assert error["message"] == "said"
    assert len(msgspec.json.encode(error)) <= MAX_ERROR_BYTES


@pytest.mark.parametrize("error", [None, 3, [], "text", {}])
def test_an_error_that_is_none_is_replaced(error):
    """An agent's own failure whose error is no object is still a failure with an error."""
    failed = AgentFailed("exception", "said")
    failed.error = error
    assert describe(failed) == {"code": "exception", "message": "said", "exception": "AgentFailed"}
