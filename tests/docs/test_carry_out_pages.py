"""Every page of the documentation does what it says: it is typed into a real terminal, and what is seen is compared."""

import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROLES, ROOT, read_blocks
from tests.docs.play import Stage
from tests.support.coding import furnish
from tests.support.daemon import Daemon
from tests.support.models import ModelServer

NEEDS = {"socket.md": "socat", "fastapi.md": "curl"}
OF_THEIR_OWN = {"README.md", "tutorial.md", "agents.md", "resume.md", "survive.md"}
BESIDE_A_DAEMON = [page for page in PAGES if page.name not in OF_THEIR_OWN]


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md", "docs/how-to/survive.md"])
def test_a_page_for_beginners_needs_nothing(name: str, stage: Stage):
    """The README, the tutorial and the page about killing daemons work for somebody who has a shell and no daemon."""
    stage.play(ROOT / name)


def test_every_kind_of_agent_works_from_nothing(stage: Stage):
    """The page about agents makes one of each kind, in an empty directory, and has a turn with it."""
    pytest.importorskip("pydantic_ai", reason="there is no pydantic-ai here")
    with ModelServer() as server:
        home = furnish(stage.directory.parent, server)
        for name in ("PATH", "OPENAI_API_KEY"):
            stage.environment[name] = home.environment[name]
        stage.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{stage.environment['PATH']}"
        stage.replace = {"http://127.0.0.1:11434/v1": server.base_url}
        stage.play(ROOT / "docs/agents.md")
    if stage.missing:
        pytest.skip(f"all was carried out but what needs {', '.join(sorted(stage.missing))}")


def test_a_page_brings_its_own_daemons(stage: Stage, database: str):
    """The how-to about surviving a daemon works for somebody who has a Postgres; one of its daemons is killed."""
    stage.environment["OUTLIVED_DATABASE"] = database
    stage.columns = 200
    stage.play(ROOT / "docs/how-to/resume.md")


@pytest.mark.parametrize("page", BESIDE_A_DAEMON, ids=lambda page: page.name)
def test_a_page_is_carried_out(page: Path, stage: Stage, place_daemon: Callable[[], Daemon], database: str):
    """Every command of a how-to, beside a running daemon, shows what the page shows."""
    if shutil.which(NEEDS.get(page.name, "sh")) is None:
        pytest.skip(f"there is no {NEEDS[page.name]} here")
    place_daemon()
    stage.columns = 4000 if page.name == "socket.md" else stage.columns
    stage.replace = {"8000": str(find_port()), "host=db.example dbname=agents": database}
    stage.play(page)
    if stage.missing:
        pytest.skip(f"all was carried out but what needs {', '.join(sorted(stage.missing))}")


def find_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_role(page: Path):
    """No fenced block of a page is left out of the tests by having a language they do not know, or no comparison."""
    before = ""
    for block in read_blocks(page):
        known = (block.title or block.addition) is not None or block.language in ROLES | {"note"}
        assert known, f"{block.where}: cannot tell what this block is for"
        assert block.language != "output" or before == "sh", f"{block.where}: what is this the output of?"
        if elsewhere := block.notes.get("elsewhere"):
            assert block.text in (ROOT / elsewhere).read_text("utf-8"), f"{block.where}: not in {elsewhere}"
        before = block.language
