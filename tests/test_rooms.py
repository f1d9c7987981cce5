"""The rooms: imports only point down, the rules are pure, one room speaks SQL."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
ROOMS = ("rules", "store", "journal", "agents", "supervisor", "chores", "server")


def test_every_contract_is_kept(tmp_path):
    """The linter finds no import that points up, or around a corner."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--cache-dir", str(tmp_path)],
        cwd=PROJECT,
        env={"PATH": "", "PYTHONPATH": f"{PROJECT / 'daemon'}:{PROJECT / 'protocol'}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_room_is_in_the_contract():
    """A new room cannot be forgotten: the layers name every package of the daemon."""
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    named = {name.strip() for layer in layers for name in layer.split("|")}
    packages = {
        f"outlived.{path.parent.name}" for path in (PROJECT / "daemon/outlived").glob("*/__init__.py")
    }
    assert packages == {f"outlived.{room}" for room in ROOMS}
    assert packages <= named


@pytest.mark.parametrize("package", ["daemon/outlived", "protocol/outlive"])
def test_every_module_says_what_it_is_for(package):
    """Each module opens with a docstring; each package's names no room above it by accident."""
    silent = [
        str(path.relative_to(PROJECT))
        for path in (PROJECT / package).rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []
