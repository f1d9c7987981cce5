"""docs/lifecycle.md says what the table says."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from outlived.rules.lifecycle import TRANSITIONS

DOCS = Path(__file__).parents[2] / "docs"


def generate(docs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a folder."""
    command = [sys.executable, str(docs / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the script and the page."""
    for name in ("generate.py", "lifecycle.md"):
        shutil.copy(DOCS / name, tmp_path / name)
    return tmp_path


def test_the_page_is_current():
    """The page in the repository is the one that the script would write."""
    done = generate(DOCS, "--check")
    assert done.returncode == 0, done.stderr


def test_every_transition_is_on_the_page():
    """Each fact, and each change of status, can be read on the page."""
    page = (DOCS / "lifecycle.md").read_text("utf-8")
    for (status, fact), after in TRANSITIONS.items():
        assert f"| `{fact}` |" in page
        for target in after:
            if target != status:
                assert f"    {status or '[*]'} --> {target}: {fact}\n" in page


def test_a_stale_page_is_noticed_and_written(copy: Path):
    """A change in a generated block fails the check in one line, and writing restores the page byte for byte."""
    page = copy / "lifecycle.md"
    current = page.read_bytes()
    page.write_bytes(current.replace(b"| `run.promoted` |", b"| `run.demoted` |"))
    checked = generate(copy, "--check")
    assert (checked.returncode, checked.stderr.count("\n")) == (1, 1)
    assert "lifecycle.md" in checked.stderr
    assert generate(copy).returncode == 0
    assert page.read_bytes() == current
    assert generate(copy, "--check").returncode == 0


def test_prose_is_left_alone(copy: Path):
    """What is written by hand stays as it is."""
    page = copy / "lifecycle.md"
    edited = page.read_bytes().replace(b"# The life of a run", b"# Another title")
    page.write_bytes(edited)
    assert generate(copy).returncode == 0
    assert page.read_bytes() == edited
