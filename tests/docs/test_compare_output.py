"""What a page shows is compared with what is seen: exactly, but for what differs each time."""

import pytest

from tests.docs.pages import ROOT, Block, Command, match, read_commands


@pytest.mark.parametrize(
    ("shown", "seen"),
    [
        ("tick 1\ntick 2", "tick 1\ntick 2"),
        ("run d210be49 was stopped", "run 0badcafe was stopped"),
        ("01a2074f-e3b2-7000-8d0c-a430d210be49 stopped", "01a2076a-4c07-7000-a66b-0a536daca0cd stopped"),
        ("created  2 s ago", "created  12 min ago"),
        ('{"id":"x",…,"status":"pending"}', '{"id":"x","position":1,"status":"pending"}'),
        ("first\n…\nlast", "first\nsecond\nthird\nlast"),
        ("first\n…\nlast", "first\nlast"),
        ("tick 1", "outlive: starting the daemon (its first start creates its database) …\ntick 1\n\n"),
    ],
)
def test_what_differs_each_time_matches(shown: str, seen: str):
    """Ids, times, ages, and what ``…`` stands for may be anything."""
    assert match(shown.split("\n"), seen.split("\n"))


@pytest.mark.parametrize(
    ("shown", "seen"),
    [
        ("tick 1", "tick 1\ntick 2"),
        ("tick 1\ntick 2", "tick 1"),
        ("run d210be49 was stopped", "run d210be49 succeeded"),
        ("a … c", "a b d"),
        ("a … c", "a\nc"),
        ("first\n…\nlast", "first\nlast\nmore"),
        ("(a.c)", "(abc)"),
    ],
)
def test_anything_else_does_not_match(shown: str, seen: str):
    """A line too many, a line too few and a different word are noticed."""
    assert not match(shown.split("\n"), seen.split("\n"))


def test_a_console_block_is_commands_and_what_is_seen():
    """A block may continue a command, hold several, and have some of several lines."""
    text = "on\n$ one\n$ two <<E\n> in\n> E\nout\n\nmore\n"
    block = Block(ROOT / "README.md", 7, "console", {}, {}, text)
    assert [(command.typed, command.seen) for command in read_commands(block)] == [
        (None, ["on"]),
        ("one", []),
        ("two <<E\nin\nE", ["out", "", "more"]),
    ]
    assert all(isinstance(command, Command) for command in read_commands(block))
