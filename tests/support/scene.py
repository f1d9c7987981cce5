"""A fault test's scene: an audited database, its daemons, its callers, and the judgement at the end."""

import random
from collections.abc import Callable, Iterable

import attrs

from outlived.store.history import Allowance
from tests.support.audit import begin_audit
from tests.support.daemon import Daemon
from tests.support.evidence import keep_evidence
from tests.support.figures import Figures
from tests.support.history import check_history, check_readers, list_unsettled
from tests.support.load import Load, list_told
from tests.support.processes import find_run_processes
from tests.support.waits import wait_until

LEASE, HEARTBEAT, SWEEP = 2.0, 0.3, 0.3
BRISK = f"""
[owner]
lease_seconds = {LEASE}
heartbeat_seconds = {HEARTBEAT}
[sweep]
interval_seconds = {SWEEP}
[run]
grace_seconds = 1
drain_seconds = 0
"""
SOON = LEASE + 2 * SWEEP * 1.2 + 4.0
"""Seconds in which a living daemon settles what a dead one left: lease, two sweeps with their jitter, the two seconds
for which a lock is waited for, and what a busy machine may take."""

_COLUMNS = {"slot": "double", "stuck": "stuck", "gap": "misread", "settled": "misread", "epoch": "misread"}


@attrs.define(eq=False)
class Scene:
    """``name`` and ``seed`` name the evidence; ``make`` makes a daemon."""

    name: str
    seed: int
    database: str
    figures: Figures
    make: Callable[..., Daemon]
    daemons: list[Daemon] = attrs.Factory(list)

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

    def conclude(self, load: Load | None = None, acknowledged: Iterable[str] = ()) -> None:
        """Everything is settled in time, and nothing of what must hold was ever broken; else keep the evidence."""
        known = {*acknowledged, *(load.run_ids if load else ())}
        wrong = self._await_settled()
        lost = [each for each in self._check(known) if each not in wrong]
        misread = check_readers(self.database, load.seen) if load else []
        left = find_run_processes(known)
        wrong += lost + misread
        wrong += [f"run {run_id}: process {pid} is left" for pid, run_id in left.items()]
        wrong += [
            f"daemon {number} has a traceback in its log"
            for number, daemon in enumerate(self.daemons)
            if "Traceback" in daemon.read_log()
        ]
        self._count(wrong, misread, known, load)
        if wrong:
            told = list_told(load) if load else {"acknowledged": sorted(known)}
            place = keep_evidence(f"{self.name}-{self.seed}", self.database, self.daemons, wrong, told)
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
