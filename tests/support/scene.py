"""A fault test's scene: an audited database, its daemons, its callers, and the judgement at the end."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs
import psycopg

from outlived.store.history import Allowance
from tests.support.audit import begin_audit
from tests.support.daemon import Daemon
from tests.support.evidence import keep_evidence
from tests.support.figures import Figures
from tests.support.history import check_history, check_readers, list_unsettled
from tests.support.load import Habits, Load, list_told
from tests.support.processes import find_run_processes
from tests.support.waits import wait_until

LEASE, HEARTBEAT, SWEEP, ADOPT = 2.0, 0.3, 0.3, 1.0
BRISK = f"""
[owner]
lease_seconds = {LEASE}
heartbeat_seconds = {HEARTBEAT}
[sweep]
interval_seconds = {SWEEP}
[run]
grace_seconds = 1
drain_seconds = 0
adopt_seconds = {ADOPT}
"""
SOON = LEASE + ADOPT + 2 * SWEEP * 1.2 + 4.0
"""Seconds in which a living daemon settles what a dead one left: lease, the time in which that may come back for its
commands, two sweeps with their jitter, the two seconds for which a lock is waited for, and what a busy machine may take."""


@attrs.frozen
class OwnerState:
    """Its lease's end and what is ``left`` of it, in seconds; why it was declared ``dead``; ``replaced``: and nothing
    unsettled is its own."""

    until: float
    left: float
    dead: str | None
    replaced: bool


def read_instance(daemon: Daemon) -> str:
    """The id of the owner that the daemon is now."""
    with daemon.connect() as wire:
        return str(wire.call("server/info")["instance_id"])


@attrs.define(eq=False)
class Scene:
    """``name`` and ``seed`` name the evidence; ``make`` makes a daemon."""

    name: str
    seed: int
    database: str
    figures: Figures
    make: Callable[..., Daemon]
    daemons: list[Daemon] = attrs.Factory(list)
    load: Load | None = None
    kept: Path | None = None

    def __attrs_post_init__(self) -> None:
        begin_audit(self.database)

    @property
    def chance(self) -> random.Random:
        return random.Random(self.seed)

    def add_daemon(self, *, database: str | None = None, config: str = BRISK) -> Daemon:
        """One more daemon, not started, at the scene's database or on another way to it."""
        daemon = self.make(database or self.database, config)
        self.daemons.append(daemon)
        return daemon

    def add_daemons(self, number: int) -> list[Daemon]:
        """So many, started."""
        daemons = [self.add_daemon().start(wait=False) for _ in range(number)]
        for daemon in daemons:
            daemon.wait_ready()
        return daemons

    def read_owner(self, owner: str) -> OwnerState:
        """How that owner is, by the database's clock."""
        with psycopg.connect(self.database) as connection:
            row = connection.execute(
                "SELECT extract(epoch FROM lease_until)::float8,"
                " extract(epoch FROM lease_until - clock_timestamp())::float8, dead_reason,"
                " dead_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM outlived.runs"
                " WHERE owner = o.id AND finished_at IS NULL)"
                " FROM outlived.owners o WHERE id = %s",
                [owner],
            ).fetchone()
        assert row is not None, f"there is no owner {owner}"
        return OwnerState(*row)

    def open_load(self, chats: int, *, habits: Habits | None = None, timeout: float = 6.0) -> Load:
        """Callers of all daemons there are."""
        self.load = Load(self.daemons, chats=chats, seed=self.seed, habits=habits, timeout=timeout)
        return self.load

    def keep_evidence(self, wrong: list[str], acknowledged: Iterable[str] = ()) -> Path:
        """Keep everything that may explain what is wrong, once."""
        if self.kept is None:
            told = list_told(self.load) if self.load else {"acknowledged": sorted(acknowledged)}
            self.kept = keep_evidence(f"{self.name}-{self.seed}", self.database, self.daemons, wrong, told)
        return self.kept

    def conclude(self, acknowledged: Iterable[str] = ()) -> None:
        """Everything is settled in time, and nothing of what must hold was ever broken; else keep the evidence."""
        load = self.load
        known = {*acknowledged, *(load.run_ids if load else ())}
        wrong = self._await_settled()
        lost = [each for each in self._check(known) if each not in wrong]
        misread = check_readers(self.database, load.seen) if load else []
        left = find_run_processes(known)
        wrong += lost + misread
        wrong += [f"run {run_id}: process {pid} is left" for pid, run_id in left.items()]
        wrong += [
            f"daemon {number} has a traceback in its log: …{log[max(at - 300, 0) : at + 4000]}…"
            for number, daemon in enumerate(self.daemons)
            if (at := (log := daemon.read_log()).find("Traceback")) >= 0
        ]
        self._count(wrong, misread, known, load)
        if wrong:
            place = self.keep_evidence(wrong, known)
            shown = "\n".join(wrong[:20])
            raise AssertionError(f"{len(wrong)} wrong, seed {self.seed}, kept in {place}:\n{shown}")

    def _await_settled(self) -> list[str]:
        try:
            wait_until(lambda: not list_unsettled(self.database), SOON, "every run is settled")
        except AssertionError:
            unsettled = list_unsettled(self.database)
            return [f"run {run_id} is stuck: {status} after {SOON:g} s" for run_id, status in unsettled]
        return []

    def _check(self, known: set[str]) -> list[str]:
        return check_history(self.database, acknowledged=known, allowance=Allowance(SWEEP))

    def _count(self, wrong: list[str], misread: list[str], known: set[str], load: Load | None) -> None:
        figures = self.figures
        figures.add("acknowledged", len(known))
        figures.add(
            "events", sum(len(shown) for readers in load.seen.values() for shown in readers) if load else 0
        )
        signs = {
            "lost": "is not there",
            "double": "active runs",
            "stuck": "is stuck",
            "stale": "stale write",
            "misread": "its log",
        }
        for column, sign in signs.items():
            figures.add(column, sum(sign in each for each in wrong if each not in misread))
        figures.add("misread", len(misread))
        known_signs = (*signs.values(), "does not begin its log")
        figures.add("other", sum(not any(sign in each for sign in known_signs) for each in wrong))
