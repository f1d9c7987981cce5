"""docs/reliability.md names the tests that prove its promises: they exist, and no promise is without one."""

import ast
import re

from tests.docs.pages import ROOT

PAGE = ROOT / "docs/reliability.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PROMISE = re.compile(r"^\*\*(\d)\. ", re.MULTILINE)


def test_every_test_that_is_named_exists():
    """A promise points at a test by file and name; renaming it must be seen here."""
    named = set(NAMED.findall(PAGE.read_text("utf-8")))
    assert len(named) > 20
    missing = {f"{file}::{name}" for file, name in named if name not in list_tests(file)}
    assert missing == set()


def list_tests(file: str) -> set[str]:
    """The test functions of a file; none if there is no such file."""
    path = ROOT / file
    if not path.exists():
        return set()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, functions)}


def test_every_promise_names_a_test():
    """The promises are numbered 1 to 8, and each has at least one test."""
    promises = PROMISE.split(PAGE.read_text("utf-8").partition("\n## Not promised")[0])[1:]
    numbers, texts = promises[::2], promises[1::2]
    assert numbers == [str(number) for number in range(1, 9)]
    assert [number for number, text in zip(numbers, texts, strict=True) if not NAMED.search(text)] == []
