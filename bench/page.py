"""Writes a report into a Markdown page, between two markers, and its picture beside the page.

    <!-- measured: begin -->
    …
    <!-- measured: end -->

So a page cannot disagree with the file it was written from. Prose is outside the markers, by hand.

Not here: the picture itself (``picture.py``), the same table for a terminal (``table.py``).
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.picture import draw_curve
from bench.report import Report, ReportRefused
from bench.table import HEAD, Row, make_rows, write_machine

BLOCK = re.compile(r"(<!-- measured: begin -->\n).*?(<!-- measured: end -->)", re.DOTALL)
NOTHING = "Nothing has been measured for this page yet.\n"


def write_page(path: Path, report: Report) -> None:
    """Replace what is between the page's markers; the picture goes beside it, ending in ``.svg``. Raises ReportRefused."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ReportRefused(f"cannot write into {path}: {error.strerror}") from error
    picture = path.with_suffix(".svg")
    drawn = draw_curve(report)
    new, found = BLOCK.subn(
        lambda match: match[1] + write_block(report, drawn and picture.name) + match[2], text
    )
    if found != 1:
        raise ReportRefused(
            f"cannot write into {path}: it has {found} blocks <!-- measured: begin -->, not one"
        )
    path.write_text(new, "utf-8")
    if drawn:
        picture.write_text(drawn, "utf-8")


def write_block(report: Report, picture: str | None) -> str:
    """What is between the markers."""
    parts = [write_machine(report) + "\n"]
    if picture:
        parts.append(f"![Latency against load]({picture})\n")
    for name, figures in report.benchmarks.items():
        parts.append(f"### {name}\n\n{_write_rows([HEAD, *make_rows(figures)])}")
    parts += [f"### {name}\n\nNot measured: {reason}\n" for name, reason in report.broken.items()]
    return "\n".join(parts)


def _write_rows(rows: list[Row]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)
