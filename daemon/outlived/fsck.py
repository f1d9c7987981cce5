"""``outlived fsck``: is what the database says true? Reads everything, changes nothing, says what must not be.

1. It works on any database that daemons have written, whether they run or not; a run that is being executed at
   this moment is no problem.
2. Problems go to stdout as they are found, progress to stderr when it takes long, the summary last.
3. Without a DSN it looks where ``outlived serve`` would: the environment, the settings, then the embedded
   Postgres below the state directory, if it is up. It starts nothing.

Not here: what must be true (``rules/history.py``, ``store/sql/history.sql``).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import attrs
import msgspec

from outlived.store.commands import name_server
from outlived.store.history import Allowance, Counts, open_snapshot
from outlived.store.postmaster import PidFile

PROGRESS_SECONDS = 5.0


class NothingToCheck(Exception):
    """There is no database to be found; the message says how to name one."""


def check(dsn: str, allowance: Allowance, *, as_json: bool) -> bool:
    """Check one database and say what is wrong with it; True if nothing is. Raises DatabaseLost, SchemaRefused."""
    found = 0
    with open_snapshot(dsn) as snapshot:
        for problem in snapshot.review(allowance, _Progress().tell):
            found += 1
            print(_encode(attrs.asdict(problem)) if as_json else problem, flush=True)
        print(_encode(_sum_up(snapshot.counts, found)) if as_json else _tell(snapshot.counts, found))
    return found == 0


def find_embedded(state_dir: Path) -> str:
    """The DSN of the embedded Postgres of a state directory, if it is up. Raises NothingToCheck."""
    data = state_dir / "postgres" / "data"
    if not data.exists():
        raise NothingToCheck(
            f"cannot find a database: there is none below {state_dir}; name one with --database DSN, "
            "or another state directory with --state-dir"
        )
    server = PidFile.read(data)
    if server is None or server.socket_directory is None:
        raise NothingToCheck(
            f"cannot check the database in {data}: its Postgres is not running. A daemon runs it: "
            "start one with `outlived serve`, then check"
        )
    return name_server(Path(server.socket_directory))


@attrs.define
class _Progress:
    """Says how far it is, every few seconds: people wait for it."""

    _said: float = attrs.Factory(time.monotonic)

    def tell(self, counts: Counts) -> None:
        if time.monotonic() - self._said > PROGRESS_SECONDS:
            self._said = time.monotonic()
            print(f"outlived: {counts.runs:,} runs and {counts.events:,} events so far", file=sys.stderr)


def _sum_up(counts: Counts, found: int) -> dict[str, object]:
    return {"clean": found == 0, "problems": found, **attrs.asdict(counts)}


def _tell(counts: Counts, found: int) -> str:
    state = "clean" if found == 0 else f"{found} problem{'s' if found > 1 else ''}"
    seen = f"{state}: {counts.runs:,} runs, {counts.events:,} events, {counts.unsettled:,} runs unsettled"
    waiting = f", {counts.orphaned:,} of them waiting for a daemon" if counts.orphaned else ""
    return seen + waiting


def _encode(value: object) -> str:
    return msgspec.json.encode(value).decode()
