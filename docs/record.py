"""Records docs/survives.svg: a run whose client is killed with ``kill -9``, and a second client that sees all of it.

    python docs/record.py [FILE [PACE]]

PACE 0.5 makes everything happen twice as fast. It is a real session: two shells in two pseudo-terminals, and a
daemon in a directory that is removed afterwards. What is on the two screens is drawn; each line appears when it
appeared. A viewer that does not animate shows the end.

Not here: what the pages show as text (tests/docs types it).
"""

# ruff: noqa: INP001 - a script, not a module of a package

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import attrs
import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.docs.play import make_environment  # noqa: E402 - found only from here on
from tests.docs.terminal import open_shell  # noqa: E402

T = TypeVar("T")

COLUMNS = 68
PAUSE = 0.03
DEADLINE_SECONDS = 60.0
THEME = TerminalTheme(
    (24, 26, 31),
    (216, 219, 226),
    [(60, 64, 72), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194), (216, 219, 226)],
    [(120, 126, 138), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194), (255, 255, 255)],
)  # fmt: skip
KEY_SECONDS = 0.025
WAIT = "while [ ! -e gone-on ]; do sleep 0.05; done"
"""The rest is said when the second client has come, however long that takes on this machine."""
SAID = [
    (0.4, "reading sweep.py, lease.py and their tests"),
    (1.2, "running the tests: 2 of 41 fail"),
    (1.2, "lease.py: an expired lease was renewed after the takeover"),
    (WAIT, "lease.py: renew only while dead_at is null"),
    (1.2, "running the tests: 1 of 41 fails"),
    (1.2, "sweep.py: never judge our own row"),
    (1.4, "running the tests: 41 passed"),
]
"""What stands for a coding agent says, and how many seconds it takes for each line, or what it waits for."""

# Each window as rich draws it, without the fonts that rich would fetch.
WINDOW = """<svg x="0" y="{{y}}" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  line-height: {line_height}px; }}
.{unique_id}-title {{ font: bold 15px ui-sans-serif, system-ui, "DejaVu Sans", sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


class Screen(pyte.Screen):
    """A screen that knows dim: a grey."""

    def select_graphic_rendition(self, *attributes: int) -> None:
        changed = [new for old in attributes or (0,) for new in {2: (90,), 22: (22, 39)}.get(old, (old,))]
        super().select_graphic_rendition(*changed)


@attrs.define
class Window:
    """A shell, its screen, and when each line of the screen came to be what it is."""

    name: str
    title: str
    lines: int
    began: float
    _master: int
    shell: subprocess.Popen[bytes]
    screen: Screen = attrs.field(init=False)
    changed: dict[int, float] = attrs.Factory(dict)
    _before: list[str] = attrs.Factory(list)
    _stream: pyte.ByteStream = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.screen = Screen(COLUMNS, self.lines)
        self._stream = pyte.ByteStream(self.screen)

    def type(self, text: str, key_seconds: float) -> None:
        """Type a line as a person does, and press return."""
        for key in f"{text}\n":
            os.write(self._master, key.encode())
            time.sleep(key_seconds)
            self.look()

    def look(self) -> str:
        """Take in what was written; what is on the screen."""
        try:
            while chunk := os.read(self._master, 1 << 16):
                self._stream.feed(chunk)
        except (BlockingIOError, OSError):
            pass
        now = [row.rstrip() for row in self.screen.display]
        for number, row in enumerate(now):
            if row and row != (self._before[number] if self._before else ""):
                self.changed[number] = time.monotonic() - self.began
        self._before = now
        return "\n".join(now)

    def close(self) -> None:
        os.close(self._master)
        self.shell.wait(10)


def record(pace: float) -> list[Window]:
    """Play the scene; both windows as they were at its end."""
    with tempfile.TemporaryDirectory(prefix="ol-", dir="/tmp") as place:
        home = Path(place)
        lines = [
            f"{pause if isinstance(pause, str) else f'sleep {pause * pace}'}; echo '{line}'\n"
            for pause, line in SAID
        ]
        (home / "agent").write_text("#!/bin/sh\n" + "".join(lines))
        (home / "agent").chmod(0o755)
        environment = {**make_environment(home), "PS1": r"\[\e[1;32m\]$ \[\e[0m\]"}
        # A client that is killed cannot erase its status line, so the one that will be gets a terminal without.
        terms = {"one": "dumb", "two": "xterm-256color"}
        outlive = [sys.executable, "-m", "outlive"]
        subprocess.run([*outlive, "daemon", "start"], env=environment, check=True, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        windows = [
            Window(
                name,
                title,
                lines,
                began,
                *open_shell(home, {**environment, "TERM": terms[name]}, (lines, COLUMNS)),
            )
            for name, title, lines in (("one", "one terminal", 7), ("two", "another terminal", 11))
        ]
        try:
            perform(*windows, KEY_SECONDS * pace, home / "gone-on")
        finally:
            for window in windows:
                window.close()
            subprocess.run(
                [*outlive, "daemon", "stop"], env=environment, check=True, stdout=subprocess.DEVNULL
            )
    return windows


def perform(one: Window, two: Window, key_seconds: float, gone_on: Path) -> None:
    """The scene. The agent says its second half once ``gone_on`` exists."""

    def wait(window: Window, words: str) -> None:
        wait_for(lambda: (one.look(), two.look()) and words in window.look(), words)

    wait(one, "$")
    one.type("outlive run -- ./agent 'make the tests pass'", key_seconds)
    wait(one, "an expired lease")
    client = find_child(one.shell.pid)
    two.type(f"kill -9 {client}     # the client in the other terminal", key_seconds)
    wait(one, "Killed")
    two.type("outlive tail @last", key_seconds)
    wait(two, "an expired lease")
    time.sleep(30 * key_seconds)  # to let it be seen that this is not the end
    gone_on.touch()
    wait(two, "succeeded\n$")


def find_child(pid: int) -> int:
    """The one child of a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    (child,) = wait_for(lambda: children.read_text().split(), "the client")
    os.kill(int(child), 0)
    return int(child)


def wait_for(condition: Callable[[], T], what: str) -> T:
    """The condition's first true value."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"cannot record: {what!r} did not happen")
        time.sleep(PAUSE)
    return value


def draw(windows: list[Window]) -> str:
    """One picture, the windows one below the other."""
    parts, y, width = [], 0.0, 0.0
    for window in windows:
        svg = draw_window(window)
        found = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg)
        assert found is not None
        parts.append(svg.replace("{y}", f"{y:.1f}"))
        width, y = max(width, float(found[1])), y + float(found[2]) + 4
    times = "\n".join(
        f'text[clip-path="url(#{window.name}-line-{number})"] {{ animation: appear 0.01s {at:.2f}s backwards; }}'
        for window in windows
        for number, at in sorted(window.changed.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {y:.0f}" role="img">\n'
        "<title>A run that survives kill -9 of its client</title>\n"
        f"<style>\n@keyframes appear {{ from {{ opacity: 0; }} }}\n"
        f"@media (prefers-reduced-motion: no-preference) {{\n{times}\n}}\n</style>\n{''.join(parts)}</svg>\n"
    )


def draw_window(window: Window) -> str:
    """A window by rich."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for number in range(window.lines):
        console.print(read_row(window.screen, number), soft_wrap=True)
    svg = console.export_svg(title=window.title, theme=THEME, code_format=WINDOW, unique_id=window.name)
    svg = re.sub(r"<text [^>]*>\n</text>", "", svg)  # the ends of lines
    return re.sub(r"\s*\n\s*", "\n", svg)


def read_row(screen: Screen, number: int) -> Text:
    """A row with its colours."""
    cells = (screen.buffer[number][column] for column in range(COLUMNS))
    row = Text()
    for style, alike in groupby(cells, read_style):
        row.append("".join(cell.data for cell in alike), style)
    row.rstrip()
    return row


def read_style(cell: pyte.screens.Char) -> Style:
    """What rich calls the look of a cell."""
    colour = cell.fg.replace("brown", "yellow").replace("bright", "bright_")
    return Style(color=None if colour == "default" else colour, bold=cell.bold, italic=cell.italics)


def main(file: str = str(Path(__file__).with_name("survives.svg")), pace: str = "1") -> None:
    """Record, and write the picture."""
    Path(file).write_text(draw(record(float(pace))), "utf-8")
    sys.stdout.write(f"wrote {file}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
