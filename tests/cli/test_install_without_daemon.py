"""``pip install outlive`` without ``[daemon]``: a working command line that says what is missing to start a daemon."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

PROJECT = Path(__file__).parents[2]
BUILT = ("pyproject.toml", "README.md", "LICENSE", "protocol", "daemon")


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """``outlive`` in a virtual environment that holds the base dependencies and nothing else."""
    place = tmp_path_factory.mktemp("install")
    source = place / "source"
    source.mkdir()
    for name in BUILT:  # a copy: building leaves nothing behind in the project
        subprocess.run(["cp", "-r", PROJECT / name, source / name], check=True)
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True, timeout=60)
    pip = [place / "venv" / "bin" / "pip", "--disable-pip-version-check"]
    installed = subprocess.run(
        [*pip, "install", "--no-compile", "--retries", "0", "--timeout", "10", source],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if installed.returncode != 0:
        nobody = ("No matching distribution", "Could not find a version", "Connection", "Temporary failure")
        if any(word in installed.stderr for word in nobody):
            pytest.skip(f"pip finds no packages here: {installed.stderr.strip().splitlines()[-1]}")
        pytest.fail(installed.stderr)
    listed = subprocess.run([*pip, "list", "--format=freeze"], capture_output=True, text=True, check=True)
    names = {line.partition("==")[0].lower() for line in listed.stdout.splitlines()} - {"pip", "setuptools"}
    assert "rich" in names
    assert len(names) < 12, names
    return place / "venv" / "bin" / "outlive"


@pytest.fixture
def outlive(program, shared_daemon: Daemon, sit_at):
    """The command line of that environment, which sees nothing of this one."""
    line = sit_at(shared_daemon, OUTLIVE_NO_AUTOSTART="")
    line.argv = [str(program)]
    del line.environment["PYTHONPATH"]
    return line


@pytest.mark.slow
def test_missing_packages_are_named(outlive, tmp_path):
    """Where no daemon is, ``outlive run`` says in one line which package is missing and how to install it."""
    outlive.environment["OUTLIVE_SOCKET"] = str(tmp_path / "s")
    done = outlive.run("run", "--agent", "demo", "hello")
    assert (done.returncode, done.stdout) == (69, "")
    head, _, advice = done.stderr.partition(f"{Path(outlive.argv[0]).parent}/python")
    assert head == (
        "outlive: cannot start a daemon: trio is not installed; install the daemon's packages with: "
    )
    assert advice.endswith(" -m pip install 'outlive[daemon]'\n")


@pytest.mark.slow
def test_daemon_of_others_is_reached(outlive):
    """A daemon that is there serves it: commands, tables with wide characters, completion scripts."""
    assert outlive.run("run", "--agent", "demo", "hello").stdout == "hello"
    assert outlive.run("run", "--", "echo", "你好").stdout == "你好\n"
    assert "echo '你好'" in outlive.run("list", "--limit", "2").stdout
    script = outlive.run("completion", "zsh").stdout
    assert f"program=({outlive.argv[0]})" in script
    assert outlive.run("__complete", "words", "run", "--agent", "outs").stdout.startswith("outspoken\t")
