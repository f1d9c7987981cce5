"""What a stream of bytes says does not depend on how it is cut, nor on who reads which part of it."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.agents import reader as room
from outlived.agents.reader import TextReader, open_reader

examples = settings(derandomize=True, deadline=None)

pieces = st.lists(st.one_of(st.binary(max_size=8), st.text(max_size=4).map(str.encode)), max_size=12)
events = st.sampled_from([
    b'{"type": "text.delta", "text": "h\xc3\xa9"}\n',
    b'{"type": "step.started", "name": "s"}\n',
    b'{"type": "step.finished", "name": "s"}\n',
    b'{"type": "usage", "output_tokens": 3}\n',
    b'{"type": "run.settled"}\n',
    b"not JSON\n",
    b"\n",
    b'{"type": "text.delta", "text": "' + b"x" * 90 + b'"}\n',
])  # fmt: skip
lines = st.lists(st.one_of(events, st.binary(max_size=6)), max_size=12).map(b"".join)


def cut(data, places):
    """The data in pieces, cut at these places."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def read_all(reader, chunks):
    said = [each for chunk in chunks for each in reader.read(chunk)]
    return said + reader.finish()


@examples
@given(pieces)
def test_text_is_the_same_however_it_is_cut(chunks):
    """Whatever pieces the bytes arrive in, the text is that of the whole: a character is never torn."""
    said = read_all(TextReader("text.delta"), chunks)
    assert "".join(each.data["text"] for each in said) == b"".join(chunks).decode(errors="replace")


@examples
@given(pieces, st.integers(0, 100))
def test_text_goes_on_at_what_was_used(chunks, place):
    """Whoever reads on from the offset that is durable - what was given, without what was held - misses and repeats nothing."""
    data = b"".join(chunks)
    place %= len(data) + 1
    first = TextReader("log", stream="stderr")
    said = first.read(data[:place])
    said += read_all(TextReader("log", stream="stderr"), [data[place - first.held :]])
    assert "".join(each.data["text"] for each in said) == data.decode(errors="replace")
    assert all(each.data["stream"] == "stderr" for each in said)


@examples
@given(lines, st.lists(st.integers(0, 2000), max_size=8))
def test_lines_are_the_same_however_they_are_cut(data, places):
    """A format sees whole lines: the same bytes make the same events."""
    whole = read_all(open_reader("jsonl", None, first_step=1), [data])
    assert read_all(open_reader("jsonl", None, first_step=1), cut(data, places)) == whole


@examples
@given(lines, st.integers(0, 2000), st.lists(st.integers(0, 2000), max_size=4))
def test_lines_go_on_at_what_was_used(data, place, places):
    """Another reader, with the state and at the offset that are durable, goes on with the next line."""
    place %= len(data) + 1
    first = open_reader("jsonl", None, first_step=1)
    said = [each for chunk in cut(data[:place], places) for each in first.read(chunk)]
    second = open_reader("jsonl", first.state, first_step=1)
    said += read_all(second, cut(data[place - first.held :], places))
    assert said == read_all(open_reader("jsonl", None, first_step=1), [data])


@examples
@given(st.lists(st.integers(0, 400), min_size=1, max_size=6), st.lists(st.integers(0, 3000), max_size=8))
def test_a_line_that_is_too_long_is_shown_in_part(sizes, places):
    """However long a line is, what is held of it is bounded; it is said once, cut, and the next line is read as ever."""
    with patched(100, 20):
        data = b"".join(b"z" * size + b"\n" for size in sizes)
        reader = open_reader("jsonl", None, first_step=1)
        said = []
        for chunk in cut(data, places):
            said += reader.read(chunk)
            assert reader.held <= 100 + len(chunk)
        said += reader.finish()
    shown = [each.data["text"] for each in said if set(each.data.get("text", "")) >= {"z"}]
    assert len(shown) == sum(size > 0 for size in sizes)
    for text, size in zip(shown, [size for size in sizes if size], strict=True):
        assert text.count("z") == (size if size <= 100 else 20)


class patched:  # noqa: N801 - it reads like a function
    """Other bounds for a line."""

    def __init__(self, line_bytes, shown_bytes):
        self.values = (line_bytes, shown_bytes)

    def __enter__(self):
        self.before = (room.LINE_BYTES, room.SHOWN_BYTES)
        room.LINE_BYTES, room.SHOWN_BYTES = self.values

    def __exit__(self, *_):
        room.LINE_BYTES, room.SHOWN_BYTES = self.before
