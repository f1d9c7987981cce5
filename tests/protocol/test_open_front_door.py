"""The front door: the names that applications import from ``outlive``."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import outlive
from outlive.errors import BY_TYPE


def test_every_name_is_there():
    """Each promised name can be had, and type checkers are told of the same names."""
    assert all(getattr(outlive, name) is not None for name in outlive.__all__)
    (for_checkers,) = [
        node for node in ast.parse(Path(outlive.__file__).read_text()).body if isinstance(node, ast.If)
    ]
    told = [alias.name for statement in for_checkers.body for alias in statement.names]
    assert sorted(told) == outlive.__all__ == sorted(outlive.__all__)


def test_each_error_has_a_class_at_the_door():
    """For every data.type of the contract there is a class to catch, with its own name."""
    assert {kind.type for kind in BY_TYPE.values()} == BY_TYPE.keys()
    for kind in BY_TYPE.values():
        assert getattr(outlive, kind.__name__) is kind


def test_other_names_are_not():
    """A name that is not promised is an AttributeError, and so an ImportError."""
    with pytest.raises(AttributeError, match="'outlive' has no attribute 'nothing'"):
        outlive.nothing  # noqa: B018
    with pytest.raises(ImportError):
        from outlive import anyio  # noqa: F401


def test_words_alone_load_no_client():
    """The daemon may use types and errors without loading the client's libraries."""
    script = "import sys; from outlive import NotFound, Run; print('anyio' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert ran.stdout == "False\n"
