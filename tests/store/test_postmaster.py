"""Telling a postmaster from a stranger."""

# ruff: noqa: ASYNC220  # A test may start a process of its own.

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlived.store import postmaster
from outlived.store.postmaster import PidFile, Postmaster, is_postmaster
from tests.support.embedded import wait_until

lines = st.lists(st.one_of(st.text(max_size=8), st.integers(-9, 9).map(str)), max_size=10)


@given(st.one_of(st.binary(max_size=40), lines.map(lambda each: "\n".join(each).encode("utf-8", "replace"))))
def test_any_pid_file_is_read_and_names_nobody(content):
    """Whatever is in the file, reading it raises nothing, and none of these processes is taken for a postmaster."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "postmaster.pid").write_bytes(content)
        written = PidFile.read(Path(directory))
        assert written is None or written.pid >= 0
        assert Postmaster.find(Path(directory)) is None


def test_a_pid_file_grows_line_by_line(tmp_path):
    """A server that is coming up has written only the first lines."""
    path = tmp_path / "postmaster.pid"
    assert PidFile.read(tmp_path) is None
    path.write_text("12\n/data\n1700000000\n5432\n")
    assert PidFile.read(tmp_path) == PidFile(12, None, "")
    path.write_text("12\n/data\n1700000000\n5432\n/socket\n\n  123 456\nready   \n")
    assert PidFile.read(tmp_path) == PidFile(12, "/socket", "ready")


@pytest.mark.parametrize(
    ("command", "is_one"),
    [
        (["postgres", "-D", "DATA"], True),
        (["/usr/lib/postgresql/15/bin/postgres", "-D", "DATA", "-c", "x=y"], True),
        (["postgres", "-D", "/elsewhere"], False),
        (["postgres: outlive: checkpointer "], False),
        (["tail", "-f", "DATA"], False),
    ],
)
async def test_a_command_line_tells_a_postmaster(tmp_path, command, is_one):
    """The program's name and the data directory make a postmaster; a child of one, or an onlooker, is none."""
    name, *arguments = [str(tmp_path) if word == "DATA" else word for word in command]
    # A shell that waits for its stdin, under another name and with arguments that mean nothing to it.
    with subprocess.Popen(
        [name, "-s", "--", *arguments], executable="/bin/sh", stdin=subprocess.PIPE
    ) as process:
        await wait_until(lambda: postmaster._command_line(process.pid)[0] == name)  # empty in mid-exec
        assert is_postmaster(process.pid, tmp_path) == is_one
        process.kill()


async def test_a_server_started_by_hand_in_its_folder_is_told(tmp_path):
    """A relative path on the command line says nothing, the current folder does."""
    command = ["postgres", "-s", "--", "-D", "."]
    with subprocess.Popen(command, executable="/bin/sh", stdin=subprocess.PIPE, cwd=tmp_path) as process:
        await wait_until(lambda: postmaster._command_line(process.pid)[0] == "postgres")  # empty in mid-exec
        assert is_postmaster(process.pid, tmp_path)
        assert not is_postmaster(process.pid, tmp_path.parent)
        process.kill()


def test_ps_stands_in_for_proc():
    """Where there is no /proc, ps(1) tells a process and its start time."""
    mine = postmaster._ask_ps(os.getpid(), "lstart")
    assert mine == postmaster._ask_ps(os.getpid(), "lstart") != ""
    assert "python" in postmaster._ask_ps(os.getpid(), "command")
    with subprocess.Popen(["true"]) as gone:
        pass
    assert not postmaster._ask_ps(gone.pid, "lstart")
