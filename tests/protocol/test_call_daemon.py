"""The client's calls: replies, errors, time limits, lost connections; on asyncio and on Trio."""

from __future__ import annotations

import anyio
import pytest

from outlive import Client, ConnectionLost, Unreachable, connect, errors, wire
from outlive.peer import BrokenPeer
from tests.support.scripted_daemon import (
    RUN_ID,
    ScriptedDaemon,
    a_message,
    a_run,
    an_info,
    script,
    some_stats,
)

on_both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s"


@on_both
def test_typed_methods_ask_and_answer(backend, path):
    """Each typed method sends its row's method with only the given fields, and returns the wire type."""
    chat = wire.Chat("c1", "default", None, {}, None, None, "t", "t")
    answers = {
        "server_info": an_info(),
        "server_stats": some_stats(),
        "run_start": wire.RunStarted(a_run(), True),
        "run_get": wire.RunFound(a_run(), a_message()),
        "run_latest": wire.RunAndMessage(None, None),
        "run_list": wire.RunPage([a_run()], "next"),
        "run_stop": wire.RunStopped("stopped", a_run(status="aborted")),
        "run_wait": wire.RunWaited(a_run(), a_message(), True),
        "chat_create": wire.ChatCreated(chat, True),
        "chat_get": wire.ChatFound(chat),
        "chat_list": wire.ChatPage([chat], None),
        "chat_messages": wire.MessagePage([a_message()], None),
    }

    async def main():
        async with connect(path) as client:
            assert await client.info() == answers["server_info"]
            assert await client.stats() == answers["server_stats"]
            started = await client.start(agent="demo", input="hi", idempotency_key="k")
            assert started == answers["run_start"]
            assert await client.get(started) == answers["run_get"]
            assert await client.latest("c1") == answers["run_latest"]
            assert await client.list_runs(status=["running"], limit=7) == answers["run_list"]
            assert await client.stop(started.run, reason="enough") == answers["run_stop"]
            assert await client.wait(RUN_ID) == answers["run_wait"]
            assert await client.create_chat(title="T") == answers["chat_create"]
            assert await client.get_chat("c1") == chat
            assert await client.list_chats() == answers["chat_list"]
            assert await client.messages("c1", cursor="x") == answers["chat_messages"]

    with ScriptedDaemon(path, script(**answers)) as daemon:
        anyio.run(main, backend=backend)
        assert [(request["method"], request["params"]) for request in daemon.requests] == [
            ("server/info", {}),
            ("server/stats", {}),
            ("run/start", {"agent": "demo", "input": "hi", "idempotency_key": "k"}),
            ("run/get", {"run_id": RUN_ID}),
            ("run/latest", {"chat_id": "c1"}),
            ("run/list", {"status": ["running"], "limit": 7}),
            ("run/stop", {"run_id": RUN_ID, "reason": "enough"}),
            ("run/wait", {"run_id": RUN_ID}),
            ("chat/create", {"title": "T"}),
            ("chat/get", {"chat_id": "c1"}),
            ("chat/list", {}),
            ("chat/messages", {"chat_id": "c1", "cursor": "x"}),
        ]
        assert daemon.connections == 1


@on_both
def test_replies_in_any_order_reach_their_callers(backend, path):
    """Many calls at once over one connection each get their own reply, though the daemon answers backwards."""
    held = []

    def backwards(conversation, request):
        held.append(request)
        if len(held) == 20:
            for waiting in reversed(held):
                run = a_run(chat_id=waiting["params"]["chat_id"])
                conversation.reply(waiting, wire.RunAndMessage(run, None))

    async def main():
        async with connect(path) as client, anyio.create_task_group() as tasks:

            async def ask(chat_id):
                found = await client.latest(chat_id)
                assert found.run.chat_id == chat_id

            for number in range(20):
                tasks.start_soon(ask, f"c{number}")

    with ScriptedDaemon(path, script(run_latest=backwards)) as daemon:
        anyio.run(main, backend=backend)
        assert daemon.connections == 1


@on_both
def test_errors_are_raised_as_their_class(backend, path):
    """An error reply is raised as its class with its data, at the caller and not in a group."""

    async def main():
        async with connect(path) as client:
            with pytest.raises(errors.RunActive, match="cannot start") as caught:
                await client.start(agent="demo")
            assert caught.value.data == {"active_run_id": RUN_ID}
            with pytest.raises(errors.NotFound):
                await client.get(RUN_ID)

    active = errors.RunActive("cannot start: busy", active_run_id=RUN_ID)
    with ScriptedDaemon(path, script(run_start=active, run_get=errors.NotFound("cannot find it"))):
        anyio.run(main, backend=backend)


@on_both
def test_error_in_the_block_leaves_unwrapped(backend, path):
    """What the caller's own block raises comes out as it is."""

    async def main():
        async with connect(path):
            raise LookupError("mine")

    with ScriptedDaemon(path, script()), pytest.raises(LookupError, match="mine"):
        anyio.run(main, backend=backend)


@on_both
def test_silent_daemon_ends_in_a_timeout(backend, path):
    """A call that is not answered raises TimeoutError, tells the daemon so, and the connection is still good."""

    async def main():
        async with connect(path, timeout=0.2) as client:
            with pytest.raises(TimeoutError, match="cannot get an answer to run/get"):
                await client.get(RUN_ID)
            assert (await client.latest("c1")).run is None

    with ScriptedDaemon(path, script(run_latest=wire.RunAndMessage(None, None))) as daemon:
        anyio.run(main, backend=backend)
        assert daemon.asked("$/cancel_request") == [{"id": 1}]
        assert daemon.connections == 1


@on_both
def test_cancelled_caller_hands_the_reading_on(backend, path):
    """When the task that reads for all is cancelled, the others still get their replies."""

    async def main():
        async with connect(path) as client, anyio.create_task_group() as tasks:
            first = anyio.CancelScope()

            async def be_cancelled():
                with first:
                    await client.get(RUN_ID)

            async def be_answered():
                assert (await client.wait(RUN_ID)).settled

            tasks.start_soon(be_cancelled)
            await anyio.to_thread.run_sync(daemon.wait_asked, "run/get")
            tasks.start_soon(be_answered)
            await anyio.to_thread.run_sync(daemon.wait_asked, "run/wait")
            first.cancel()

    def answer_when_cancelled(conversation, request):
        (waiting,) = [asked for asked in daemon.requests if asked["method"] == "run/wait"]
        conversation.reply(waiting, wire.RunWaited(a_run(), a_message(), True))

    answers = script(run_wait=None)

    def play(conversation, request):
        if request["method"] == "$/cancel_request":
            answer_when_cancelled(conversation, request)
        answers(conversation, request)

    with ScriptedDaemon(path, play) as daemon:
        anyio.run(main, backend=backend)


@on_both
def test_start_is_repeated_with_its_own_key(backend, path):
    """A start whose reply was lost is sent again with the same key, and so finds the run it made."""
    keys = []

    def lose_the_first(conversation, request):
        keys.append(request["params"]["idempotency_key"])
        if len(keys) == 1:
            conversation.close()
        else:
            conversation.reply(request, wire.RunStarted(a_run(), False))

    notices = []

    async def main():
        async with connect(path, notice=notices.append) as client:
            assert (await client.start(agent="demo")).run.id == RUN_ID

    with ScriptedDaemon(path, script(run_start=lose_the_first)):
        anyio.run(main, backend=backend)
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert [notice[:9] for notice in notices] == ["lost the ", "connected"]


@on_both
def test_calls_survive_a_restart_of_the_daemon(backend, path):
    """Retryable errors and an absent daemon are waited out."""
    answers = iter(
        [errors.Draining("cannot wait: stopping"), "vanish", errors.DatabaseUnavailable("cannot read")]
    )

    def trouble(conversation, request):
        match next(answers, None):
            case errors.OutliveError() as error:
                conversation.error(request, error)
            case "vanish":
                daemon.vanish()
                daemon.listen()
            case None:
                conversation.reply(request, wire.RunWaited(a_run(), a_message(), True))

    async def main():
        async with connect(path) as client:
            assert (await client.wait(RUN_ID, timeout_seconds=60)).settled

    with ScriptedDaemon(path, script(run_wait=trouble)) as daemon:
        anyio.run(main, backend=backend)
        limits = [params["timeout_seconds"] for params in daemon.asked("run/wait")]
        assert len(limits) == 4
        assert limits[0] <= 60
        assert limits[-1] < limits[0] - 0.2, "a repeated wait asks for the time that is left"


@on_both
def test_patience_ends(backend, path):
    """When nobody comes back in time, the last error is raised; with no patience, at once."""

    async def main():
        async with connect(path, patience=0.3) as client:
            daemon.vanish()
            with pytest.raises(Unreachable, match="cannot reach a daemon"):
                await client.info()
        daemon.listen()
        async with connect(path, patience=0) as client:
            daemon.vanish()
            with pytest.raises(ConnectionLost):
                await client.info()

    with ScriptedDaemon(path, script()) as daemon:
        anyio.run(main, backend=backend)


@on_both
def test_creating_a_nameless_chat_is_not_repeated(backend, path):
    """Only where a repetition could make a second chat, a lost connection is raised at once."""

    async def main():
        async with connect(path) as client:
            with pytest.raises(ConnectionLost):
                await client.create_chat()

    with ScriptedDaemon(path, script(chat_create=lambda conversation, _: conversation.close())) as daemon:
        anyio.run(main, backend=backend)
        assert len(daemon.asked("chat/create")) == 1


@on_both
@pytest.mark.parametrize("absence", ["no file", "no listener", "no socket", "path too long"])
def test_nobody_there_is_said_at_once(backend, path, absence):
    """Connecting to where no daemon is raises Unreachable, or ValueError for an impossible path."""
    if absence == "no listener":
        daemon = ScriptedDaemon(path, script())
        with daemon:
            path.rename(path.with_suffix(".kept"))
            path.with_suffix(".kept").rename(path.with_suffix(".dead"))
            path.touch()
        path.with_suffix(".dead").rename(path)
    elif absence == "no socket":
        path.touch()

    async def main():
        target = "/" + "x" * 107 if absence == "path too long" else path
        async with connect(target):
            pytest.fail("connected to nobody")

    kind = ValueError if absence == "path too long" else Unreachable
    with pytest.raises(kind, match=r"^cannot (reach a daemon at|use socket path)"):
        anyio.run(main, backend=backend)


@on_both
def test_nonsense_is_reported_as_such(backend, path):
    """A result that this client cannot understand is BrokenPeer; a line that is no JSON-RPC loses the connection."""

    def nonsense(conversation, request):
        conversation.send(b"HTTP/1.1 400 Bad Request\n")

    async def main():
        async with connect(path, patience=0) as client:
            with pytest.raises(BrokenPeer, match="ServerInfo"):
                await client.info()
            with pytest.raises(ConnectionLost, match="cannot read the server's line"):
                await client.get(RUN_ID)

    with ScriptedDaemon(path, script(server_info={"name": 1}, run_get=nonsense)):
        anyio.run(main, backend=backend)


@on_both
def test_closed_client_stays_closed(backend, path):
    """A client that was closed refuses calls and tails instead of connecting again."""

    async def main():
        async with connect(path) as client:
            tail = client.tail(RUN_ID)
        with pytest.raises(RuntimeError, match="closed"):
            await anext(tail)
        with pytest.raises((RuntimeError, ConnectionLost)):
            await client.info()

    with ScriptedDaemon(path, script()):
        anyio.run(main, backend=backend)


def test_client_can_be_made_before_the_loop_runs(path):
    """A client object may be made anywhere; only opening it needs an event loop."""
    client = Client(path)

    async def main():
        await client.open()
        try:
            assert (await client.info()).name == "outlived"
        finally:
            await client.aclose()

    with ScriptedDaemon(path, script(server_info=an_info())):
        anyio.run(main)
