"""A whole session of measuring, as a file: the machine, the options, every figure with its unit.

1. The file is JSON, indented, in a fixed order: two of them can be compared by eye, too.
2. What the machine is called is kept, what the user or the host is called is not.

Not here: showing it (``table.py``, ``page.py``).
"""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import attrs
import msgspec

from bench.figures import Figure

FORMAT = 1
ROOT = Path(__file__).parents[1]


class ReportRefused(Exception):
    """There is no such report, or it is none; the message says which file and why."""


@attrs.frozen
class Machine:
    """What was measured on, and what was measured. ``commit`` ends in "+" where the tree was changed since."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    filesystem: str
    postgres: str
    python: str
    commit: str


@attrs.frozen
class Report:
    """Figures by the name of their benchmark; ``broken``: why there are none, for those that were to be measured."""

    format: int
    at: str
    quick: bool
    repeat: int
    machine: Machine
    benchmarks: dict[str, list[Figure]]
    broken: dict[str, str]


def make_report(
    machine: Machine,
    benchmarks: dict[str, list[Figure]],
    broken: dict[str, str],
    *,
    quick: bool,
    repeat: int,
) -> Report:
    """What was found, just now."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Report(FORMAT, at, quick, repeat, machine, benchmarks, broken)


def describe_machine(directory: Path, postgres: str) -> Machine:
    """This machine; ``directory`` is where the database was, ``postgres`` its version."""
    return Machine(
        cpu=_read_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=platform.release(),
        filesystem=_find_filesystem(directory),
        postgres=postgres,
        python=platform.python_version(),
        commit=_find_commit(),
    )


def _read_field(path: Path, name: str) -> str:
    for line in path.read_text("utf-8", "replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _find_filesystem(directory: Path) -> str:
    """The kind of file system that a directory is on: on a tmpfs no commit costs anything."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    around = [(point, kind) for _, point, kind, *_ in mounts if directory.resolve().is_relative_to(point)]
    return max(around, key=lambda mount: len(mount[0]))[1] if around else ""


def _find_commit() -> str:
    """The tree's commit; empty where there is no git."""
    try:
        done = [
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done[0].stdout.strip() + ("+" if done[1].stdout.strip() else "")


def write_report(path: Path, report: Report) -> None:
    """Save it."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def read_report(path: Path) -> Report:
    """A saved one. Raises ReportRefused."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise ReportRefused(f"cannot read {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ReportRefused(f"cannot read {path}: it is no report of bench: {error}") from error
    if report.format != FORMAT:
        raise ReportRefused(f"cannot read {path}: its format is {report.format}, this bench knows {FORMAT}")
    return report
