"""Real coding agents for tests: the npm programs in ``build/npm``, homes of their own, the model server of the tests.

    npm install --prefix build/npm @openai/codex opencode-ai

Elsewhere tests that need them skip, with that line; ``.ci/run`` installs them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests.support.models import ModelServer

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "build/npm/node_modules/.bin"
EXAMPLES = ROOT / "build/acp/examples"
INSTALL = "npm install --prefix build/npm @openai/codex opencode-ai"


def need_program(name: str) -> str:
    """The path of a coding agent; skips where it is not installed."""
    found = shutil.which(name, path=str(PROGRAMS))
    if found is None:
        pytest.skip(f"there is no {name} here: {INSTALL}")
    return found


@attrs.frozen
class Home:
    """A person's home, in which coding agents are set up for the model server. ``work``: where they work."""

    path: Path
    server: ModelServer

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def environment(self) -> dict[str, str]:
        """What agents need to find their configuration, and nothing of the one who runs the tests."""
        return {
            "HOME": str(self.path),
            "CODEX_HOME": str(self.path / ".codex"),
            "OPENAI_API_KEY": "x",
            "XDG_CONFIG_HOME": str(self.path / ".config"),
            "XDG_DATA_HOME": str(self.path / ".data"),
            "XDG_CACHE_HOME": str(self.path / ".cache"),
            "XDG_STATE_HOME": str(self.path / ".state"),
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        }


CODEX = """
model = "mock"
model_provider = "mock"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.mock]
name = "mock"
base_url = "{base_url}"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


def furnish(path: Path, server: ModelServer) -> Home:
    """Set the agents up in a directory."""
    home = Home(path, server)
    home.work.mkdir(parents=True, exist_ok=True)
    (path / ".codex").mkdir()
    (path / ".codex/config.toml").write_text(CODEX.format(base_url=server.base_url))
    model = {"name": "mock", "cost": {"input": 1.5, "output": 2}}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "mock",
        "options": {"baseURL": server.base_url, "apiKey": "x"},
        "models": {"mock": model},
    }
    settings = {
        "provider": {"mock": provider}, "model": "mock/mock", "autoupdate": False, "share": "disabled",
        "permission": {"bash": "ask"},
    }  # fmt: skip
    # Not in ~/.config/opencode: whatever has a directory there gets packages from a registry first.
    (home.work / "opencode.json").write_text(json.dumps(settings))
    return home


@contextmanager
def open_home(path: Path) -> Iterator[Home]:
    """A home and its model server."""
    with ModelServer() as server:
        yield furnish(path, server)
