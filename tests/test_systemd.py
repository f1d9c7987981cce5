"""What systemd hands down is taken once, and what it is told arrives, or costs nothing."""

import os
import socket
from pathlib import Path

import pytest
import trio

from outlived import systemd
from outlived.systemd import Manager, make_status, take_environment


@pytest.fixture
def ear(tmp_path):
    """A manager's socket, and its path."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
        ear.bind(str(path))
        yield ear, str(path)


def hear_all(ear):
    """Everything that was said so far."""
    heard = []
    while True:
        try:
            heard.append(ear.recv(4096).decode())
        except BlockingIOError:
            return heard


def test_the_environment_is_left_clean():
    """Whatever systemd says to us is gone from the environment that others inherit; the rest stays."""
    ours = dict.fromkeys(systemd._SPOKEN_FOR, "x")
    environ = {**ours, "PATH": "/bin", "LISTENER": "mine"}
    take_environment(environ)
    assert environ == {"PATH": "/bin", "LISTENER": "mine"}


def test_nothing_is_the_rule():
    """Without systemd nothing is found, and nobody listens."""
    handed = take_environment({})
    assert handed == systemd.Handed()
    assert not Manager(handed.notify_socket).listens


@pytest.mark.parametrize(("found", "seconds"), [
    ({"WATCHDOG_USEC": "3000000"}, 3.0),
    ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
    ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
    ({"WATCHDOG_USEC": "0"}, None), ({"WATCHDOG_USEC": "-5"}, None), ({"WATCHDOG_USEC": "soon"}, None), ({}, None),
])  # fmt: skip
def test_the_watchdog_is_ours_or_another_ones(found, seconds):
    """The interval counts if it is a number, and meant for this process."""
    assert take_environment(dict(found)).watchdog_seconds == seconds


def test_descriptors_are_for_the_process_they_name(monkeypatch, tmp_path):
    """Descriptors are taken with their names, and are not inherited any further; those for another process are left alone."""
    with (tmp_path / "file").open("w") as first, (tmp_path / "other").open("w") as second:
        low = min(first.fileno(), second.fileno())
        high = max(first.fileno(), second.fileno())
        monkeypatch.setattr(systemd, "FIRST_FD", low)
        for fd in (low, high):
            os.set_inheritable(fd, True)
        count = high - low + 1
        found = {"LISTEN_PID": "1", "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "a"}
        assert take_environment({**found}).fds == ()
        assert os.get_inheritable(low)
        taken = dict(take_environment({**found, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}).fds)
        assert taken == {"a": low}
        assert not os.get_inheritable(low)


def test_a_credential_is_read(tmp_path):
    """A credential is the text of its file, without the line's end; one that was not given is none."""
    (tmp_path / "database").write_text("host=db\n")
    handed = take_environment({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (handed.read_credential("database"), handed.read_credential("other")) == ("host=db", None)
    assert take_environment({}).read_credential("database") is None


def test_directories_are_the_first_of_several():
    """Of several directories the first is meant."""
    handed = take_environment(
        {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "CONFIGURATION_DIRECTORY": "/etc/a"}
    )
    assert (handed.state, handed.configuration) == (Path("/var/lib/a"), Path("/etc/a"))


async def test_what_is_told_arrives(ear):
    """Words are lines of one datagram."""
    heard, path = ear
    assert await Manager(path).tell("READY=1", make_status("serving\n all"))
    assert hear_all(heard) == ["READY=1\nSTATUS=serving all"]


async def test_an_abstract_address():
    """A manager may listen at an abstract address, as one in a container may."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
        ear.bind(f"\0outlive-test-{os.getpid()}")
        assert await Manager(f"@outlive-test-{os.getpid()}").tell("READY=1")
        assert hear_all(ear) == ["READY=1"]


async def test_a_deaf_manager_blocks_nobody(ear, monkeypatch):
    """When the manager's queue is full, what may be lost is lost at once, what must arrive waits for room, and not for ever."""
    monkeypatch.setattr(systemd, "TELL_SECONDS", 0.2)
    heard, path = ear
    manager = Manager(path)
    said = 0
    while manager.tell_nowait(f"WATCHDOG={said}"):
        said += 1
    assert not await manager.tell("READY=1")
    monkeypatch.setattr(systemd, "TELL_SECONDS", 20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.tell, "STOPPING=1")
        await trio.testing.wait_all_tasks_blocked()
        assert len(hear_all(heard)) == said
    assert hear_all(heard) == ["STOPPING=1"]


async def test_a_manager_that_is_gone_is_no_trouble(tmp_path):
    """A manager that is gone, or being executed anew, is told nothing, and nothing happens."""
    assert await Manager(str(tmp_path / "nowhere")).tell("READY=1")
    assert await Manager(None).tell("READY=1")


async def test_the_watchdog_is_fed_at_a_third(ear, autojump_clock):
    """It is fed three times in its interval; more time is asked for as long as something takes time, and not after it."""
    heard, path = ear
    manager = Manager(path, 6.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.attend)
        await trio.sleep(11)
        assert hear_all(heard) == ["WATCHDOG=1"] * 6
        with manager.taking_time():
            assert hear_all(heard) == ["EXTEND_TIMEOUT_USEC=30000000"]
            await trio.sleep(2)
        assert hear_all(heard) == ["WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000"]
        await trio.sleep(2)
        assert hear_all(heard) == ["WATCHDOG=1"]
        nursery.cancel_scope.cancel()


async def test_without_a_watchdog_only_time_is_asked_for(ear, autojump_clock):
    """A unit without WatchdogSec= is not fed."""
    heard, path = ear
    manager = Manager(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.attend)
        await trio.sleep(19)
        assert hear_all(heard) == []
        with manager.taking_time():
            await trio.sleep(4)
        assert hear_all(heard) == ["EXTEND_TIMEOUT_USEC=30000000"] * 3
        nursery.cancel_scope.cancel()
