"""docs/protocol.md: its tables are those of the types."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from outlive.errors import BY_TYPE
from outlive.events import EVENTS
from outlive.methods import METHODS

SCRIPT = Path(__file__).parents[2] / "docs" / "generate_protocol.py"


@pytest.fixture
def generator():
    spec = importlib.util.spec_from_file_location("generate_protocol", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(generator, monkeypatch):
    """The page is what the generator would write now."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--check"])
    assert generator.main() == 0


def test_a_page_that_is_not_is_noticed_and_mended(generator, monkeypatch, tmp_path, capsys):
    """With --check a stale page is status 1 and stays; without, it is written."""
    page = tmp_path / "protocol.md"
    stale = generator.PAGE.read_text("utf-8").replace("`on_active`", "`on_busy`")
    page.write_text(stale, "utf-8")
    monkeypatch.setattr(generator, "PAGE", page)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--check"])
    assert generator.main() == 1
    assert "run python docs/generate_protocol.py" in capsys.readouterr().err
    assert page.read_text("utf-8") == stale
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    assert generator.main() == 0
    assert "| `on_active` |" in page.read_text("utf-8")


def test_a_page_without_its_blocks_is_refused(generator):
    """A block that somebody lost is not lost in silence."""
    with pytest.raises(ValueError, match=r"^cannot fill the page"):
        generator.fill("# The wire protocol\n")


def test_the_page_is_whole(generator):
    """Every method, error and type of event is on it, and its links within the page lead somewhere."""
    page = generator.PAGE.read_text("utf-8")
    assert [name for name in METHODS if f"### `{name}`" not in page] == []
    assert [name for name in [*BY_TYPE, *EVENTS] if f"| `{name}` |" not in page] == []
    headings = {match.lower().replace(" ", "-") for match in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= headings
