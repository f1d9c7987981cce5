"""Carry out a page: write its files, type its commands, and compare what is seen with what it shows."""

import os
import shutil
import sys
from pathlib import Path

import attrs
import pytest

from tests.docs.pages import Block, Command, match, read_blocks, read_commands, read_lines
from tests.docs.terminal import DEADLINE_SECONDS, Terminal
from tests.support.waits import wait_until


def make_environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a person with nothing: a home, and our programs on PATH."""
    runtime = home / "run"
    runtime.mkdir(parents=True, exist_ok=True)
    kept = ("LANG", "LC_ALL", "PATH", "SSL_CERT_FILE")
    here = str(Path(sys.executable).parent)
    return {
        "LANG": "C.UTF-8",
        **{name: os.environ[name] for name in kept if name in os.environ},
        "PATH": here + os.pathsep + os.environ["PATH"],
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_STATE_HOME": str(home / "state"),
        **variables,
    }


@attrs.define
class Stage:
    """Where a page happens. ``replace`` holds what the page must not say literally here, such as a port."""

    directory: Path
    environment: dict[str, str]
    columns: int = 100
    long: bool = False
    replace: dict[str, str] = attrs.Factory(dict)
    missing: set[str] = attrs.Factory(set)
    _terminals: dict[str, Terminal] = attrs.field(factory=dict, init=False)
    _pending: dict[str, list[str]] = attrs.field(factory=dict, init=False)

    def play(self, page: Path) -> None:
        """Carry out every block. Fails with the page's line where something else is seen."""
        blocks = [self._here(block) for block in read_blocks(page)]
        try:
            for block, following in zip(blocks, [*blocks[1:], None], strict=True):
                self._play(block, following)
        finally:
            for name in list(self._terminals):
                self._terminals.pop(name).close()

    def _here(self, block: Block) -> Block:
        text = block.text
        for old, new in self.replace.items():
            text = text.replace(old, new)
        return attrs.evolve(block, text=text)

    def _play(self, block: Block, following: Block | None) -> None:
        if "elsewhere" in block.notes or ("long" in block.notes and not self.long):
            return
        if (
            "needs" in block.notes
            and shutil.which(block.notes["needs"], path=self.environment["PATH"]) is None
        ):
            self.missing.add(block.notes["needs"])
            return
        terminal = block.notes.get("terminal", "first")
        if block.language == "note":
            self._terminals.pop(block.notes["close terminal"]).close()
        elif block.title is not None:
            (self.directory / block.title).write_text(block.text)
        elif block.addition is not None:
            with (self.directory / block.addition).open("a") as file:
                file.write(f"\n{block.text}")
        elif block.language == "console":
            *first, last = read_commands(block)
            for command in first:
                self._perform(terminal, command)
            self._perform(terminal, last, leave=last.seen[-1:] == ["…"])
        elif block.language == "sh":
            output = following.text.splitlines() if following and following.language == "output" else ["…"]
            *first, last = read_lines(block)
            for line in first:
                self._succeed(terminal, Command(block.where, line, ["…"]))
            self._succeed(terminal, Command(block.where, last, output))

    def _perform(self, name: str, command: Command, *, leave: bool = False) -> None:
        """Type what is to be typed and see the end of it, unless it is left while it goes on."""
        terminal = self._open(name)
        expected = self._pending.pop(name, [])
        if command.typed is not None:
            if expected:
                self._finish(terminal, command, expected)
                expected = []
            terminal.type(command.typed)
        for line in command.seen:
            if line == "^C":
                expected.append("…")
                self._wait(terminal, command, expected)
                terminal.press(b"\x03")
            expected.append(line)
        if leave:
            self._wait(terminal, command, expected)
            self._pending[name] = expected
        else:
            self._finish(terminal, command, expected)

    def _succeed(self, name: str, command: Command) -> None:
        terminal = self._open(name)
        terminal.type(command.typed or "")
        self._finish(terminal, command, command.seen)
        assert terminal.status == 0, _story(command, command.seen, terminal)

    def _open(self, name: str) -> Terminal:
        if name not in self._terminals:
            self._terminals[name] = Terminal(self.directory, self.environment, self.columns)
        return self._terminals[name]

    def _finish(self, terminal: Terminal, command: Command, expected: list[str]) -> None:
        try:
            terminal.wait_prompt()
        except AssertionError:
            pytest.fail("still running: " + _story(command, expected, terminal))
        if not match(expected, terminal.lines()):
            pytest.fail(_story(command, expected, terminal))

    def _wait(self, terminal: Terminal, command: Command, expected: list[str]) -> None:
        try:
            wait_until(lambda: match(expected, terminal.lines()), DEADLINE_SECONDS)
        except AssertionError:
            pytest.fail(_story(command, expected, terminal))


def _story(command: Command, expected: list[str], terminal: Terminal) -> str:
    shown, seen = ("".join(f"    {line}\n" for line in lines) for lines in (expected, terminal.lines()))
    return f"{command.where}: $ {command.typed}\nthe page shows\n{shown}but what is seen is\n{seen}"
