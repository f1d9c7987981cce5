"""The client's calls against a real daemon, on both event loops: every method, errors by class, time limits."""

import signal
from uuid import uuid4

import anyio
import pytest

from outlive import (
    AgentUnavailable,
    Chat,
    ConnectionLost,
    IdempotencyMismatch,
    InvalidParams,
    MethodNotFound,
    NotFound,
    OutliveError,
    RunActive,
    TooLarge,
    Unreachable,
    connect,
    wire,
)
from outlive.client import Client
from outlive.methods import METHODS
from tests.support.runs import ENDLESS, NO_RUN

NAMES = {
    "server/info": "info",
    "server/owners": "owners",
    "server/describe": "describe",
    "server/stats": "stats",
    "server/drain": "drain",
    "run/start": "start",
    "run/get": "get",
    "run/latest": "latest",
    "run/list": "list_runs",
    "run/stop": "stop",
    "run/wait": "wait",
    "run/tail": "tail",
    "run/untail": "tail",
    "chat/create": "create_chat",
    "chat/get": "get_chat",
    "chat/list": "list_chats",
    "chat/messages": "messages",
    "$/cancel_request": "start",
}
"""Where the client has each method; leaving a tail untails, cancelling any call gives up its request."""


def test_every_method_is_there():
    """The client has a place for every row of the method table."""
    assert NAMES.keys() == METHODS.keys()
    assert all(callable(getattr(Client, name)) for name in NAMES.values())


def test_a_turn_is_started_followed_and_found_again(backend, shared_daemon):
    """What a client starts, every method that looks at it agrees about."""
    chat_id = f"turn-{uuid4()}"

    async def main():
        async with connect(shared_daemon.socket) as client:
            started = await client.start(agent="demo", input="one two", chat_id=chat_id, metadata={"k": 1})
            assert started.created
            assert started.run.chat_id == chat_id
            text = [event.data["text"] async for event in client.tail(started) if event.type == "text.delta"]
            assert "".join(text) == "one two"
            waited = await client.wait(started)
            assert waited.settled
            assert (waited.run.status, waited.message.content) == ("succeeded", "one two")
            found = await client.get(started.run)
            assert (found.run, found.message) == (waited.run, waited.message)
            assert await client.latest(chat_id) == wire.RunAndMessage(waited.run, waited.message)
            page = await client.list_runs(chat_id=chat_id, status=["succeeded"])
            assert page == wire.RunPage([waited.run], None)
            assert (await client.stop(chat_id=chat_id)).outcome == "already_settled"

    anyio.run(main, backend=backend)


def test_chats_are_made_found_and_read(backend, shared_daemon):
    """A chat that was made is found, listed and, after a run, holds two messages, page by page."""
    workspace = f"w-{uuid4()}"

    async def main():
        async with connect(shared_daemon.socket) as client:
            made = await client.create_chat("c1", workspace=workspace, title="A chat", metadata={"k": [1]})
            assert made.created
            assert await client.create_chat("c1", workspace=workspace) == wire.ChatCreated(made.chat, False)
            nameless = (await client.create_chat(workspace=workspace)).chat
            assert await client.get_chat("c1", workspace=workspace) == made.chat
            run = await client.start(agent="demo", input="hi", chat_id="c1", workspace=workspace)
            await client.wait(run)
            page = await client.list_chats(workspace=workspace, limit=1)
            assert [chat.id for chat in page.chats] == ["c1"]
            rest = await client.list_chats(workspace=workspace, cursor=page.next_cursor)
            assert rest.chats == [nameless]
            assert isinstance(rest.chats[0], Chat)
            first = await client.messages("c1", workspace=workspace, limit=1)
            second = await client.messages("c1", workspace=workspace, cursor=first.next_cursor)
            told = [(message.role, message.content) for message in first.messages + second.messages]
            assert told == [("user", "hi"), ("assistant", "hi")]

    anyio.run(main, backend=backend)


def test_a_run_is_stopped_and_waited_for(backend, shared_daemon):
    """A wait may time out; a stop with a wait answers when the run has ended."""

    async def main():
        async with connect(shared_daemon.socket) as client:
            started = await client.start(agent="demo", input="a b", metadata=ENDLESS)
            waited = await client.wait(started, timeout_seconds=0.05)
            assert not waited.settled
            assert waited.run.status in {"pending", "running"}
            stopped = await client.stop(started, reason="enough", wait_seconds=20)
            assert (stopped.outcome, stopped.run.status, stopped.run.stop_reason) == (
                "stopped",
                "aborted",
                "enough",
            )

    anyio.run(main, backend=backend)


def test_a_daemon_is_drained(backend, make_daemon):
    """An order to drain is answered with the number of runs that are active, and starts are refused from then on."""
    daemon = make_daemon().start()

    async def main():
        async with connect(daemon.socket, patience=0) as client:
            assert await client.drain(0) == wire.ServerDraining("draining", 0)
            with pytest.raises(OutliveError) as refused:
                await client.start(agent="demo", input="too late")
            assert refused.value.type == "draining"

    anyio.run(main, backend=backend)


def test_the_daemon_says_who_and_what_it_is(backend, shared_daemon):
    """Info names the agents and the caller, stats say how it is doing, describe the method that was asked for."""

    async def main():
        async with connect(shared_daemon.socket) as client:
            info = await client.info()
            assert (info.name, info.state, info.pid) == ("outlived", "serving", shared_daemon.process.pid)
            assert "demo" in {agent.name for agent in info.agents}
            stats = await client.stats()
            assert (stats.database, stats.connections > 0) == ("ok", True)
            described = await client.describe("run/start")
            assert list(described.methods) == ["run/start"]
            assert described.methods["run/start"].params == {"$ref": "#/$defs/RunStartParams"}

    anyio.run(main, backend=backend)


def test_many_calls_share_one_connection(backend, shared_daemon):
    """Concurrent calls of one client each get their own answer, however long others wait."""

    async def main():
        async with connect(shared_daemon.socket) as client, anyio.create_task_group() as tasks:
            endless = await client.start(agent="demo", input="a b", metadata=ENDLESS)
            tasks.start_soon(client.wait, endless)

            async def take_turn(number):
                started = await client.start(
                    agent="demo", input=f"{number}", metadata={"demo": {"delay_ms": 0}}
                )
                assert (await client.wait(started)).message.content == f"{number}"

            for number in range(30):
                tasks.start_soon(take_turn, number)
            await client.stop(endless)

    anyio.run(main, backend=backend)


async def follow_beyond_the_end(client):
    started = await client.start(agent="demo")
    await client.wait(started)
    async with client.tail(started, after_seq=1000):
        pytest.fail("the daemon has no such event")


CASES = {
    "a value out of range": ("run/list", InvalidParams, lambda client: client.list_runs(limit=0)),
    "an unknown agent": ("run/start", InvalidParams, lambda client: client.start(agent="nobody")),
    "an empty key": (
        "run/start",
        InvalidParams,
        lambda client: client.start(agent="demo", idempotency_key=""),
    ),
    "a run that is not": ("run/get", NotFound, lambda client: client.get(NO_RUN)),
    "a chat that is not": ("chat/get", NotFound, lambda client: client.get_chat("not-there")),
    "too much metadata": (
        "chat/create",
        TooLarge,
        lambda client: client.create_chat(metadata={"k": "x" * 17_000}),
    ),
    "an over-long line": (
        "run/start",
        TooLarge,
        lambda client: client.start(agent="demo", input="x" * (1 << 20)),
    ),
    "a program that is not": (
        "run/start",
        AgentUnavailable,
        lambda client: client.start(agent="no-program"),
    ),
    "a cursor beyond the end": (
        "run/tail",
        InvalidParams,
        follow_beyond_the_end,
    ),
    "a method to describe": ("server/describe", InvalidParams, lambda client: client.describe("run/fly")),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_are_raised_by_class(backend, shared_daemon, case):
    """What the daemon refuses is raised as the class of its type, which the method's row has declared."""
    method, kind, call = CASES[case]

    async def main():
        async with connect(shared_daemon.socket) as client:
            with pytest.raises(kind, match=r"^cannot ") as caught:
                await call(client)
            assert type(caught.value) is kind
            assert type(caught.value) in METHODS[method].errors
            assert (await client.info()).state == "serving", "an error is no reason to lose the connection"

    anyio.run(main, backend=backend)


def test_errors_carry_what_a_program_needs(backend, shared_daemon):
    """An active run and a misused key name the run, a wrong parameter its path."""

    async def main():
        async with connect(shared_daemon.socket) as client:
            key = str(uuid4())
            endless = await client.start(agent="demo", input="a b", metadata=ENDLESS, idempotency_key=key)
            with pytest.raises(RunActive) as active:
                await client.start(agent="demo", chat_id=endless.run.chat_id)
            assert active.value.data == {"active_run_id": endless.run.id}
            with pytest.raises(IdempotencyMismatch) as mismatch:
                await client.start(agent="demo", input="something else", idempotency_key=key)
            assert mismatch.value.data == {"run_id": endless.run.id}
            with pytest.raises(InvalidParams) as wrong:
                await client.messages("c1", limit=201)
            assert wrong.value.data == {"path": "$.limit"}
            again = await client.start(agent="demo", input="a b", metadata=ENDLESS, idempotency_key=key)
            assert (again.run.id, again.created) == (endless.run.id, False)
            joined = await client.start(agent="demo", chat_id=endless.run.chat_id, on_active="join")
            assert (joined.run.id, joined.created) == (endless.run.id, False)
            await client.stop(endless, wait_seconds=20)

    anyio.run(main, backend=backend)


def test_an_older_daemon_lacks_a_method(backend, shared_daemon):
    """A method that the daemon does not know is MethodNotFound."""

    async def main():
        async with connect(shared_daemon.socket) as client:
            with pytest.raises(MethodNotFound):
                await client._ask("run/fly", wire.NoParams(), wire.Empty)

    anyio.run(main, backend=backend)


def test_calls_time_out(backend, shared_daemon):
    """A daemon that does not answer ends calls and tails in TimeoutError; later the same client works again."""

    async def main():
        async with connect(shared_daemon.socket, timeout=0.2) as client:
            started = await client.start(agent="demo")
            shared_daemon.process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(TimeoutError, match=r"^cannot get an answer to run/get .* in 0\.2 s"):
                    await client.get(started)
                with pytest.raises(TimeoutError, match=r"^cannot follow"):
                    await anext(client.tail(started))
                with pytest.raises(TimeoutError):
                    await client.stop(started, wait_seconds=0.1)
            finally:
                shared_daemon.process.send_signal(signal.SIGCONT)
            assert (await client.wait(started)).settled

    anyio.run(main, backend=backend)


def test_a_call_may_be_cancelled(backend, shared_daemon):
    """A caller that gives up leaves the connection good for the others, and the run alone."""

    async def main():
        async with connect(shared_daemon.socket) as client:
            started = await client.start(agent="demo", input="a b", metadata=ENDLESS)
            with anyio.move_on_after(0.05) as impatience:
                await client.wait(started)
            assert impatience.cancelled_caught
            assert (await client.get(started)).run.status == "running"
            await client.stop(started, wait_seconds=20)

    anyio.run(main, backend=backend)


def test_attached_runs_end_with_their_client(backend, shared_daemon):
    """A run that was started with detached=False ends with its client; others do not notice."""

    async def main():
        async with connect(shared_daemon.socket) as client:
            attached = await client.start(agent="demo", input="a b", metadata=ENDLESS, detached=False)
            detached = await client.start(agent="demo", input="a b", metadata=ENDLESS)
        async with connect(shared_daemon.socket) as client:
            ended = (await client.wait(attached)).run
            assert (ended.status, ended.stop_reason) == ("aborted", "client_disconnected")
            assert (await client.get(detached)).run.status == "running"
            await client.stop(detached, wait_seconds=20)

    anyio.run(main, backend=backend)


def test_nobody_there_is_said_at_once(backend, socket_dir):
    """Where no daemon is, connecting raises Unreachable, which is a ConnectionLost and no OutliveError."""

    async def main():
        async with connect(socket_dir / "nobody"):
            pytest.fail("connected to nobody")

    with pytest.raises(Unreachable, match=r"^cannot reach a daemon at ") as caught:
        anyio.run(main, backend=backend)
    assert isinstance(caught.value, ConnectionLost)
    assert not isinstance(caught.value, OutliveError)
