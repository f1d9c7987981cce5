"""What a step returns: kept as JSON, given back as that JSON reads, refused where JSON has no such value."""

import enum
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.rules.result import MAX_DEPTH, MAX_RESULT_BYTES, read_result, write_result

examples = settings(derandomize=True, deadline=None)
any_text = st.text(
    st.characters(exclude_categories=[]) | st.sampled_from('\0\ud800\udfff"\\\n\x01é\U0001f600')
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner) | st.tuples(inner, inner),
    max_leaves=20,
)


def plain(value: Any) -> Any:
    """The value with its tuples as lists."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return {name: plain(item) for name, item in value.items()} if isinstance(value, dict) else value


@examples
@given(any_json)
def test_json_comes_back_as_it_was(value: Any):
    """Every JSON value, whatever characters its strings have, is read as it was given; a tuple is read as a list."""
    text = write_result(value)
    text.encode()
    assert "\0" not in text
    assert repr(read_result(text)) == repr(plain(value))
    assert write_result(read_result(text)) == text


class Level(enum.IntEnum):
    """A number with a name."""

    HIGH = 3


def test_numbers_and_strings_of_other_classes_are_plain_ones():
    """What is a number or a string, whatever its class, comes back as that number or string."""
    name = enum.StrEnum("Name", ["ADA"])
    assert read_result(write_result([Level.HIGH, name.ADA, True])) == [3, "ada", True]


REFUSED = {
    "an object": (object(), "no JSON value: a object"),
    "bytes": (b"x", "no JSON value: a bytes"),
    "a set": ([{"a": {1}}], r"no JSON value: a set at \[0\]\['a'\]"),
    "not a number": ({"n": math.nan}, r"no JSON value: nan at \['n'\]"),
    "infinity": (-math.inf, "no JSON value: -inf"),
    "a key that is a number": ({1: "a"}, "a key that is no string: 1"),
    "a key that is None": ([{None: "a"}], r"a key that is no string: a NoneType at \[0\]"),
}


@pytest.mark.parametrize(("value", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_json_is_refused(value: Any, why: str):
    """A value that JSON does not have, or would change, is refused by name and place."""
    with pytest.raises(TypeError, match=why):
        write_result(value)


def test_a_result_has_a_size():
    """256 KiB of JSON are kept, one byte more is not; so it is with depth."""
    assert len(write_result("x" * (MAX_RESULT_BYTES - 2))) == MAX_RESULT_BYTES
    assert len(write_result("é" * (MAX_RESULT_BYTES // 2 - 1)).encode()) == MAX_RESULT_BYTES
    for large in ("x" * (MAX_RESULT_BYTES - 1), "é" * (MAX_RESULT_BYTES // 2), ["\ud800" * 50_000]):
        with pytest.raises(ValueError, match=rf"bytes of JSON, and at most {MAX_RESULT_BYTES} are kept"):
            write_result(large)
    deep: list[Any] = []
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert read_result(write_result(deep)) == deep
    endless: list[Any] = []
    endless.append(endless)
    for nested in ([deep], endless):
        with pytest.raises(ValueError, match="deeper than"):
            write_result(nested)
