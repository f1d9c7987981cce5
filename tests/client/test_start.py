"""A start whose connection is cut, at any byte of its request or its reply, makes one run."""

from uuid import uuid4

import anyio
import msgspec
import pytest

from outlive import connect
from tests.support.cutter import Cut, Cutter
from tests.support.history import assert_history

AT_ONCE = 16


@pytest.fixture
def pick(effort, backend):
    """Which of so many bytes are tried: each on one event loop, in a long session each on both."""

    def pick(length):
        return range(length) if effort.choose(0, 1) else range(backend == "trio", length, 2)

    return pick


def start_with_cuts(backend, daemon, socket_dir, cuts):
    """Start one run per cut, each with a client of its own in a chat of its own; returns what each was told."""
    workspace = f"w-{uuid4()}"
    told = {}

    async def start_one(number, cut, limiter):
        path = socket_dir / f"s{number}"
        async with limiter:
            with Cutter(path, daemon.socket, [cut]) as cutter:
                async with connect(path) as client:
                    chat = {"workspace": workspace, "chat_id": f"c{number:04}"}
                    started = await client.start(agent="demo", input="once", **chat)
                    found = await client.list_runs(**chat)
                told[cut] = (started, [run.id for run in found.runs], cutter.connections)

    async def main():
        limiter = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for number, cut in enumerate(cuts):
                tasks.start_soon(start_one, number, cut, limiter)

    anyio.run(main, backend=backend)
    started = {answer.run.id for answer, _, _ in told.values()}
    assert_history(daemon.database, acknowledged=started, workspace=workspace)
    return told


def test_a_start_cut_in_its_reply_makes_one_run(backend, shared_daemon, socket_dir, quick, pick):
    """However much of the reply came through, the second attempt finds the first one's run."""
    with shared_daemon.connect() as wire:
        chat = {"workspace": f"w-{uuid4()}", "chat_id": "c0000"}
        answer = wire.call("run/start", agent="demo", input="once", **chat)
    length = len(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": answer})) + 1
    cuts = [Cut(received=received) for received in pick(length)]
    told = start_with_cuts(backend, shared_daemon, socket_dir, cuts)
    for cut, (started, runs, connections) in told.items():
        assert runs == [started.run.id], cut
        assert started.created, cut
        assert connections == 2, cut


def test_a_start_cut_in_its_request_makes_one_run(backend, shared_daemon, socket_dir, quick, pick):
    """A request of which a part arrived does nothing; the second attempt makes the run."""
    cuts = [Cut(sent=sent) for sent in pick(160)]
    told = start_with_cuts(backend, shared_daemon, socket_dir, cuts)
    for cut, (started, runs, connections) in told.items():
        assert runs == [started.run.id], cut
        assert connections == 2, cut


def test_a_start_of_an_older_key_is_not_called_new(backend, shared_daemon, socket_dir, quick):
    """With a key of the caller's, a repeated start says that the run was there: the caller may have made it before."""
    key = str(uuid4())

    async def main():
        async with connect(cutter.path) as client:
            started = await client.start(agent="demo", idempotency_key=key)
            assert not started.created

    with Cutter(socket_dir / "s", shared_daemon.socket, [Cut(received=0)]) as cutter:
        anyio.run(main, backend=backend)


def test_an_attached_run_ends_with_the_connection_that_was_cut(backend, shared_daemon, socket_dir, quick):
    """With detached=False a run belongs to its connection: cut after the commit, it is found again and ends."""

    async def main():
        async with connect(cutter.path) as client:
            started = await client.start(agent="demo", input="a " * 1000, detached=False)
            ended = (await client.wait(started)).run
            assert (ended.status, ended.stop_reason) == ("aborted", "client_disconnected")

    with Cutter(socket_dir / "s", shared_daemon.socket, [Cut(received=0)]) as cutter:
        anyio.run(main, backend=backend)
