"""What the fault tests counted, added up over a session and printed at its end as a table for a page."""

import attrs
import pytest

NAME = "figures"
COLUMNS = {
    "daemon_kills": "daemon kills",
    "postgres_kills": "Postgres kills",
    "pauses": "pauses",
    "cuts": "cuts",
    "points": "crash points",
    "acknowledged": "acknowledged runs",
    "events": "events",
    "lost": "lost",
    "double": "double-active chats",
    "stuck": "stuck rows",
    "stale": "stale writes",
    "misread": "repeated or missing events",
    "other": "other problems",
}


@attrs.define
class Figures:
    """What one test counted."""

    counts: dict[str, int] = attrs.Factory(dict)

    def add(self, column: str, number: int = 1) -> None:
        assert column in COLUMNS, column
        self.counts[column] = self.counts.get(column, 0) + number


class FigureTable:
    """A pytest plugin: collects every test's figures, wherever it ran, and prints them."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, int]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for name, counts in report.user_properties:
                if name == NAME and isinstance(counts, dict):
                    self.rows[report.nodeid.partition("::")[2]] = counts

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.rows and terminalreporter.config.getoption("--long"):
            terminalreporter.section(f"figures, seed {terminalreporter.config.option.seed}")
            for line in write_table(self.rows):
                terminalreporter.write_line(line)


def write_table(rows: dict[str, dict[str, int]]) -> list[str]:
    """The figures as lines of Markdown: a row for each test, and their sum."""
    total: dict[str, int] = {}
    for counts in rows.values():
        for column, number in counts.items():
            total[column] = total.get(column, 0) + number
    head = ["test", *COLUMNS.values()]
    body = [[f"`{name}`", *_write(counts)] for name, counts in sorted(rows.items())]
    table = [head, ["---"] * len(head), *body, ["all", *_write(total)]]
    return [f"| {' | '.join(row)} |" for row in table]


def _write(counts: dict[str, int]) -> list[str]:
    return [f"{counts[column]:,}" if column in counts else "" for column in COLUMNS]
