"""What may come in as JSON, and what may not."""

from __future__ import annotations

import json
import sys

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlive.errors import ParseError
from outlive.strict_json import decode, encode
from outlive.wire import MAX_NESTING

REFUSED = {
    "empty": b"",
    "a word": b"hello",
    "cut short": b'{"a": 1',
    "two values": b"{} {}",
    "trailing comma": b"[1,]",
    "single quotes": b"{'a': 1}",
    "comment": b"{} // no",
    "byte that is not UTF-8": b'{"a": "\xff"}',
    "overlong UTF-8": b'{"a": "\xc0\x80"}',
    "not UTF-8 in a key": b'{"\xff": 1}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "minus Infinity": b'{"a": -Infinity}',
    "infinite by size": b'{"a": 1e400}',
    "minus infinite by size": b'{"a": -1e400}',
    "integer of 5,000 digits": b"9" * 5000,
    "high surrogate": b'{"a": "\\ud800"}',
    "low surrogate": b'{"a": "\\udc00"}',
    "surrogates in the wrong order": b'{"a": "\\udc00\\ud800"}',
    "high surrogate and a letter": b'{"a": "\\ud800x"}',
    "surrogate in a key": b'{"\\ud800": 1}',
    "surrogate as UTF-8": b'{"a": "\xed\xa0\x80"}',
    "raw NUL": b'{"a": "\x00"}',
    "raw NUL outside": b"{}\x00",
    "escaped NUL": b'{"a": "\\u0000"}',
    "escaped NUL in a key": b'{"\\u0000": 1}',
    "escaped NUL after a backslash": b'{"a": "\\\\\\u0000"}',
    "escaped NUL that a repeated key hides": b'{"a": "\\u0000", "a": 1}',
    "raw control character": b'{"a": "\x01"}',
    "one level too deep": b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1),
    "too deep with both kinds": b'{"a":[' * 33 + b"]}" * 33,
    "too deep beside strings": b'["]]]]",' * (MAX_NESTING + 1) + b"1" + b"]" * (MAX_NESTING + 1),
    "too deep where a repeated key hides it": b'{"a":' + b"[" * 64 + b"]" * 64 + b',"a":1}',
    "very deep": b"[" * 100_000 + b"]" * 100_000,
    "very deep and never closed": b"[" * 100_000,
    "very deep objects": b'{"a":' * 100_000,
}

ACCEPTED = {
    "exactly deep enough": b"[" * MAX_NESTING + b"]" * MAX_NESTING,
    "wide, not deep": b"[" + b"[]," * 1000 + b"{}]",
    "brackets in a text": json.dumps({"a": "[{" * 100 + '"\\'}).encode(),
    "a backslash before u0000": b'{"a": "\\\\u0000"}',
    "a pair of surrogates": b'{"a": "\\ud83d\\ude00"}',
    "delete and line separators": '{"a": "\x7f\u2028"}'.encode(),
    "the largest float": b"1.7976931348623157e308",
    "an integer of 40 digits": b"1" * 40,
    "white space around": b' \t{"a" : 1 }\r',
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_faulty_line_is_refused(line):
    """Each kind of line in the contract's parse_error row raises ParseError, and nothing else."""
    with pytest.raises(ParseError, match=r"^cannot "):
        decode(line)


@pytest.mark.parametrize("line", ACCEPTED.values(), ids=ACCEPTED)
def test_unusual_line_is_read(line):
    """What only looks forbidden is read as the standard library reads it."""
    assert decode(line) == json.loads(line)


def test_recursion_near_the_stack_limit_is_refused_not_raised():
    """A reader that is deep in its own stack still gets ParseError for a deep line."""

    def at_the_bottom(depth):
        if depth:
            return at_the_bottom(depth - 1)
        with pytest.raises(ParseError):
            decode(REFUSED["very deep"])
        return None

    at_the_bottom(min(400, sys.getrecursionlimit() // 2))


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
)


@given(values)
def test_what_is_encoded_is_read_back(value):
    """Encoding gives one line, and reading it gives the same value."""
    line = encode(value)
    assert b"\n" not in line
    assert decode(line) == value


@given(st.binary(max_size=200) | st.text('[]{}",:\\u0d8e1-.truefalsn ').map(str.encode))
def test_any_bytes_are_read_or_refused(line):
    """No bytes whatever raise anything but ParseError, and what is read can be sent on."""
    try:
        value = decode(line)
    except ParseError:
        return
    assert decode(encode(value)) == value


@given(values, st.integers(0, 80))
def test_depth_is_counted_as_the_value_has_it(value, wraps):
    """A value is refused exactly if it nests deeper than the limit, whatever its texts hold."""
    for _ in range(wraps):
        value = [value]
    if depth(value) > MAX_NESTING:
        with pytest.raises(ParseError, match="nests deeper"):
            decode(encode(value))
    else:
        assert decode(encode(value)) == value


def depth(value):
    """How deep a value nests; a container by itself is 1."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def test_attrs_classes_and_raw_json_are_encoded():
    """An attrs class becomes an object, and raw JSON is passed through as it is."""

    @attrs.frozen
    class Pair:
        left: int
        right: msgspec.Raw

    assert json.loads(encode(Pair(1, msgspec.Raw(b'{"x":[1]}')))) == {"left": 1, "right": {"x": [1]}}
