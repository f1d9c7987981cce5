"""What is printed: one table of everything, or of what changed since an earlier report.

1. A table is a list of rows of text; the first is the head. ``align`` is for a terminal, ``page.py`` writes Markdown.
2. A unit stands beside its number, three digits are enough.

Not here: what the figures mean (each benchmark's docstring).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.figures import Figure
from bench.report import Machine, Report

Row = Sequence[str]
HEAD = ("figure", "median", "p99", "CPU ms: daemon, Postgres, load", "limit", "ratio", "target", "")
CHANGE_HEAD = ("figure", "before", "now", "change", "p99 before", "p99 now", "ratio before", "ratio now")


def make_rows(figures: Iterable[Figure]) -> list[Row]:
    """A row for each figure, as in HEAD."""
    return [
        (
            figure.name + (f" ({figure.note})" if figure.note else ""),
            f"{write_number(figure.value)} {figure.unit}{_write_range(figure)}",
            write_number(figure.p99),
            ", ".join(write_number(figure.cpu.get(part)) or "-" for part in ("daemon", "postgres", "load"))
            if figure.cpu
            else "",
            f"{write_number(figure.limit.value)} {figure.limit.name}" if figure.limit else "",
            write_number(figure.ratio),
            figure.target.text if figure.target else "",
            {None: "", True: "met", False: "not met"}[figure.met],
        )
        for figure in figures
    ]


def make_changes(before: Iterable[Figure], now: Iterable[Figure]) -> list[Row]:
    """A row for each figure of either report, as in CHANGE_HEAD."""
    old, new = ({figure.name: figure for figure in figures} for figures in (before, now))
    return [_make_change(name, old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new])]


def _make_change(name: str, old: Figure | None, new: Figure | None) -> Row:
    def write(part: Callable[[Figure], float | None], figure: Figure | None) -> str:
        return write_number(part(figure)) if figure else ""

    change = f"{100 * (new.value / old.value - 1):+.1f} %" if old and new and old.value else ""
    if change and old and new and new.value != old.value:
        change += " better" if (new.value > old.value) == (new.better == "more") else " worse"
    either = new or old
    assert either is not None
    return (
        name,
        f"{write(lambda each: each.value, old)} {either.unit}" if old else "",
        f"{write(lambda each: each.value, new)} {either.unit}" if new else "",
        change,
        write(lambda each: each.p99, old),
        write(lambda each: each.p99, new),
        write(lambda each: each.ratio, old),
        write(lambda each: each.ratio, new),
    )


def write_number(value: float | None) -> str:
    """Three digits that count, or all before the point."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.2g}"


def _write_range(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f" ({write_number(figure.low)}-{write_number(figure.high)})"


def write_report_table(report: Report) -> str:
    """Everything of one report."""
    sections = {name: make_rows(figures) for name, figures in report.benchmarks.items()}
    missing = [f"\n{name}: not measured: {reason}" for name, reason in report.broken.items()]
    return "\n".join([write_machine(report), "", align(HEAD, sections), *missing])


def write_change_table(before: Report, now: Report) -> str:
    """What changed, for the benchmarks that both have."""
    names = [name for name in now.benchmarks if name in before.benchmarks]
    sections = {name: make_changes(before.benchmarks[name], now.benchmarks[name]) for name in names}
    head = f"before: {write_machine(before)}\nnow:    {write_machine(now)}"
    return f"{head}\n\n{align(CHANGE_HEAD, sections)}"


def write_machine(report: Report) -> str:
    """One line about what was measured on, and how."""
    machine: Machine = report.machine
    quick = "quick, " if report.quick else ""
    times = "once" if report.repeat == 1 else f"{report.repeat} times"
    return (
        f"{machine.cores} cores of {machine.cpu}, {machine.memory_gib:g} GiB, {machine.filesystem}, "
        f"Linux {machine.kernel}, Postgres {machine.postgres}, Python {machine.python}, "
        f"commit {machine.commit or 'unknown'}, {quick}{times}, {report.at}"
    )


def align(head: Row, sections: dict[str, list[Row]]) -> str:
    """The rows in columns, each section under its name."""
    rows = [head, *(row for section in sections.values() for row in section)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]

    def write(row: Row) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    lines = [write(head)]
    for name, section in sections.items():
        lines += ["", name, *map(write, section)]
    return "\n".join(lines)
