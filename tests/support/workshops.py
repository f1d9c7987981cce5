"""Workshops of the tests: a real one, in a directory of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outlived.agents.watch import SpoolWatch
from outlived.agents.workshop import Workshop
from outlived.containment import Containment


def make_workshop(root: Path, *, max_spool_bytes: int = 64 << 20, on_full: str = "slow") -> Workshop:
    """A workshop without cgroups: what contains a run everywhere."""
    return Workshop(root, SpoolWatch(), Containment(), max_spool_bytes, on_full)  # type: ignore[arg-type]


@contextmanager
def open_workshop() -> Iterator[Workshop]:
    """A workshop in a directory that is removed afterwards."""
    root = Path(tempfile.mkdtemp(prefix="outlive-workshop-"))
    try:
        yield make_workshop(root / "spool")
    finally:
        shutil.rmtree(root, ignore_errors=True)
