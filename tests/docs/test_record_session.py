"""The recording in the README is a real session, and can be made again."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.docs.pages import ROOT


def read_picture(picture: Path) -> str:
    """What is written in it."""
    return "\n".join(ET.parse(picture).getroot().itertext()).replace("\xa0", " ")


def assert_told(said: str) -> None:
    for words in (
        "outlive run -- ./agent",
        "Killed",
        "kill -9 ",
        "outlive tail @last",
        "41 passed",
        " succeeded",
    ):
        assert words in said, words
    assert said.count("running the tests: 2 of 41 fail") == 2, (
        "both clients show what was said before the kill"
    )
    assert said.count("running the tests: 41 passed") == 1, "only the second one sees the end"


def test_the_picture_tells_the_story():
    """The README shows the picture; in it the first client is killed and the second one sees everything."""
    assert "(docs/survives.svg)" in (ROOT / "README.md").read_text("utf-8")
    assert_told(read_picture(ROOT / "docs/survives.svg"))


def test_the_picture_fetches_nothing():
    """It is one file: no font, no script and no picture from elsewhere."""
    text = (ROOT / "docs/survives.svg").read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text
    assert "<script" not in text


def test_the_session_can_be_recorded_again(tmp_path: Path):
    """The script records the same story from a new session; faster, for the test's sake."""
    picture = tmp_path / "again.svg"
    subprocess.run([sys.executable, ROOT / "docs/record.py", picture, "0.3"], check=True, timeout=100)
    assert_told(read_picture(picture))
