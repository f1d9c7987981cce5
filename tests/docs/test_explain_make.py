"""The Makefile explains itself."""

import shutil
import subprocess

import pytest

from tests.docs.pages import ROOT

VERBS = ["setup", "test", "check", "bench", "docs", "run"]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_alone_lists_its_six_verbs():
    """A bare ``make`` says what each of the six verbs does, and does nothing."""
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=2) for line in said.splitlines()]
    assert [line[:2] for line in lines] == [["make", verb] for verb in VERBS]
    assert all(len(line) == 3 for line in lines)
