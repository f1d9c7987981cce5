"""In CI a skipped test is a failed one, unless ``tests/allowed_skips.txt`` names it and says why."""

import os
from fnmatch import fnmatch
from pathlib import Path

import pytest

LIST = Path(__file__).parents[1] / "allowed_skips.txt"


class SkipWatch:
    """A pytest plugin: remembers what was skipped, and judges it at the end."""

    def __init__(self) -> None:
        self.skipped: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skipped[report.nodeid] = reason

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped[report.nodeid] = str(report.longrepr)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        refused = refuse(self.skipped)
        if os.environ.get("CI") and refused and not hasattr(session.config, "workerinput"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            for nodeid, reason in refused.items():
                print(f"\nskipped, but not on the list {LIST.name}: {nodeid}: {reason}")


def refuse(skipped: dict[str, str]) -> dict[str, str]:
    """Those that are not on the list."""
    allowed = [line.split("#")[0].strip() for line in LIST.read_text("utf-8").splitlines()]
    patterns = [pattern for pattern in allowed if pattern]
    return {
        nodeid: reason
        for nodeid, reason in skipped.items()
        if not any(fnmatch(nodeid, pattern) for pattern in patterns)
    }
