"""The client without ``async``: the same methods and errors, threads, Ctrl-C, and a clean end whatever happens."""

import inspect
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from outlive import Client, ConnectionLost, Event, NotFound, RunActive, RunPage, Unreachable, sync, wire
from outlive.sync import connect
from tests.support.cutter import Cutter
from tests.support.runs import ENDLESS, NO_RUN, list_seqs
from tests.support.waits import wait_until


@pytest.fixture
def client(shared_daemon):
    with connect(shared_daemon.socket) as client:
        yield client


@pytest.fixture
def endless(client):
    """A run that has said its first word and would take an hour for the second."""
    started = client.start(agent="demo", input="a b", metadata=ENDLESS)
    for event in client.tail(started):
        if event.type == "text.delta":
            break
    yield started
    client.stop(started, wait_seconds=20)


def list_portals():
    return [thread for thread in threading.enumerate() if "portal" in thread.name]


def test_every_method_has_the_same_shape():
    """Each public method of the async client is there, with the same parameters and the same documentation."""
    for name, method in vars(Client).items():
        if name.startswith("_") or name in {"open", "aclose"}:
            continue
        blocking = getattr(sync.Client, name)
        assert inspect.signature(blocking).parameters == inspect.signature(method).parameters, name
        assert blocking.__doc__, name
        assert not inspect.iscoroutinefunction(blocking), name


def test_a_turn_is_taken_without_async(client):
    """A script starts, follows, waits, and finds its turn again."""
    chat_id = f"sync-{uuid4()}"
    started = client.start(agent="demo", input="one two", chat_id=chat_id)
    events = list(client.tail(started))
    assert isinstance(events[0], Event)
    assert "".join(event.data["text"] for event in events if event.type == "text.delta") == "one two"
    waited = client.wait(started)
    assert client.get(started).run == waited.run
    assert client.latest(chat_id) == wire.RunAndMessage(waited.run, waited.message)
    assert client.list_runs(chat_id=chat_id) == RunPage([waited.run], None)
    assert [message.content for message in client.messages(chat_id).messages] == ["one two", "one two"]
    assert client.get_chat(chat_id).last_run_id == started.run.id
    assert client.create_chat(chat_id).created is False
    assert client.list_chats(limit=1).chats
    assert client.stop(started).outcome == "already_settled"
    assert client.info().name == "outlived"
    assert client.stats().runs_started_total >= 1
    assert client.describe("run/get").protocol == 1


def test_a_tail_knows_where_it_is(client, endless):
    """Snapshot, last_seq and end are those of the tail; with a block it is closed when it is left."""
    with client.tail(endless, after_seq=None, follow=False) as tail:
        assert tail.tailed.message.content == "a "
        assert tail.last_seq == tail.tailed.as_of_seq
        assert list(tail) == []
        assert tail.end.reason == "caught_up"
    with client.tail(endless) as tail:
        assert (next(tail).seq, tail.last_seq) == (1, 1)


def test_errors_are_those_of_the_client(client, endless):
    """Errors come out as their class, with their data."""
    with pytest.raises(NotFound):
        client.get(NO_RUN)
    with pytest.raises(RunActive) as active:
        client.start(agent="demo", chat_id=endless.run.chat_id)
    assert active.value.data == {"active_run_id": endless.run.id}
    with pytest.raises(NotFound):
        next(client.tail(NO_RUN))


def test_many_threads_use_one_client(client):
    """Threads that start, follow and wait at the same time each get what is theirs."""

    def take_turn(number):
        started = client.start(agent="demo", input=f"{number} {number}", metadata={"demo": {"delay_ms": 1}})
        text = [event.data["text"] for event in client.tail(started) if event.type == "text.delta"]
        return "".join(text), client.wait(started).message.content

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(take_turn, range(48)))
    assert answers == [(f"{number} {number}",) * 2 for number in range(48)]


def test_threads_share_a_tail(client):
    """Each event of a tail goes to exactly one of the threads that iterate over it."""
    started = client.start(agent="demo", input="word " * 200, metadata={"demo": {"delay_ms": 1}})
    tail = client.tail(started)
    with ThreadPoolExecutor(4) as threads:
        shares = list(threads.map(lambda _: list_seqs([{"seq": event.seq} for event in tail]), range(4)))
    seqs = [seq for share in shares for seq in share]
    assert sorted(seqs) == list(range(1, tail.end.last_seq + 1))
    assert all(share == sorted(share) for share in shares)


def test_an_exception_leaves_the_block_as_it_is(shared_daemon):
    """What a script raises comes out unwrapped, and the event loop's thread is gone."""
    before = list_portals()
    mine = LookupError("mine")

    def fail():
        with connect(shared_daemon.socket) as client:
            next(client.tail(client.start(agent="demo")))
            raise mine

    with pytest.raises(LookupError) as caught:
        fail()
    assert caught.value is mine
    assert list_portals() == before


@pytest.mark.parametrize("wrong", [False, True])
def test_leaving_the_block_ends_what_other_threads_wait_for(shared_daemon, wrong):
    """A thread in a wait or a tail is let go with RuntimeError when the client is closed, in peace or not."""
    seen = []

    def wait_in_vain(call):
        try:
            call()
        except (RuntimeError, ConnectionLost) as error:
            seen.append(type(error))

    with connect(shared_daemon.socket) as client:
        started = client.start(agent="demo", input="a b", metadata=ENDLESS)
        try:
            with connect(shared_daemon.socket) as closing:
                tail = closing.tail(started)
                calls = [lambda: closing.wait(started), lambda: list(tail)]
                threads = [threading.Thread(target=wait_in_vain, args=[call], daemon=True) for call in calls]
                for thread in threads:
                    thread.start()
                wait_until(lambda: (tail.last_seq or 0) >= 4, 15, "the tail has read what there is")
                if wrong:
                    raise LookupError
        except LookupError:
            assert wrong
        for thread in threads:
            thread.join(10)
        assert seen == [RuntimeError, RuntimeError]
        client.stop(started, wait_seconds=20)
    with pytest.raises(RuntimeError):
        closing.info()


def test_closing_a_tail_ends_another_threads_waiting(client, endless):
    """A tail that one thread waits for may be closed by another."""
    tail = client.tail(endless)
    seen = []

    def follow():
        try:
            list(tail)
        except RuntimeError as error:
            seen.append(str(error))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    wait_until(lambda: tail.last_seq == 4, 15, "the tail has read what there is")
    tail.close()
    thread.join(10)
    assert seen == ["cannot wait any longer: the client, or the tail, was closed"]


def test_nobody_there_is_said_at_once(socket_dir):
    """Where no daemon is, connecting raises Unreachable and leaves no thread behind."""
    before = list_portals()
    with pytest.raises(Unreachable), connect(socket_dir / "nobody"):
        pytest.fail("connected to nobody")
    assert list_portals() == before


def test_a_lost_connection_is_survived(shared_daemon, socket_dir):
    """The façade inherits it all: a tail goes on after a cut, and the notice is heard."""
    notices = []
    with (
        Cutter(socket_dir / "s", shared_daemon.socket) as cutter,
        connect(cutter.path, notice=notices.append) as client,
    ):
        started = client.start(agent="demo", input="a b c d", metadata={"demo": {"delay_ms": 20}})
        seqs = []
        for event in client.tail(started):
            seqs.append(event.seq)
            if event.type == "text.delta" and len(seqs) < 6:
                cutter.cut_all()
        assert seqs == list(range(1, len(seqs) + 1))
        assert client.get(started).run.last_seq == seqs[-1]
    assert any("trying again" in notice for notice in notices)


class Interrupted(Exception):
    """What a signal handler raises, as Ctrl-C does."""


@pytest.fixture
def interrupt_soon():
    """Raises Interrupted in the main thread, a moment after it is called."""

    def interrupt(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.05)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupted_tail_goes_on(client, endless, interrupt_soon):
    """A signal leaves a waiting tail at once; going on with it misses nothing, and repeats nothing."""
    tail = client.tail(endless, after_seq=4)
    for _ in range(3):
        interrupt_soon()
        with pytest.raises(Interrupted):
            next(tail)
    client.stop(endless)
    seqs = [event.seq for event in tail]
    assert seqs == list(range(5, tail.end.last_seq + 1))


def test_an_interrupted_call_is_given_up(client, endless, interrupt_soon):
    """A signal leaves a waiting call at once, and the client is as good as before."""
    interrupt_soon()
    with pytest.raises(Interrupted):
        client.wait(endless)
    assert client.get(endless).run.status == "running"


SCRIPT = """
from outlive.sync import connect

with connect() as client:
    started = client.start(agent="demo", input="a b", metadata={"demo": {"delay_ms": 3600000}})
    print(started.run.id, flush=True)
    for event in client.tail(started):
        print(event.seq, flush=True)
"""


def test_ctrl_c_ends_a_script_and_not_its_run(shared_daemon, client):
    """A script that follows a run ends at once with KeyboardInterrupt; the run goes on."""
    environment = {
        **os.environ,
        "OUTLIVE_SOCKET": str(shared_daemon.socket),
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as script:
        run_id = script.stdout.readline().strip()
        while script.stdout.readline().strip() != "4":
            assert script.poll() is None
        script.send_signal(signal.SIGINT)
        _, said = script.communicate(timeout=10)
    assert script.returncode == -signal.SIGINT
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "never" not in said, "nothing was left un-awaited"
    assert client.get(run_id).run.status == "running"
    client.stop(run_id, wait_seconds=20)
