"""Writes what documentation repeats from the code: the lifecycle's table and diagram in docs/lifecycle.md.

    python docs/generate.py          write it
    python docs/generate.py --check  say whether it is current; exit status 1 if not

A page is written by hand but for its blocks ``<!-- generated: NAME -->`` … ``<!-- end -->``, which are replaced.

Not here: what the transitions are (``rules/lifecycle.py``).
"""

# ruff: noqa: INP001 - a script, not a module of a package

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from outlived.rules.lifecycle import ENDS, TRANSITIONS
from outlived.rules.run import Fact, Status

PAGE = Path(__file__).with_name("lifecycle.md")
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOTHING = "·"


def write_table() -> str:
    """A row for every fact, a column for every status that something can follow."""
    befores: list[Status | None] = [None, *(status for status in Status if status not in ENDS)]
    heads = ["fact", *("(no run)" if status is None else f"`{status}`" for status in befores)]
    rows = [[f"`{fact}`", *(_write_cell(status, fact) for status in befores)] for fact in Fact]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))


def _write_cell(status: Status | None, fact: Fact) -> str:
    after = TRANSITIONS.get((status, fact))
    if after is None:
        return NOTHING
    if after == ENDS:
        return "an end"
    return "stays" if after == (status,) else " or ".join(f"`{each}`" for each in after)


def write_diagram() -> str:
    """The changes of status, in Mermaid; facts that change nothing are left to the table."""
    arrows = [
        f"    {status or '[*]'} --> {target}: {fact}"
        for (status, fact), after in TRANSITIONS.items()
        for target in after
        if target != status
    ]
    ends = [f"    {end} --> [*]" for end in ENDS]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, *ends, "```"])


WRITERS: Mapping[str, Callable[[], str]] = {"transitions": write_table, "diagram": write_diagram}


def fill(page: str) -> str:
    """The page with its generated blocks as they should be. Raises ValueError for a page that lacks one."""
    found = {match[2] for match in BLOCK.finditer(page)}
    if found != set(WRITERS):
        raise ValueError(f"cannot fill the page: its blocks are {sorted(found)}, not {sorted(WRITERS)}")
    return BLOCK.sub(lambda match: f"{match[1]}\n{WRITERS[match[2]]()}\n\n{match[3]}", page)


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description="Write what the documentation repeats from the code.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    check = parser.parse_args().check
    page = PAGE.read_text("utf-8")
    filled = fill(page)
    if filled == page:
        return 0
    if check:
        sys.stderr.write(f"{PAGE.name} is not what the code says: run python docs/generate.py\n")
        return 1
    PAGE.write_text(filled, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
