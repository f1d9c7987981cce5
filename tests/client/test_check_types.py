"""Type checkers understand the client: the sample is checked as an application's code would be."""

import os
import subprocess
import sys
from pathlib import Path

import outlive

SAMPLE = Path(__file__).with_name("typing_sample.py")


def test_the_sample_is_clean_under_strict_mypy(tmp_path):
    """With the types that are installed and no configuration of ours, the sample has exactly its expected errors."""
    cache = Path(__file__).parents[2] / ".mypy_cache"
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        f"--cache-dir={cache}",
        str(SAMPLE),
    ]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout


def test_the_package_says_that_it_is_typed():
    """The marker that makes type checkers read the annotations is in the package."""
    assert (Path(outlive.__file__).parent / "py.typed").is_file()


def test_the_client_is_light():
    """Using the client, async or not, loads nothing of the daemon, of Trio or of Postgres."""
    heavy = ("outlived", "trio", "psycopg", "structlog", "outlive.cli")
    script = (
        f"import sys, outlive, outlive.sync; outlive.connect; print([n for n in {heavy} if n in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, encoding="utf-8", check=True
    )
    assert ran.stdout == "[]\n"
