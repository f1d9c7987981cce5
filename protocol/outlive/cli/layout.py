"""Text in columns: tables that fit, sheets of fields, lengths of time, sizes.

1. A cell is one line and holds no control characters, whatever an agent called itself.
2. Widths are counted in the cells of a terminal: a CJK character or an emoji has two.
3. A table fits the width it is given by shortening what may be shortened; without a width nothing is.
4. Colours are put around cells that already have their width.

Not here: what a run, a chat or a daemon looks like (``render.py``), whether there are colours (``screen.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from outlive.strict_json import encode

Paint: TypeAlias = Callable[[str, str], str]
"""Puts a style (``bold red``) around a text, where there are colours."""
Style: TypeAlias = Callable[[int, str], str]
"""The style of a column's cell with this text."""

_GAP = "  "
_SHORTEST_CELL = 6


def plain(text: str, style: str) -> str:  # noqa: ARG001 - a Paint
    """The paint of a place without colours."""
    return text


def cells(text: str) -> int:
    """How many cells of a terminal this text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # late: most text is ASCII

    return cell_len(text)


def fit(text: str, size: int) -> str:
    """The text in exactly ``size`` cells; what is cut off shows as an ellipsis."""
    if text.isascii():
        return f"{text:<{size}}" if len(text) <= size else f"{text[: size - 1]}…"
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(text, size) if cell_len(text) <= size else f"{set_cell_size(text, size - 1)}…"


def one_line(value: object) -> str:
    """A text, or a value as JSON, with a blank for each character that is not printable."""
    text = value if isinstance(value, str) else encode(value).decode()
    return "".join(character if character.isprintable() else " " for character in text)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    flexible: Sequence[int] = (),
    *,
    spare: Sequence[int] = (),
    paint: Paint = plain,
    style: Style = lambda column, cell: "",  # noqa: ARG005 - no cell has a style
) -> list[str]:
    """Lines in columns that fit ``width``.

    The ``flexible`` columns are shortened, the widest first; where that is not enough, ``spare`` ones are left out.
    """
    lines = [[one_line(cell) for cell in row] for row in (head, *rows)]
    sizes = {column: max(cells(row[column]) for row in lines) for column in range(len(head))}
    if width is not None:
        _leave_out(sizes, width, flexible, spare)
        _shrink(sizes, width, flexible)
    return [_row(row, sizes, paint, style if number else _of_head) for number, row in enumerate(lines)]


def sheet(
    fields: dict[str, object], *, paint: Paint = plain, styles: dict[str, str] | None = None
) -> list[str]:
    """One line per field that has a value; a list has a line for each of its values."""
    given = {name: value for name, value in fields.items() if value is not None}
    widest = max((len(name) for name in given), default=0)
    lines = []
    for name, value in given.items():
        for number, one in enumerate(value if isinstance(value, list) else [value]):
            label = paint(f"{name if number == 0 else '':<{widest}}", "dim")
            lines.append(f"{label}{_GAP}{paint(one_line(one), (styles or {}).get(name, ''))}")
    return lines


def ago(timestamp: str | None, now: datetime | None = None) -> str:
    """How long ago, in the largest unit that says enough."""
    return "-" if timestamp is None else span(seconds_between(timestamp, now))


def seconds_between(earlier: str, later: str | datetime | None = None) -> float:
    """How long from one moment to another (or to now), never less than nothing."""
    if later is None:
        later = datetime.now(UTC)
    elif isinstance(later, str):
        later = datetime.fromisoformat(later)
    return max(0.0, (later - datetime.fromisoformat(earlier)).total_seconds())


def span(seconds: float) -> str:
    """A length of time: ``4 s``, ``12 min``, ``3 h``, ``5 d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def brief(seconds: float) -> str:
    """A length of time of which a thousandth matters: ``1.8 ms``, ``2.5 s``, ``12 min``."""
    if seconds >= 10:
        return span(seconds)
    number, unit = (seconds, "s") if seconds >= 1 else (seconds * 1000, "ms")
    digits = 0 if number >= 10 else 1 if number >= 1 else 2
    return f"{round(number, digits):g} {unit}"


def size(count: int) -> str:
    """A number of bytes: ``10 B``, ``1.5 MiB``."""
    for unit, bytes_of in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= bytes_of:
            return f"{count / bytes_of:.4g} {unit}"
    return f"{count} B"


def clock(seconds: float) -> str:
    """A length of time as it runs: ``0:07``, ``12:30``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def moment(timestamp: str | None) -> str | None:
    """A time as the clock on the wall shows it, and how long ago that was."""
    if timestamp is None:
        return None
    local = datetime.fromisoformat(timestamp).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S %Z} ({ago(timestamp)} ago)"


def _leave_out(sizes: dict[int, int], width: int, flexible: Sequence[int], spare: Sequence[int]) -> None:
    for column in spare:
        least = {
            name: min(size, _SHORTEST_CELL) if name in flexible else size for name, size in sizes.items()
        }
        if _total(least) <= width:
            return
        del sizes[column]


def _shrink(sizes: dict[int, int], width: int, flexible: Sequence[int]) -> None:
    while _total(sizes) > width:
        there = [column for column in flexible if column in sizes]
        column = max(there, key=lambda column: sizes[column], default=None)
        if column is None or sizes[column] <= _SHORTEST_CELL:
            return
        sizes[column] -= 1


def _total(sizes: dict[int, int]) -> int:
    return sum(sizes.values()) + len(_GAP) * (len(sizes) - 1)


def _row(row: Sequence[str], sizes: dict[int, int], paint: Paint, style: Style) -> str:
    cut = {column: fit(row[column], size) for column, size in sizes.items()}
    last = max(sizes)
    cut[last] = cut[last].rstrip()
    return _GAP.join(paint(text, style(column, row[column])) for column, text in cut.items()).rstrip()


def _of_head(column: int, cell: str) -> str:  # noqa: ARG001 - a style
    return "bold"
