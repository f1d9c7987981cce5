"""What is kept of a fault test that failed: every table, every daemon's log, what the callers did and were told."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg

from tests.support.daemon import Daemon

PLACE = Path(__file__).parents[2] / "build/faults"


def keep_evidence(name: str, dsn: str, daemons: Iterable[Daemon], wrong: list[str], told: Any) -> Path:
    """Write all of it into a directory of that name; the directory."""
    place = _make_place(name)
    (place / "wrong.txt").write_text("\n".join(wrong) + "\n", "utf-8")
    (place / "told.json").write_text(json.dumps(told, indent=1, default=str), "utf-8")
    for number, daemon in enumerate(daemons):
        if daemon.log.exists():
            shutil.copy(daemon.log, place / f"daemon-{number}.log")
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('outlived', 'audit')"
        ).fetchall()
        for schema, table in tables:
            copy = psycopg.sql.SQL("COPY {} TO STDOUT (FORMAT csv, HEADER)").format(
                psycopg.sql.Identifier(schema, table)
            )
            with (
                (place / f"{schema}.{table}.csv").open("wb") as file,
                connection.cursor().copy(copy) as rows,
            ):
                for row in rows:
                    file.write(row)
    return place


def _make_place(name: str) -> Path:
    place = PLACE / name
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    except OSError:  # somebody else's tree
        return Path(tempfile.mkdtemp(prefix=f"outlive-{name}-"))
    return place
