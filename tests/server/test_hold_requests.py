"""What one connection may make the daemon hold: bytes of requests in flight, runs that shall not outlive it."""

import json
import os
from collections.abc import Iterator

import attrs
import pytest
import trio

from outlived.server import session as session_module
from outlived.server.session import Session
from outlived.supervisor.registry import Registry
from outlived.supervisor.start import Caller


@attrs.define
class Rooms:
    """What a session needs of the supervisor here."""

    registry: Registry = attrs.Factory(Registry)


@attrs.define
class Door:
    """A session on one end of a pair; its one handler waits until it is told to answer."""

    peer: trio.SocketStream
    session: Session
    waiting: int = 0
    gate: trio.Event = attrs.Factory(trio.Event)
    left: list[str] = attrs.Factory(list)

    async def answer(self, _session, params, _call):
        self.waiting += 1
        await self.gate.wait()
        return params


@pytest.fixture
def door() -> Iterator[Door]:
    """A session without a daemon."""
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        caller = Caller(os.geteuid(), os.getegid(), trusted=True)
        left: list[str] = []
        session = Session(Rooms(), {}, caller, ours, left.append, [])  # type: ignore[arg-type]
        door = Door(trio.SocketStream(theirs), session, left=left)
        session.handlers = {"server/info": door.answer}
        yield door


def ask(number: int, padding: int) -> bytes:
    """A line of about so many bytes."""
    return (
        json.dumps({"jsonrpc": "2.0", "id": number, "method": "server/info"}).encode()
        + b" " * padding
        + b"\n"
    )


async def test_requests_in_flight_are_bounded_in_bytes(door: Door, monkeypatch):
    """Beyond so many bytes of unanswered requests a connection is read no further; one answer makes room for more."""
    monkeypatch.setattr(session_module, "MAX_HELD_BYTES", 100_000)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.session.serve)
            nursery.start_soon(door.peer.send_all, b"".join(ask(number, 30_000) for number in range(50)))
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert door.waiting == 3
            door.gate.set()
            answers = b""
            while answers.count(b"\n") < 50:
                answers += await door.peer.receive_some(1 << 16)
            assert door.session._held_bytes == 0
            nursery.cancel_scope.cancel()


async def test_one_large_request_is_always_taken(door: Door, monkeypatch):
    """A single line larger than that is served all the same."""
    monkeypatch.setattr(session_module, "MAX_HELD_BYTES", 1000)
    door.gate.set()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.session.serve)
            for number in range(3):
                await door.peer.send_all(ask(number, 30_000))
                assert b'"result"' in await door.peer.receive_some(1 << 16)
            nursery.cancel_scope.cancel()


def test_runs_that_ended_are_not_remembered(door: Door):
    """However many runs a connection attached, it remembers about as many as there are, and every one of those."""
    registry = door.session.supervisor.registry
    living = []
    for number in range(10_000):
        active = registry.enter(f"run {number}")
        door.session.attach(active.run_id)
        if number % 100:
            registry.leave(active)
        else:
            living.append(active.run_id)
        assert len(door.session._attached) <= 2 * len(living) + 64
    door.session._leave()
    assert set(living) <= set(door.left)
    assert len(door.left) < 400
