"""The status line and the text above it: what a terminal shows is what it would show without a status line."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlive.cli import status
from outlive.cli.cursor import Cursor
from outlive.cli.layout import plain
from outlive.cli.status import Status
from tests.support.terminal import Screen

COLUMNS = 24
words = st.text("abc de", min_size=1, max_size=30)
wide = st.text("你好ab é—😀🇩🇪👍🏽", min_size=1, max_size=12)
colours = st.sampled_from([["\x1b[31m"], ["\x1b[", "0m"], ["\x1b", "[1;4mbold"], ["a\x1b[38;5", ";9mred"]])
moves = st.sampled_from(["\r", "\t", "\b", "\x1b[A", "\x1b[2K", "\x1b7", "\x1b8", "\x1b[3;1H", "\x07"])
texts = st.one_of(words, words.map("{}\n".format), wide, wide.map("{}\n".format), st.just("\n"))
scripts = st.lists(st.one_of(texts.map(lambda text: [text]), colours), max_size=30).map(
    lambda parts: [text for part in parts for text in part]
)


class Watched:
    """A screen with a status line, and beside it the same without one."""

    def __init__(self, rows):
        self.here, self.without = Screen(COLUMNS, rows), Screen(COLUMNS, rows)
        self.seconds = 0
        self.line = Status(lambda: COLUMNS, Cursor(), plain)
        self.line.words = lambda: f"0:0{self.seconds % 10}"

    def write(self, text):
        self.without.write(text.replace("\n", "\r\n"))
        self.here.write(self.line.around(text).replace("\n", "\r\n"))

    def tick(self):
        self.seconds += 1
        self.here.write(self.line.tick())

    def end(self):
        self.line.words = None
        self.here.write(self.line.tick())


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Paint after every text, however soon it follows another."""
    monkeypatch.setattr(status, "_LEAST_SECONDS", 0.0)


@given(scripts, st.booleans())
@example(["a" * COLUMNS, "b"], False)
@example(["a" * (COLUMNS - 1), "b", "c"], False)
@example(["你" * 11, "好", "x"], False)
def test_nothing_is_left_of_it(script, quiet):
    """Whatever is written and whenever time passes: once it has gone, screen and cursor are as without it."""
    watched = Watched(rows=100)
    for text in script:
        watched.write(text)
        if not quiet:
            watched.tick()
    watched.end()
    assert watched.here.rows() == watched.without.rows()
    assert watched.here.cursor() == watched.without.cursor()


@given(st.lists(st.one_of(texts, moves), max_size=20))
def test_nothing_is_painted_into_a_picture(script):
    """Once text has moved the cursor by itself, nothing is painted any more, and nothing is erased."""
    watched = Watched(rows=100)
    watched.write("\x1b[5;5H")
    watched.tick()
    for text in script:
        watched.write(text)
        watched.tick()
    watched.end()
    assert watched.here.raw == watched.without.raw


@given(st.lists(st.one_of(words, words.map("{}\n".format)), min_size=1, max_size=30))
def test_it_scrolls_with_the_text(script):
    """At the bottom of a small screen the last lines are the text's last lines."""
    watched = Watched(rows=5)
    for text in script:
        watched.write(text)
        watched.tick()
    watched.end()
    shown = watched.here.rows()
    assert shown == watched.without.rows()[-len(shown) :] or not shown
    assert len(shown) >= len(watched.without.rows()) - 1


@pytest.mark.parametrize(
    "text", ["", "a line\n", "an open line", "x" * 30, "中文没有结束", "\u201copen\u201d", "\x1b[31mred"]
)
def test_it_is_there_and_goes_on(text):
    """Below text at whose end the cursor's place is certain, time is seen passing."""
    watched = Watched(rows=10)
    watched.write(text)
    for seconds in (1, 2):
        watched.tick()
        assert watched.here.rows()[-1] == f" 0:0{seconds}"
        assert watched.here.cursor() == watched.without.cursor()


def test_words_are_one_line_that_fits():
    """Whatever the words are, they take one row."""
    watched = Watched(rows=10)
    watched.line.words = lambda: "calls 你好\n" * 9
    watched.tick()
    (row,) = watched.here.rows()
    assert row.endswith("…")
