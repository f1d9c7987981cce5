"""Two daemons and one client that do anything in any order, with kills and pauses between: a stateful machine.

The model knows little on purpose: which starts were acknowledged and what was shown. What must hold is what the history
checker and the audit say, after every step as far as it costs nothing, and of everything at the end.
"""

import signal
from collections.abc import Callable
from typing import Any, ClassVar

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.audit import read_wrongs
from tests.support.effort import Effort
from tests.support.history import check_readers
from tests.support.postgres import Postgres
from tests.support.scene import LEASE, Scene
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire, WireError

CHATS = ("a", "b", "c")
WORK: dict[str, Json] = {
    "words": {"agent": "demo", "input": "one two three", "metadata": {"demo": {"delay_ms": 5}}},
    "endless": {"agent": "demo", "input": "one two", "metadata": {"demo": {"delay_ms": 3_600_000}}},
    "a program": {"command": ["sh", "-c", "echo a; sleep 0.1; echo b"]},
    "a deaf one": {"command": ["sh", "-c", "trap '' TERM; echo a; sleep 600 & wait; wait; wait"]},
}
EXPECTED = {"run_active", "draining", "database_unavailable", "overloaded"}
DAEMONS = st.integers(0, 1)


class Play(RuleBasedStateMachine):
    """Each example has a database and two daemons of its own."""

    make_scene: ClassVar[Callable[[], Scene]]
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.scene = type(self).make_scene()
        self.daemons = self.scene.add_daemons(2)
        self.paused: set[int] = set()
        self.killed: set[int] = set()
        self.acknowledged: set[str] = set()
        self.shown: dict[str, list[list[Json]]] = {}
        self.keys = 0

    # ---- what a client does, at a daemon that may be dead or asleep

    def ask(self, number: int, method: str, **params: Any) -> Any:
        """A result, of the other one if this one cannot; None when both cannot, or with a refusal to be met here."""
        number = self.find_able(number)
        if number is None:
            return None
        try:
            with self.daemons[number].connect() as wire:
                return wire.call(method, **params)
        except WireError as error:
            assert error.type in EXPECTED, error
            return None

    def find_able(self, number: int) -> int | None:
        able = [each for each in (number, 1 - number) if each not in self.killed | self.paused]
        return able[0] if able else None

    def start(self, number: int, chat: str, work: str) -> str:
        self.keys += 1
        answer = self.ask(number, "run/start", **WORK[work], chat_id=chat, idempotency_key=f"{self.keys}")
        return self.learn(answer)

    # Hypothesis leaves rules out of an example: with one rule for all starts, most examples would have none.

    @initialize(target=runs, work=st.sampled_from(sorted(WORK)))
    def begin(self, work: str) -> str:
        return self.start(0, CHATS[0], work)

    @precondition(lambda self: self.find_able(0) is not None)
    @rule(target=runs, number=DAEMONS, chat=st.sampled_from(CHATS))
    def start_words(self, number: int, chat: str) -> str:
        return self.start(number, chat, "words")

    @precondition(lambda self: self.find_able(0) is not None)
    @rule(target=runs, number=DAEMONS, chat=st.sampled_from(CHATS), deaf=st.booleans())
    def start_a_program(self, number: int, chat: str, deaf: bool) -> str:
        return self.start(number, chat, "a deaf one" if deaf else "a program")

    @precondition(lambda self: self.find_able(0) is not None)
    @rule(target=runs, number=DAEMONS, chat=st.sampled_from(CHATS))
    def start_what_never_ends(self, number: int, chat: str) -> str:
        return self.start(number, chat, "endless")

    @precondition(lambda self: not self.killed | self.paused)
    @rule(target=runs, number=DAEMONS, chat=st.sampled_from(CHATS))
    def start_and_be_killed(self, number: int, chat: str) -> str:
        """The reply may be lost; the other one, or the next, is asked with the same key."""
        self.keys += 1
        params = {**WORK["words"], "chat_id": chat, "idempotency_key": f"{self.keys}"}
        with self.daemons[number].connect() as wire:
            wire.send("run/start", params)
            self.kill(number)
        return self.learn(self.ask(1 - number, "run/start", **params))

    def learn(self, answer: Json | None) -> str:
        if answer is None:
            return ""
        self.acknowledged.add(answer["run"]["id"])
        return str(answer["run"]["id"])

    @precondition(lambda self: self.acknowledged and self.find_able(0) is not None)
    @rule(number=DAEMONS, run_id=runs, wait=st.sampled_from([0, 0.2]))
    def stop(self, number: int, run_id: str, wait: float) -> None:
        if run_id:
            self.ask(number, "run/stop", run_id=run_id, wait_seconds=wait)

    @precondition(lambda self: self.acknowledged and self.find_able(0) is not None)
    @rule(number=DAEMONS, run_id=runs, after=st.integers(0, 3))
    def tail(self, number: int, run_id: str, after: int) -> None:
        """What there is, from a cursor; what came before it was seen by another reader."""
        number = self.find_able(number)
        if not run_id or number is None:
            return
        with self.daemons[number].connect() as wire:
            shown = read_tail(wire, run_id, after)
        if shown is not None:
            before = [] if after == 0 else self.read_beginning(run_id, after)
            self.shown.setdefault(run_id, []).append(before + shown)

    def read_beginning(self, run_id: str, count: int) -> list[Json]:
        with psycopg.connect(self.scene.database) as connection:
            rows = connection.execute(
                "SELECT seq, type, data::jsonb FROM outlived.events WHERE run_id = %s AND seq <= %s"
                " ORDER BY seq",
                [run_id, count],
            )
            return [{"seq": seq, "type": type_, "data": data} for seq, type_, data in rows]

    # ---- what happens to daemons

    @precondition(lambda self: not self.killed)
    @rule(number=DAEMONS)
    def kill(self, number: int) -> None:
        if number not in self.killed:
            self.daemons[number].kill()
            self.killed.add(number)
            self.paused.discard(number)
            self.scene.figures.add("daemon_kills")

    @precondition(lambda self: not self.killed)
    @rule()
    def kill_both(self) -> None:
        self.kill(0)
        self.kill(1)

    @precondition(lambda self: self.killed)
    @rule(number=DAEMONS)
    def restart(self, number: int) -> None:
        number = number if number in self.killed else 1 - number
        self.killed.discard(number)
        self.daemons[number].start()

    @precondition(lambda self: not self.paused)
    @rule(number=DAEMONS)
    def pause(self, number: int) -> None:
        if number not in self.killed:
            self.daemons[number].signal(signal.SIGSTOP)
            self.paused.add(number)
            self.scene.figures.add("pauses")

    @precondition(lambda self: self.paused)
    @rule(outlast=st.booleans())
    def resume(self, outlast: bool) -> None:
        """At once, or when its lease has run out."""
        for number in list(self.paused):
            if outlast:
                wait_until(lambda: not self.has_fresh_lease(number), 2 * LEASE, "the lease runs out")  # noqa: B023 - called at once
            self.wake(number)

    def has_fresh_lease(self, number: int) -> bool:
        with psycopg.connect(self.scene.database) as connection:
            row = connection.execute(
                "SELECT count(*) FROM outlived.owners WHERE pid = %s AND dead_at IS NULL"
                " AND lease_until > clock_timestamp()",
                [self.daemons[number].pid],
            ).fetchone()
        return bool(row and row[0])

    def wake(self, number: int) -> None:
        self.daemons[number].signal(signal.SIGCONT)
        self.paused.discard(number)

    # ---- what must hold

    @invariant()
    def nothing_forbidden_has_happened(self) -> None:
        assert read_wrongs(self.scene.database) == []
        assert check_readers(self.scene.database, self.shown) == []

    def teardown(self) -> None:
        try:
            for number in list(self.paused):
                self.wake(number)
            for number in list(self.killed):
                self.restart(number)
            for run_id in self.acknowledged:
                for number in (0, 1):
                    self.ask(number, "run/stop", run_id=run_id)
            self.scene.conclude(acknowledged=self.acknowledged)
        finally:
            for daemon in self.daemons:
                daemon.stop()


def read_tail(wire: Wire, run_id: str, after: int) -> list[Json] | None:
    """The events behind the cursor that are there now; None where the log has not come that far."""
    try:
        reply = wire.call("run/tail", run_id=run_id, after_seq=after, follow=False)
    except WireError as error:
        assert error.type in {*EXPECTED, "invalid_params"}, error
        return None
    events, end = wire.read_tail(reply["subscription"])
    assert end is not None
    assert end["reason"] in {"caught_up", "settled", "draining"}
    return events


def test_two_daemons_keep_every_promise(
    postgres: Postgres, make_scene: Callable[[str], Scene], effort: Effort, seed: int
):
    """Starts, stops, tails, kills, pauses and restarts in any order: no promise is ever broken."""
    Play.make_scene = staticmethod(lambda: make_scene(postgres.create_database()))
    run_state_machine_as_test(
        seeded(seed)(Play),
        settings=settings(
            max_examples=effort.choose(5, 200),
            stateful_step_count=effort.choose(14, 40),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
