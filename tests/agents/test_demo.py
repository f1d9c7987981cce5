"""The built-in agent ``demo``: words, repetitions, failures, and options that are checked beforehand."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.agents import AgentFailed, Assignment, AssignmentRefused
from outlived.agents.demo import DemoAgent
from tests.support.desk import make_desk, perform

examples = settings(derandomize=True, deadline=None)

AT_ONCE = {"delay_ms": 0}


def deltas(desk):
    return [what[1] for what in desk.did if what[0] == "text"]


async def test_a_word_with_its_space_is_one_delta():
    """The input comes back word by word, each with the space after it, as one step."""
    desk = make_desk("hello  big\nworld", metadata={"demo": AT_ONCE})
    await perform(DemoAgent(), desk)
    assert deltas(desk) == ["hello  ", "big\n", "world"]
    assert desk.did[0] == ("step.started", "demo")
    assert desk.did[-1] == ("step.finished", "demo")


@examples
@given(st.text(max_size=30), st.integers(0, 3))
async def test_the_answer_is_the_input_so_many_times(text, repeat):
    """Nothing is lost or added, whatever the input and however often it is repeated."""
    desk = make_desk(text, metadata={"demo": {**AT_ONCE, "repeat": repeat}})
    await perform(DemoAgent(), desk)
    assert desk.text == text * repeat


async def test_words_are_delayed(autojump_clock):
    """Between words, and between repetitions, is the delay; before the first there is none."""
    desk = make_desk("a b c", metadata={"demo": {"delay_ms": 1000, "repeat": 2}})
    began = trio.current_time()
    await perform(DemoAgent(), desk)
    assert trio.current_time() - began == pytest.approx(5.0)
    began = trio.current_time()
    await perform(DemoAgent(), make_desk("a b"))
    assert trio.current_time() - began == pytest.approx(0.030)


@pytest.mark.parametrize("message", ["no luck", ""])
async def test_it_fails_after_the_last_word(message):
    """``fail`` is the error's message, said after everything else, and after the step."""
    desk = make_desk("a b", metadata={"demo": {**AT_ONCE, "fail": message}})
    seen = await perform(DemoAgent(), desk)
    assert isinstance(seen.raised, AgentFailed)
    assert seen.raised.error["code"] == "exception"
    assert seen.raised.error["message"] == message
    assert desk.text == "a b"
    assert desk.did[-1] == ("step.finished", "demo")


async def test_it_can_be_cancelled_in_its_delay():
    """A cancel ends it at once, with what was said so far."""
    desk, scope = make_desk("a b", metadata={"demo": {"delay_ms": 3_600_000}}), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(perform, DemoAgent(), desk, scope)
        with trio.fail_after(10):
            await desk.wait_text("a ")
        scope.cancel()
    assert desk.text == "a "


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"delay": 3}, "$.metadata.demo.delay"),
        ({"delay_ms": "3"}, "$.metadata.demo.delay_ms"),
        ({"delay_ms": -1}, "$.metadata.demo.delay_ms"),
        ({"delay_ms": 1e300}, "$.metadata.demo.delay_ms"),
        ({"repeat": 1.5}, "$.metadata.demo.repeat"),
        ({"repeat": True}, "$.metadata.demo.repeat"),
        ({"repeat": -1}, "$.metadata.demo.repeat"),
        ({"repeat": 10**30}, "$.metadata.demo.repeat"),
        ({"fail": 3}, "$.metadata.demo.fail"),
        ({"a: b": 3}, "$.metadata.demo.a: b"),
        ([], "$.metadata.demo"),
        (None, "$.metadata.demo"),
        ("x", "$.metadata.demo"),
    ],
)
def test_a_wrong_option_is_refused_with_its_path(options, path):
    """An unknown or ill-typed option is refused before the run is stored, and the refusal says which and why."""
    with pytest.raises(AssignmentRefused) as refused:
        DemoAgent().check_assignment(Assignment("run", "default", "chat", 1, "", {"demo": options}))
    assert refused.value.path == path
    assert str(refused.value).startswith(f"cannot accept {path}: ")
    assert len(str(refused.value)) > len(f"cannot accept {path}: ")


@examples
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.sampled_from(["delay_ms", "repeat", "fail", "other"]), v),
    )
)
def test_any_metadata_is_accepted_or_refused(options):
    """Whatever JSON a caller sends there, the answer is yes or a refusal with a path."""
    try:
        DemoAgent().check_assignment(Assignment("run", "default", "chat", 1, "", {"demo": options}))
    except AssignmentRefused as refused:
        path = refused.path
    else:
        path = "$.metadata.demo"
    assert path.startswith("$.metadata.demo")


def test_other_metadata_is_none_of_its_business():
    """What the metadata says beside ``demo`` is the caller's own."""
    DemoAgent().check_assignment(Assignment("run", "default", "chat", 1, "", {"else": object()}))
