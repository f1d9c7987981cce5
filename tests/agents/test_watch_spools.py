"""Spools: what is written into them is noticed, what is read of them is given back, what is recorded is read right."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.agents import watch as room
from outlived.agents.spool import Spool, SpoolFile, list_spools
from outlived.agents.watch import SpoolWatch
from tests.support.workshops import make_workshop

RUN = "0190a0a0-0000-7000-8000-000000000001"
MIB = 1 << 20


@pytest.fixture
def spool(tmp_path):
    spool = Spool.at(tmp_path / "spool", RUN, 2)
    spool.create(b"input")
    return spool


def refuse(*_args, **_options):
    raise OSError(24, "Too many open files")


@pytest.mark.parametrize("kernel_watches", [True, False])
async def test_what_is_written_wakes_whoever_waits(spool, monkeypatch, kernel_watches):
    """With inotify at once, without it soon; whoever does not wait is not remembered."""
    if not kernel_watches:
        monkeypatch.setattr(room, "INotify", refuse)
    watch = SpoolWatch()
    early = watch.open(spool.path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.testing.wait_all_tasks_blocked()
        for text in (b"one", b"two"):
            with trio.fail_after(5):
                async with trio.open_nursery() as waiting:
                    waiting.start_soon(early.wait)
                    await trio.testing.wait_all_tasks_blocked()
                    with (spool.path / "stdout").open("ab") as file:
                        file.write(text)
        watch.close(spool.path)
        again = watch.open(spool.path)
        with trio.fail_after(5):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(again.wait)
                await trio.testing.wait_all_tasks_blocked()
                (spool.path / "status").write_bytes(b"  0\n")
        nursery.cancel_scope.cancel()


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 255))
def test_a_status_is_read_whole_or_not(status):
    """A status counts once its line has its end; nothing before that is mistaken for one."""
    line = f"{status:3d}\n".encode()
    readings = {Spool.parse_status(line[:count] + b"   \n"[count:]) for count in range(1, 4)}
    assert Spool.parse_status(line) == status
    assert readings <= {None, *(int(line[:count]) for count in range(1, 4) if line[:count].strip())}


def test_a_spool_is_private_and_complete(spool):
    """Nobody else may look into it; its status has its room from the beginning, and says nothing."""
    assert spool.path.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in spool.path.iterdir())
    assert (spool.path / "stdin").read_bytes() == b"input"
    assert spool.read_status() is None
    assert (spool.path / "status").stat().st_size == len(b"255\n")


def test_what_is_durable_is_given_back(spool):
    """A hole takes no room on the disk; offsets stay what they are, and what follows is read as it is."""
    path = spool.path / "stdout"
    path.write_bytes(b"a" * 4 * MIB + b"end")
    file = SpoolFile(path, read_upto=4 * MIB)
    file.open()
    try:
        before = path.stat().st_blocks
        file.free(4 * MIB)
        assert path.stat().st_blocks < before / 4
        assert file.size == 4 * MIB + 3
        assert file.read() == b"end"
        assert file.read() == b""
    finally:
        file.close()


def test_spools_of_earlier_daemons_are_known(spool, tmp_path):
    """A workshop knows what lies there, by run and attempt; what is no spool is left alone."""
    (tmp_path / "spool" / "notes").mkdir()
    workshop = make_workshop(tmp_path / "spool")
    assert workshop.list_run_ids() == [RUN]
    assert workshop.find_spool(RUN, 2) == spool
    assert workshop.find_spool(RUN, 1) is None
    workshop.discard(RUN)
    assert not spool.path.exists()
    assert list(list_spools(tmp_path / "spool")) == []
    assert (tmp_path / "spool" / "notes").exists()
