"""The lifetime of runs, driven by chance: starts, stops, hang-ups, crashes, and what must be true after all of it.

A machine drives one real daemon through real sockets, each example in a workspace of its own. What it draws never
depends on what the daemon answered (a run is drawn as a number, taken modulo the runs there are), so the same draws are
made again by the same seed; what it checks is only what no timing can change.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.history import check_history
from tests.support.postgres import Postgres
from tests.support.processes import find_run_processes
from tests.support.runs import list_seqs, read_text
from tests.support.wire import Json, Wire, WireError

TERMINAL = {"succeeded", "failed", "aborted"}

HOURS = (3_600_000, 2)
PACES = [(0, 1), (0, 60), (4, 5), (8, 8), HOURS]
"""``delay_ms`` and ``repeat`` of a demo; the last one outlasts every test."""
SCRIPTS = [
    ("printf one; printf two", "succeeded", "onetwo"),
    ("echo out; echo err >&2; exit 3", "failed", "out\n"),
    ("printf x; kill -9 $$", "failed", "x"),
    ("echo up; exec sleep 600", "", "up\n"),
    ("setsid sleep 600 & echo up; exec sleep 600", "", "up\n"),
]
"""What a shell does, how that ends (empty: never), what it says."""


@attrs.frozen
class Asked:
    """A start. ``ends`` (empty: not by itself) and ``says``: what becomes of the run if nobody interferes."""

    client: str
    chat: str
    params: Json
    ends: str
    says: str


def ask_demo(
    client: str, chat: str, words: list[str], pace: tuple[int, int], fails: bool, detached: bool
) -> Asked:
    delay, repeat = pace
    text, demo = "".join(words), {"delay_ms": delay, "repeat": repeat}
    if fails:
        demo["fail"] = "as it was asked to"
    params = {"agent": "demo", "input": text, "metadata": {"demo": demo}, "detached": detached}
    ends = "" if pace == HOURS else "failed" if fails else "succeeded"
    return Asked(client, chat, params, ends, text * repeat)


def ask_command(client: str, chat: str, script: tuple[str, str, str]) -> Asked:
    text, ends, says = script
    return Asked(client, chat, {"command": ["sh", "-c", text]}, ends, says)


clients = st.sampled_from(["ann", "bob"])
chats = st.sampled_from(["c1", "c2", "c3"])
numbers = st.integers(0, 99)
words = st.lists(st.sampled_from(["alpha ", "naïve ", "☃ ", "two words "]), min_size=1, max_size=3)
demos = st.builds(ask_demo, clients, chats, words, st.sampled_from(PACES), st.booleans(), st.booleans())
commands = st.builds(ask_command, clients, chats, st.sampled_from(SCRIPTS))
starts = demos | commands


@attrs.define(eq=False)
class Known:
    """A run whose start was answered."""

    id: str
    asked: Asked
    request: Json
    holder: str | None = None  # the client whose hang-up ends it
    stopped: bool = False
    left: bool = False
    crashed: bool = False
    settled_as: str = ""
    cursor: int = 0
    told: dict[int, Json] = attrs.Factory(dict)
    snapshots: list[tuple[int, str]] = attrs.Factory(list)

    def take(self, event: Json) -> None:
        """An event was delivered: whoever delivered it, and whenever, it is the same."""
        event = {name: value for name, value in event.items() if name != "subscription"}
        assert self.told.setdefault(event["seq"], event) == event

    def note(self, run: Json) -> None:
        """The daemon showed the run: a settled one never changes again."""
        assert run["id"] == self.id
        if run["status"] in TERMINAL:
            assert self.settled_as in {"", run["status"]}
            self.settled_as = run["status"]
        else:
            assert not self.settled_as, f"run {self.id} was {self.settled_as}, now {run['status']}"


@attrs.define(eq=False)
class Live:
    """A tail left open on a connection."""

    run: Known
    cursor: int
    end: Json | None = None


@attrs.define(eq=False)
class Client:
    """A connection and the tails it holds."""

    wire: Wire
    tails: dict[str, Live] = attrs.Factory(dict)

    def collect(self) -> None:
        """Take what was delivered so far: dense from the cursor on, and nothing after the end."""
        while self.wire.notifications:
            notification = self.wire.notifications.popleft()
            params = notification["params"]
            live = self.tails[params["subscription"]]
            assert live.end is None
            if notification["method"] == "run/tail_end":
                assert params["last_seq"] == live.cursor
                live.end = params
            else:
                assert params["seq"] == live.cursor + 1
                live.cursor = params["seq"]
                live.run.take(params)

    def read_to_end(self) -> None:
        """Read until the daemon is gone."""
        try:
            while True:
                self.wire._read_one()
        except (EOFError, ConnectionResetError):
            self.collect()


def attempt(wire: Wire, method: str, **params: Any) -> Json | WireError:
    """The answer, or the refusal."""
    try:
        return wire.call(method, **params)
    except WireError as error:
        return error


class Lifetime(RuleBasedStateMachine):
    """Two clients, three chats, one daemon."""

    daemon: Daemon
    examples: Iterator[int]

    def __init__(self) -> None:
        super().__init__()
        self.workspace = f"w{next(self.examples)}"
        self.connected: dict[str, Client] = {}
        self.runs: list[Known] = []
        self.keys = itertools.count(1)
        self.starts = 0  # since the daemon's last end

    # ---- starting

    @initialize(asked=starts)
    def start_first(self, asked: Asked):
        """Every rule finds a run."""
        self.start(asked)

    @rule(asked=starts)
    def start(self, asked: Asked):
        """A start is answered with a run, or with the run that is in its way."""
        self.starts += 1
        request = self.write_request(asked)
        answer = attempt(self.connect(asked.client).wire, "run/start", **request)
        if isinstance(answer, WireError):
            assert answer.type == "run_active"
            holder = self.find(answer.data["active_run_id"])
            assert holder.asked.chat == asked.chat
            assert not holder.settled_as, "a settled run held its chat"
        else:
            assert answer["created"]
            self.acknowledge(asked, request, answer["run"])

    def write_request(self, asked: Asked) -> Json:
        where = {"workspace": self.workspace, "chat_id": asked.chat}
        return {**asked.params, **where, "idempotency_key": f"k{next(self.keys)}"}

    def acknowledge(self, asked: Asked, request: Json, run: Json) -> Known:
        known = Known(run["id"], asked, request)
        known.holder = None if asked.params.get("detached", True) else asked.client
        known.note(run)
        self.runs.append(known)
        return known

    @rule(client=clients, number=numbers, other=st.booleans())
    def retry(self, client: str, number: int, other: bool):
        """A start with the key of an earlier one is that one, however often; with another input it is refused."""
        run = self.pick(number)
        wire = self.connect(client).wire
        if other:
            refusal = wire.refuse("run/start", **{**run.request, "input": "another"})
            assert refusal.type == "idempotency_mismatch"
        else:
            answer = wire.call("run/start", **run.request)
            assert not answer["created"]
            run.note(answer["run"])

    # ---- ending

    @rule(client=clients, number=numbers, by_chat=st.booleans(), seconds=st.sampled_from([0, 10]))
    def stop(self, client: str, number: int, by_chat: bool, seconds: int):
        """A stop is a no-op on a settled run, and otherwise ends it."""
        run = self.pick(number)
        where = {"workspace": self.workspace, "chat_id": run.asked.chat} if by_chat else {"run_id": run.id}
        answer = self.connect(client).wire.call("run/stop", **where, reason="enough", wait_seconds=seconds)
        run = self.find(answer["run"]["id"])
        if answer["outcome"] == "already_settled":
            assert answer["run"]["status"] in TERMINAL
        else:
            assert not run.settled_as
            assert answer["run"]["stop_requested_at"] is not None
            run.stopped = True
        if answer["outcome"] == "stopped":
            assert answer["run"]["status"] in TERMINAL
        assert answer["outcome"] != "stopping" or seconds == 0
        run.note(answer["run"])

    @rule(client=clients, number=numbers)
    def finish(self, client: str, number: int):
        """A run that has an end reaches it with nobody but a waiter there."""
        run = self.pick(number)
        if run.asked.ends or run.stopped or run.left:
            self.settle(self.connect(client), run)

    @rule(client=clients, half=st.booleans())
    def hang_up(self, client: str, half: bool):
        """A hang-up means nothing, except to the runs that were started with ``detached: false``."""
        if (gone := self.connected.pop(client, None)) is None:
            return
        for run in self.runs:
            run.left = run.left or run.holder == client
            run.holder = run.holder if run.holder != client else None
        if half:
            gone.wire.end_sending()
            gone.read_to_end()
            assert all(live.end for live in gone.tails.values())
        gone.collect()
        gone.wire.close()

    # ---- looking

    @rule(client=clients, number=numbers, seconds=st.sampled_from([0, 0.02]))
    def wait(self, client: str, number: int, seconds: float):
        """A wait is answered when the run is settled, or with its state."""
        run = self.pick(number)
        answer = self.connect(client).wire.call("run/wait", run_id=run.id, timeout_seconds=seconds)
        assert answer["settled"] == (answer["run"]["status"] in TERMINAL)
        run.note(answer["run"])

    @rule(client=clients, chat=chats)
    def look(self, client: str, chat: str):
        """A chat has exactly the runs that were acknowledged, in their order, and its latest is the last one."""
        wire, here = self.connect(client).wire, [run for run in self.runs if run.asked.chat == chat]
        where = {"workspace": self.workspace, "chat_id": chat}
        listed = wire.call("run/list", **where)["runs"]
        assert [run["id"] for run in listed] == [run.id for run in reversed(here)]
        assert len([run for run in listed if run["status"] not in TERMINAL]) <= 1
        latest = wire.call("run/latest", **where)["run"]
        assert (latest and latest["id"]) == (here[-1].id if here else None)

    @rule(client=clients, number=numbers, after=numbers)
    def read_from_anywhere(self, client: str, number: int, after: int):
        """A tail from any event, as far as the log goes."""
        run = self.pick(number)
        wire = self.connect(client).wire
        after %= wire.call("run/get", run_id=run.id)["run"]["last_seq"] + 1
        events, end = wire.tail(run.id, after_seq=after, follow=False)
        assert list_seqs(events) == list(range(after + 1, after + 1 + len(events)))
        assert end["last_seq"] == after + len(events)
        for event in events:
            run.take(event)

    @rule(client=clients, number=numbers)
    def read_on(self, client: str, number: int):
        """A tail from a cursor that was held, through hang-ups and crashes, goes on with the next event."""
        run = self.pick(number)
        wire = self.connect(client).wire
        tailed = wire.call("run/tail", run_id=run.id, after_seq=run.cursor)
        assert tailed["message"] is None
        events, end = wire.read_tail(tailed["subscription"], until=tailed["run"]["last_seq"] - run.cursor)
        if end is None:
            answer = attempt(wire, "run/untail", subscription=tailed["subscription"])
            assert answer == {} or answer.type == "not_found"  # it had ended by itself
            rest, end = wire.read_tail(tailed["subscription"])
            events += rest
        for event in events:
            assert event["seq"] == run.cursor + 1
            run.cursor = event["seq"]
            run.take(event)
        assert end is not None
        assert end["last_seq"] == run.cursor

    @rule(client=clients, number=numbers, snapshot=st.booleans())
    def follow(self, client: str, number: int, snapshot: bool):
        """A tail that stays open, with a snapshot of the message or from the beginning."""
        run = self.pick(number)
        held = self.connect(client)
        tailed = held.wire.call("run/tail", run_id=run.id, **({} if snapshot else {"after_seq": 0}))
        assert (tailed["message"] is not None) == snapshot
        if snapshot:
            run.snapshots.append((tailed["as_of_seq"], tailed["message"]["content"]))
        held.tails[tailed["subscription"]] = Live(run, tailed["as_of_seq"])

    # ---- the daemon

    @precondition(lambda self: self.starts >= 2)
    @rule(how=st.sampled_from(["term", "kill", "kill", "kill at a start", "kill after a start"]), asked=demos)
    def end_daemon(self, how: str, asked: Asked):
        """The daemon is stopped or dies, and is started again: every run is settled by then."""
        if how == "term":
            assert self.daemon.stop() == 0, self.daemon.read_log()
            self.return_after_end()
        elif how == "kill":
            self.daemon.kill()
            self.return_after_end()
        else:
            self.kill_at_start(asked, heard=how == "kill after a start")
        for run in self.runs:
            self.settle(self.connect("ann"), run, seconds=20 if run.asked is asked else 0)

    def kill_at_start(self, asked: Asked, *, heard: bool) -> None:
        """A start that was under way when the daemon died is made again with its key: there is one run, not two."""
        wire, request = self.connect(asked.client).wire, self.write_request(asked)
        request_id = wire.send("run/start", request)
        if heard:
            wire.wait_reply(wire.send("server/info"))  # by then it is in the journal's hands
        self.daemon.kill()
        self.return_after_end()
        reply = wire.replies.get(request_id, {})
        if "error" in reply:
            assert reply["error"]["data"]["type"] == "run_active"
            return
        answer = self.connect(asked.client).wire.call("run/start", **request)
        run = self.acknowledge(asked, request, answer["run"])
        run.crashed = not answer["created"]
        if "result" in reply:
            assert run.crashed
            assert reply["result"]["run"]["id"] == run.id
        if answer["created"] and not asked.ends:
            self.connect(asked.client).wire.call("run/stop", run_id=run.id)
            run.stopped = True

    def return_after_end(self) -> None:
        for client in self.connected.values():
            client.read_to_end()
            client.wire.close()
        self.connected.clear()
        for run in self.runs:
            run.crashed = run.crashed or not run.settled_as
            run.holder = None
        self.starts = 0
        self.daemon.start()

    # ---- what the rules share

    def connect(self, name: str) -> Client:
        if name not in self.connected:
            self.connected[name] = Client(self.daemon.connect())
        return self.connected[name]

    def pick(self, number: int) -> Known:
        return self.runs[number % len(self.runs)]

    def find(self, run_id: str) -> Known:
        [run] = [run for run in self.runs if run.id == run_id]
        return run

    def settle(self, client: Client, run: Known, seconds: float = 20) -> Json:
        answer = client.wire.call("run/wait", run_id=run.id, timeout_seconds=seconds)
        assert answer["settled"], f"run {run.id} is {answer['run']['status']}"
        run.note(answer["run"])
        return answer

    # ---- after every example

    def teardown(self):
        """End what is left, then compare everything with everything."""
        client = self.connect("ann")
        for run in self.runs:
            if not (run.settled_as or run.asked.ends):
                answer = client.wire.call("run/stop", run_id=run.id, wait_seconds=0)
                run.stopped = run.stopped or answer["outcome"] != "already_settled"
        for run in self.runs:
            answer = self.settle(client, run)
            log, _ = client.wire.tail(run.id)
            self.check_run(run, answer["run"], answer["message"], log)
        for each in self.connected.values():
            each.collect()
            while any(live.end is None for live in each.tails.values()):
                each.wire._read_one()
                each.collect()
            assert {live.end["reason"] for live in each.tails.values() if live.end} <= {"settled"}
            each.wire.close()
        ids = {run.id for run in self.runs}
        assert not find_run_processes(ids)
        wrong = check_history(self.daemon.database, acknowledged=ids, workspace=self.workspace)
        assert not wrong, "\n".join(wrong)

    def check_run(self, run: Known, row: Json, message: Json, log: list[Json]) -> None:
        for event in log:
            run.take(event)
        assert sorted(run.told) == list_seqs(log) == list(range(1, row["last_seq"] + 1))
        assert [event["seq"] for event in log if event["type"] == "run.settled"] == [row["last_seq"]]
        said = read_text(log)
        assert message["content"] == said
        for seq, content in run.snapshots:
            assert content == read_text(log[:seq])
        assert row["stop_requested_at"] is not None or not run.stopped
        if row["status"] != "aborted":
            assert (row["status"], said) == (run.asked.ends, run.asked.says)
            return
        assert run.asked.says.startswith(said)
        if row["stop_requested_at"] is None:
            assert row["error"]["code"] in {"owner_lost", "shutdown"}
            assert run.crashed
        else:
            assert row["error"] is None
            assert (row["stop_reason"] == "client_disconnected" and run.left) or run.stopped


@pytest.fixture
def lasting_daemon(postgres: Postgres, short_dir: Path) -> Iterator[Daemon]:
    """One home for all examples; its process is killed and started again by them."""
    daemon = Daemon(short_dir / "lifetime", database=postgres.create_database()).start()
    yield daemon
    assert daemon.stop() == 0, daemon.read_log()
    assert "Traceback" not in daemon.read_log(), daemon.read_log()


def test_whatever_happens_to_runs_their_promises_hold(lasting_daemon: Daemon, effort: Effort):
    """No order of starts, stops, hang-ups, tails and crashes breaks what the README promises of a run."""

    class Machine(Lifetime):
        daemon = lasting_daemon
        examples = itertools.count(1)

    if effort.seed is not None:
        hypothesis.seed(effort.seed)(Machine)
    run_state_machine_as_test(
        Machine,
        settings=hypothesis.settings(
            max_examples=effort.choose(40, 500),
            stateful_step_count=20,
            derandomize=effort.seed is None,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],  # a smaller example may well not fail: time is part of it
            suppress_health_check=list(hypothesis.HealthCheck),  # a real daemon is slow, and its log is long
        ),
    )
