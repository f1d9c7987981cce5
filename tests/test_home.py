"""The state directory: one daemon's, locked while it lives, known by an id that stays."""

import os
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from outlived.home import HomeRefused, open_home

HOLD = """
import sys
from pathlib import Path
from outlived.home import open_home
with open_home(Path(sys.argv[1])) as home_id:
    print(home_id, flush=True)
    sys.stdin.read()
"""


def hold(path, **options):
    """Another process that lives in the directory until its stdin ends."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def test_a_home_is_made_private_and_keeps_its_id(tmp_path):
    """A new directory is ours alone; its id is made once, and is the same after every restart."""
    path = tmp_path / "a" / "b"
    with open_home(path) as first:
        assert uuid.UUID(first)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert all(stat.S_IMODE(entry.stat().st_mode) & 0o077 == 0 for entry in [path / "lock"])
    with open_home(path) as second:
        assert second == first
    with open_home(tmp_path / "other") as other:
        assert other != first


def test_a_home_has_one_daemon(tmp_path):
    """While one lives there another is refused, and told who it is; afterwards it may come."""
    with (
        open_home(tmp_path),
        pytest.raises(HomeRefused, match=rf"another daemon \(pid {os.getpid()}\) has it"),
        open_home(tmp_path),
    ):
        pass
    with open_home(tmp_path):
        pass


def test_the_lock_ends_with_its_process_however_that_ends(tmp_path):
    """A daemon that is killed leaves no lock behind, and its id to the next one."""
    with hold(tmp_path) as process:
        home_id = process.stdout.readline().strip()
        with pytest.raises(HomeRefused, match=rf"pid {process.pid}\)"), open_home(tmp_path):
            pass
        process.kill()
        process.wait(10)
        with open_home(tmp_path) as mine:
            assert mine == home_id
            assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_child_does_not_keep_the_lock(tmp_path):
    """A program that a daemon started, and that outlives it, does not live in its home."""
    with open_home(tmp_path):
        child = subprocess.Popen(["sleep", "1000"], close_fds=False)
    try:
        with open_home(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_lock_file_with_rubbish_in_it_is_no_obstacle(tmp_path):
    """What an earlier daemon wrote into the lock file does not matter."""
    (tmp_path / "lock").write_bytes(b"\xff" * 100)
    with open_home(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("text", [b"", b"no id", b"\xff", b"123"])
def test_an_id_that_is_none_is_refused(tmp_path, text):
    """A damaged id is not replaced by another one - runs would lose their home - but refused by name."""
    (tmp_path / "home_id").write_bytes(text)
    with pytest.raises(HomeRefused, match=r"cannot read .*home_id"), open_home(tmp_path):
        pass
    assert (tmp_path / "home_id").read_bytes() == text


def test_a_half_made_id_is_made_again(tmp_path):
    """A daemon that died while it made its id left something aside that the next one ignores."""
    (tmp_path / "home_id.new").write_text("half")
    with open_home(tmp_path) as home_id:
        assert uuid.UUID(home_id)


@pytest.mark.parametrize(
    "spoil", ["file", "below a file", "lock is a directory", "id is a directory", "aside"]
)
def test_a_directory_that_cannot_be_used_is_refused(tmp_path, spoil):
    """Whatever is in the way is one clear refusal that names the directory."""
    path = tmp_path / "home"
    if spoil == "file":
        path.write_text("")
    elif spoil == "below a file":
        path.write_text("")
        path /= "home"
    else:
        name = {"lock is a directory": "lock", "id is a directory": "home_id", "aside": "home_id.new"}[spoil]
        (path / name).mkdir(parents=True)
    with pytest.raises(HomeRefused, match=str(path)), open_home(path):
        pass


def test_a_place_where_nothing_can_be_made_is_refused():
    """Where not even root may make a directory there is no home, and the refusal says where and why."""
    message = r"cannot use state directory /proc/outlived: .+"
    with pytest.raises(HomeRefused, match=message), open_home(Path("/proc/outlived")):
        pass
