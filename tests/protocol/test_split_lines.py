"""Bytes become lines, however they are cut."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlive.framing import OVERLONG, Line, LineSplitter

LIMIT = 8

bytes_with_lines = st.lists(
    st.one_of(st.binary(max_size=12), st.sampled_from([b"\n", b"\n", b"\r", b" ", b"x" * 9])), max_size=30
).map(b"".join)


def expected(data: bytes) -> list[Line]:
    """The rules again, in one line each, for the whole stream at once."""
    *ended, rest = data.split(b"\n")
    lines: list[Line] = [OVERLONG if len(line) > LIMIT else line for line in ended]
    lines += [OVERLONG] if len(rest) > LIMIT else []
    return [line for line in lines if line is OVERLONG or line.strip()]


@given(bytes_with_lines, st.lists(st.integers(0, 400), max_size=20))
def test_any_cutting_gives_the_same_lines(data, cuts):
    """However a stream is cut into pieces, its lines are the same."""
    splitter = LineSplitter(LIMIT)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    lines = []
    for start, stop in pairwise(edges):
        lines += splitter.feed(data[start:stop])
    assert lines == expected(data)


@given(bytes_with_lines)
def test_single_bytes_give_the_same_lines(data):
    """A stream that comes one byte at a time gives the lines of the whole."""
    splitter = LineSplitter(LIMIT)
    lines = [line for byte in data for line in splitter.feed(bytes([byte]))]
    assert lines == expected(data)


def test_overlong_line_is_reported_once_and_early():
    """A line that passes the limit is reported at that byte, once, and what follows its newline is read."""
    splitter = LineSplitter(LIMIT)
    assert splitter.feed(b"x" * LIMIT) == []
    assert splitter.feed(b"x") == [OVERLONG]
    assert splitter.feed(b"x" * 100) == []
    assert splitter.feed(b"x\nnext\n") == [b"next"]


def test_line_of_exactly_the_limit_passes():
    """The limit itself is allowed, with its newline not counted."""
    assert LineSplitter(LIMIT).feed(b"x" * LIMIT + b"\n") == [b"x" * LIMIT]


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \t\n", b"\n\n\n"])
def test_blank_lines_do_not_exist(blank):
    """Lines of white space alone are left out, and disturb nothing."""
    assert LineSplitter(LIMIT).feed(b"a\n" + blank + b"b\n") == [b"a", b"b"]


def test_unterminated_rest_is_dropped():
    """What has no newline when the stream ends is no line; its size is told."""
    splitter = LineSplitter(LIMIT)
    assert splitter.feed(b"whole\npart") == [b"whole"]
    assert splitter.finish() == len(b"part")
    assert splitter.feed(b"new\n") == [b"new"]


@pytest.mark.timeout(20)
def test_single_bytes_of_a_long_line_take_linear_time():
    """A line of 400,000 bytes, byte by byte, is done long before quadratic work would be."""
    splitter = LineSplitter(1 << 20)
    for _ in range(400_000):
        assert splitter.feed(b"x") == []
    (line,) = splitter.feed(b"\n")
    assert len(line) == 400_000


def test_memory_stays_below_the_limit():
    """Fifty megabytes without a newline are held by a splitter of 100,000 bytes in less than a megabyte."""
    splitter = LineSplitter(100_000)
    chunk = b"x" * 65_536
    tracemalloc.start()
    for _ in range(800):
        splitter.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
