"""What may stand at the cursor of a command line: ``outlive __complete``, which the shells ask behind TAB.

    outlive __complete words WORD … CURRENT
    outlive __complete bash NAME LINE BREAKS TYPE

1. The answer is one candidate per line, a tab and its description behind it; or one line with a colon, which hands the
   question back to the shell: ``:files``, ``:directories``, ``:command`` (what stands behind ``--``).
2. What is fixed is read from the parsers. Runs, chats, agents and workspaces are asked from the daemon (``ask.py``).
3. Where nobody answers there is nothing to complete: never an error, never a daemon started.

Not here: the shells' own halves (``shells/``), which ``completion.py`` prints.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
from collections.abc import Sequence

import attrs

from outlive.cli import outcome
from outlive.cli.arguments import Parser
from outlive.cli.ask import Candidate, Question, candidates
from outlive.cli.layout import cells, fit, one_line
from outlive.cli.screen import Screen
from outlive.methods import METHODS

_FILES, _DIRECTORIES, _COMMAND = (":files", ""), (":directories", ""), (":command", "")
_DIRECTIVES = (_FILES, _DIRECTORIES, _COMMAND)
_BY_SHELL = {"socket": _FILES, "cwd": _DIRECTORIES}
_FREE_TEXT = {"input"}  # there is nothing to offer; options are what else may stand there
_MENU = {"37", "42"}  # "%" and "*": bash inserts candidates as they are, their descriptions too
_MARK = "\ue000"  # stands at the cursor while a line is cut into words; nobody types it


@attrs.define
class Spot:
    """Where the cursor is: ``words`` have been read up to there."""

    parser: Parser
    places: list[argparse.Action]  # the arguments without a name that are still to come
    given: dict[str, list[str]] = attrs.Factory(dict)
    option: argparse.Action | None = None  # whose value comes next
    ours: bool = True  # not behind "--", nor behind a word that makes no sense


def answer(arguments: Sequence[str], screen: Screen, parser: Parser) -> int:
    """Answer a shell."""
    match arguments:
        case ["words", *words]:
            for value, description in complete(parser, words or [""]):
                directive = (value, description) in _DIRECTIVES
                screen.line(value if directive else f"{value}\t{one_line(description)}")
        case ["bash", name, line, breaks, kind]:
            words = split(line, name)
            for text in for_bash(complete(parser, words), words[-1], breaks, kind):
                screen.line(text)
    return outcome.SUCCEEDED


def complete(parser: Parser, words: Sequence[str]) -> list[Candidate]:
    """The candidates for the last of these words."""
    *before, current = words
    spot = Spot(parser, _places(parser))
    for word in before:
        if word == "--" and before[0] == "run" and spot.option is None:
            return [_COMMAND]
        _read(spot, word)
    if not spot.ours:
        return []
    prefix = ""
    name, equals, value = current.partition("=")
    if spot.option is None and equals and (option := _option(spot.parser, name)):
        spot.option, prefix, current = option, f"{name}=", value
    found = _candidates(spot, current)
    if found and found[0] in _DIRECTIVES:
        return found
    return [(prefix + value, description) for value, description in found if value.startswith(current)]


def _read(spot: Spot, word: str) -> None:
    """Go on by one word."""
    if spot.option is not None:
        spot.given.setdefault(spot.option.dest, []).append(word)
        spot.option = None
    elif word.startswith("-") and len(word) > 1:
        name, equals, value = word.partition("=")
        option = _option(spot.parser, name)
        if option is not None and equals:
            spot.given.setdefault(option.dest, []).append(value)
        elif option is not None and option.nargs != 0:
            spot.option = option
    elif spot.places:
        _read_place(spot, spot.places[0], word)


def _read_place(spot: Spot, place: argparse.Action, word: str) -> None:
    if not isinstance(place, argparse._SubParsersAction):  # noqa: SLF001 - it has no public name
        spot.given.setdefault(place.dest, []).append(word)
        if place.nargs not in {"+", "*"}:
            del spot.places[0]
    elif word in place.choices:
        spot.parser = place.choices[word]
        spot.places = _places(spot.parser)
    else:
        spot.ours = False


def _candidates(spot: Spot, current: str) -> list[Candidate]:
    if spot.option is not None:
        return _values(spot, spot.option, current)
    if current.startswith("-"):
        return _options(spot.parser)
    if spot.places and spot.places[0].dest not in _FREE_TEXT:
        return _values(spot, spot.places[0], current)
    return [] if current else _options(spot.parser)


def _values(spot: Spot, argument: argparse.Action, current: str) -> list[Candidate]:
    if isinstance(argument, argparse._SubParsersAction):  # noqa: SLF001 - it has no public name
        return [(name, (parser.description or "").rstrip(".")) for name, parser in argument.choices.items()]
    if argument.choices is not None:
        return [(str(choice), "") for choice in argument.choices]
    if argument.dest in _BY_SHELL:
        return [_BY_SHELL[argument.dest]]
    if argument.dest == "method":
        return [(method, "") for method in METHODS]
    return candidates(Question(argument.dest, spot.parser.prog.split()[-1], current, spot.given))


def _options(parser: Parser) -> list[Candidate]:
    found = [
        (each.option_strings[-1], each.help or "")
        for each in parser.list_arguments()
        if each.option_strings and each.dest != "help"
    ]
    behind = [("--", "the command to run")] if parser.prog == "outlive run" else []
    return [*behind, *found, ("--help", "show what there is")]


def _option(parser: Parser, name: str) -> argparse.Action | None:
    return next((each for each in parser.list_arguments() if name in each.option_strings), None)


def _places(parser: Parser) -> list[argparse.Action]:
    return [each for each in parser.list_arguments() if not each.option_strings]


# ---------------------------------------------------------------- bash


def split(line: str, name: str) -> list[str]:
    """The words behind the command's name, the last one as far as it is typed; bash's own are cut at ``:=@``."""
    for closing in ("", '"', "'"):
        try:
            *words, last = shlex.split(line + _MARK + closing)
        except ValueError:
            continue
        words.append(last.removesuffix(_MARK))
        return words[words.index(name) + 1 :] if name in words[:-1] else words[1:] or [""]
    return [""]


def for_bash(found: Sequence[Candidate], current: str, breaks: str, kind: str) -> list[str]:
    """Lines for COMPREPLY: a single one as it is inserted; several, which bash lists, with their descriptions."""
    if found and found[0] in _DIRECTIVES:
        return [found[0][0]]
    # bash replaces what stands behind the last break, and these two breaks themselves.
    ends = [current.rfind(each) + (each not in "$@") for each in breaks if each in current]
    done = max(ends, default=0)
    short = [(value[done:], one_line(description)) for value, description in found]
    if len(short) == 1 or kind in _MENU:
        return [value for value, _ in short]
    widest = max((cells(value) for value, _ in short), default=0)
    columns = shutil.get_terminal_size().columns - 1
    lines = [f"{fit(value, widest)}  ({text})" if text else value for value, text in short]
    return [line if cells(line) <= columns else fit(line, columns) for line in lines]
