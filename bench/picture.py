"""Draws latency against load, as an SVG file that needs nothing but itself.

1. Milliseconds are on a logarithmic scale, load on a linear one: a curve that bends is a daemon that queues.
2. Colours work on a light page and on a dark one; a figure is never told by colour alone.

Not here: measuring it (``curve.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from bench.figures import Figure
from bench.report import Report
from bench.table import write_number

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 70, 30, 52
GREY, P50, P99 = "#888888", "#2a9d5c", "#d9822b"

HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
    'font-family="sans-serif" font-size="13" role="img">'
)

Point = tuple[float, float]
"""Load in runs per second, milliseconds."""


def draw_curve(report: Report) -> str | None:
    """The picture of the benchmark ``curve``; None where it was not measured."""
    points = [figure for figure in report.benchmarks.get("curve", []) if figure.load and figure.p99]
    if not points:
        return None
    return _draw(sorted(points, key=_load))


def _load(figure: Figure) -> float:
    return figure.load or 0.0


def _draw(points: Sequence[Figure]) -> str:
    highest = max(figure.p99 or 0.0 for figure in points)
    lowest = min(min(figure.value, figure.limit.value if figure.limit else figure.value) for figure in points)
    bottom, top = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    right = _round_up(max(map(_load, points)))

    def x(load: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * load / right

    def y(milliseconds: float) -> float:
        part = (math.log10(milliseconds) - bottom) / max(1, top - bottom)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * part

    p50 = [(_load(figure), figure.value) for figure in points]
    p99 = [(_load(figure), figure.p99 or figure.value) for figure in points]
    limit = points[0].limit
    parts = [
        HEAD,
        "<title>Latency against load</title>",
        *(_draw_row(y(10.0**power), write_number(10.0**power)) for power in range(bottom, top + 1)),
        *(_draw_column(x(right * step / 5), write_number(right * step / 5)) for step in range(6)),
        _text(WIDTH / 2, HEIGHT - 10, "runs per second that arrive, of one step each", "middle"),
        _text(LEFT - 50, 18, "ms from due to settled", "start"),
        _draw_line(p50, x, y, P50, "p50"),
        _draw_line(p99, x, y, P99, "p99"),
    ]
    if limit:
        said = f"limit: {limit.name}, {write_number(limit.value)} ms"
        parts += [_draw_dashes(y(limit.value)), _text(LEFT + 8, y(limit.value) - 6, said, "start")]
    return "\n".join([*parts, "</svg>", ""])


def _round_up(value: float) -> float:
    """A round number for the end of an axis that is divided by five."""
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if unit * step >= value)


def _text(x: float, y: float, text: str, anchor: str, colour: str = GREY) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _draw_row(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GREY}" stroke-opacity="0.3"/>'
    return line + _text(LEFT - 8, y + 4, label, "end")


def _draw_dashes(y: float) -> str:
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GREY}" stroke-dasharray="6 4"/>'


def _draw_column(x: float, label: str) -> str:
    base = HEIGHT - BOTTOM
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 5}" stroke="{GREY}"/>'
    return line + _text(x, base + 20, label, "middle")


def _draw_line(
    points: Sequence[Point],
    x: Callable[[float], float],
    y: Callable[[float], float],
    colour: str,
    name: str,
) -> str:
    places = [(x(load), y(milliseconds)) for load, milliseconds in points]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
    dots = "".join(
        f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5" fill="{colour}"/>' for across, down in places
    )
    end = places[-1]
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}' + _text(
        end[0] + 10, end[1] + 4, name, "start", colour
    )
