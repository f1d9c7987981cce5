"""A page of the documentation as something that can be carried out.

What a fenced block is for is said by its info string, and where that does not suffice by a comment before it:

    ```console              a terminal: what stands behind `$ ` (and `> `, for further lines) is typed, the rest is seen
    ```sh                   typed as it stands, and must succeed; what is seen must match an ```output block behind it
    ```python title=a.py    a file of that name, in the page's directory
    ```toml append=a.toml   added to that file
    ```text                 looked at, not carried out: a drawing
    <!-- terminal: NAME -->        before a block: it happens in that terminal (else in ``first``), opened when needed
    <!-- close terminal: NAME -->  its window is closed
    <!-- needs: PROGRAM -->        before a block: left out where there is no such program
    <!-- elsewhere: FILE -->       before a block: carried out there, in the same words
    <!-- long: REASON -->          before a block: carried out only with --long, for this reason

In what is seen, ids, times, ages, pids and places match any others, and so do any numbers of spaces. `…` stands for anything within a line, and a line of nothing else for any number of lines. Where such a
line ends a block, the command goes on while other blocks happen; a block that begins without a command continues it.
`^C` is a line of its own, typed when everything before it has been seen; more may have come by then.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs/tutorial.md",
    ROOT / "docs/agents.md",
    ROOT / "docs/socket.md",
    *sorted((ROOT / "docs/how-to").glob("*.md")),
]
ROLES = {"console", "sh", "output", "text"}


@attrs.frozen
class Block:
    """One fenced block. ``words`` are those of its info string behind the language, ``line`` its first one's number."""

    page: Path
    line: int
    language: str
    words: dict[str, str]
    notes: dict[str, str]
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def addition(self) -> str | None:
        return self.words.get("append")

    @property
    def title(self) -> str | None:
        return self.words.get("title")


@attrs.frozen
class Command:
    """Something typed, and what is seen after it. Typed is None where a block continues a command."""

    where: str
    typed: str | None
    seen: list[str]


_FENCE = re.compile(r"^```(\w*) *(.*)$")
_NOTE = re.compile(r"^<!-- ([a-z ]+): (.*) -->$")


def read_blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in order. A note that stands before no block is one of its own, of language ``note``."""
    lines = iter(enumerate(page.read_text("utf-8").splitlines(), 1))
    notes: dict[str, str] = {}
    for number, line in lines:
        if note := _NOTE.match(line):
            if note[1].startswith("close"):
                yield Block(page, number, "note", {}, {note[1]: note[2]}, "")
            else:
                notes[note[1]] = note[2]
        elif fence := _FENCE.match(line):
            text = []
            for _, inner in lines:
                if inner == "```":
                    break
                text.append(inner)
            words = dict(word.partition("=")[::2] for word in fence[2].split())
            yield Block(page, number, fence[1], words, notes, "\n".join(text) + "\n")
            notes = {}
        elif line:
            notes = {}


def read_commands(block: Block) -> Iterator[Command]:
    """What a ``console`` block has typed, and seen."""
    typed: str | None = None
    seen: list[str] = []
    begun = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if begun:
                yield Command(block.where, typed, seen)
            typed, seen, begun = line[2:], [], True
        elif line.startswith("> ") and typed is not None and not seen:
            typed += "\n" + line[2:]
        else:
            seen.append(line)
            begun = True
    if begun:
        yield Command(block.where, typed, seen)


def read_lines(block: Block) -> list[str]:
    """What an ``sh`` block has typed: a line each, unless a backslash continues it."""
    lines = block.text.replace("\\\n", "\\\0").splitlines()
    return [line.replace("\0", "\n") for line in lines if line and not line.startswith("#")]


def match(expected: list[str], actual: list[str]) -> bool:
    """Whether what was seen is what the page shows."""
    seen = [line for line in _trim(actual) if not line.startswith(_SLOW)]
    pattern = "".join(r"(?:.*\n)*?" if line == "…" else f"{_pattern(line)}\n" for line in _trim(expected))
    return re.fullmatch(pattern, "".join(f"{_level(line)}\n" for line in seen)) is not None


_SLOW = "outlive: starting the daemon"
"""What is said on a machine that takes more than a second for it."""

_VARYING = {
    re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]*…?"): "<id>",
    re.compile(r"\b[0-9a-f]{8}\b"): "<short id>",
    re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+Z| UTC)"): "<time>",
    re.compile(r"^\d+ stopped$"): "<pid> stopped",
    re.compile(r"/\S*/outlived(\.sock|\.toml)\b"): r"<place>\1",
    re.compile(r"\b\d+ of \d+ s\b"): "<lease>",
    re.compile(r"\b\d+ (s|min)( ago)?\b"): "<age>",
    re.compile(r" {2,}"): " ",
}


def _level(line: str) -> str:
    """The line without what differs each time."""
    for varying, word in _VARYING.items():
        line = varying.sub(word, line)
    return line


def _pattern(line: str) -> str:
    return ".*?".join(re.escape(part) for part in _level(line).split("…"))


def _trim(lines: list[str]) -> list[str]:
    """Without empty lines at the end."""
    count = len(lines)
    while count and not lines[count - 1]:
        count -= 1
    return lines[:count]
