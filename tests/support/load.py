"""Callers under faults: each has a chat, starts a run in it, follows it to its end, starts the next one, through any
daemon that answers.

1. A start is repeated with its key until it is answered; all answers to one key name one run.
2. A reader goes on at any daemon where it was; what it was shown is kept, in order.
3. A refusal is only met with patience if it says that it is retryable. A chat is never busy: its run has ended.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Self, TypeVar

import attrs

from tests.support.daemon import Daemon
from tests.support.waits import wait_until
from tests.support.wire import Json, Wire, WireError

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.05


@attrs.frozen
class Habits:
    """How often the callers run programs, let a run be resumed, stop one. Times are of one word."""

    commands: float = 0.2
    resumes: float = 0.3
    stops: float = 0.1
    least_ms: int = 20
    most_ms: int = 120


class Load:
    """``with Load(daemons, chats=50, seed=1) as load``; at the end every caller finishes its run, then leaves."""

    def __init__(
        self,
        daemons: Sequence[Daemon],
        *,
        chats: int,
        seed: int,
        habits: Habits | None = None,
        timeout: float = 6.0,
    ) -> None:
        self._daemons = daemons
        self._chats = chats
        self._seed = seed
        self._habits = habits or Habits()
        self._timeout = timeout
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(chats)
        self._callers: list[Future[None]] = []
        self.acknowledged: dict[str, str] = {}
        """key -> run id"""
        self.seen: dict[str, list[list[Json]]] = {}
        """run id -> what each of its readers was shown"""
        self.settled = 0

    def __enter__(self) -> Self:
        self._callers = [self._pool.submit(self._call_on, number) for number in range(self._chats)]
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ended.set()
        self._pool.shutdown()
        if kind is None:
            for caller in self._callers:
                caller.result()

    @property
    def run_ids(self) -> set[str]:
        return set(self.acknowledged.values())

    def wait_more(self, count: int) -> None:
        """Wait until so many more runs were followed to their end; whatever has happened, work goes on."""
        wanted = self.settled + count
        wait_until(
            lambda: self.settled >= wanted or any(caller.done() for caller in self._callers),
            PATIENCE_SECONDS,
            f"{count} more runs end; {self.settled} have",
        )
        for caller in self._callers:
            if caller.done():
                caller.result()

    # ---- one caller

    def _call_on(self, number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        for turn in itertools.count():
            if self._ended.is_set():
                return
            key = f"c{number}.{turn}"
            run_id = self._start(chance, f"c{number}", key)
            if chance.random() < self._habits.stops:
                self._insist(
                    chance, lambda wire, run_id=run_id: wire.call("run/stop", run_id=run_id, reason="enough")
                )
            self._follow(chance, run_id)
            self.settled += 1

    def _start(self, chance: random.Random, chat: str, key: str) -> str:
        asked = {**self._choose_work(chance), "chat_id": chat, "idempotency_key": key}
        answer = self._insist(chance, lambda wire: wire.call("run/start", **asked))
        run_id = answer["run"]["id"]
        assert self.acknowledged.setdefault(key, run_id) == run_id
        return run_id

    def _choose_work(self, chance: random.Random) -> Json:
        work = self._choose_agent(chance)
        return {**work, "on_owner_loss": "resume"} if chance.random() < self._habits.resumes else work

    def _choose_agent(self, chance: random.Random) -> Json:
        delay = chance.randint(self._habits.least_ms, self._habits.most_ms)
        words = chance.randint(2, 10)
        if chance.random() < self._habits.commands:
            script = f"for i in $(seq {words}); do echo $i; sleep {delay / 1000}; done"
            return {"command": ["sh", "-c", script]}
        return {"agent": "demo", "input": "word " * words, "metadata": {"demo": {"delay_ms": delay}}}

    def _follow(self, chance: random.Random, run_id: str) -> None:
        """Read the run's log to its end, through whichever daemon answers."""
        shown: list[Json] = []
        self.seen.setdefault(run_id, []).append(shown)

        def read_on(wire: Wire) -> bool:
            wire.call("run/tail", run_id=run_id, after_seq=shown[-1]["seq"] if shown else 0)
            while True:
                told = wire.wait_notification()
                if told["method"] == "run/tail_end":
                    return told["params"]["reason"] == "settled"
                shown.append(told["params"])

        while not self._insist(chance, read_on):
            pass
        assert shown[-1]["type"] == "run.settled", f"run {run_id}: a tail ended at {shown[-1:]}"

    def _insist(self, chance: random.Random, ask: Callable[[Wire], T]) -> T:
        """Ask one daemon after the other until one answers."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            daemon = chance.choice(self._daemons)
            try:
                with daemon.connect(self._timeout) as wire:
                    return ask(wire)
            except (OSError, EOFError) as error:
                complaint: Exception = error
            except WireError as error:
                if not error.data.get("retryable"):
                    raise
                complaint = error
            assert time.monotonic() < deadline, f"nobody answers: {complaint!r}"
            with suppress(TimeoutError):
                self._ended.wait(PAUSE_SECONDS)


def list_told(load: Load) -> dict[str, Any]:
    """What the callers did and were told, for the evidence."""
    return {"acknowledged": load.acknowledged, "seen": load.seen}
