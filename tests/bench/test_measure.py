"""`python -m bench`, as a person types it: measured, kept, compared, written into a page."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.page import BLOCK, NOTHING, write_page
from bench.report import read_report

ROOT = Path(__file__).parents[2]
PAGE = "# Figures\n\nbefore\n\n<!-- measured: begin -->\nold\n<!-- measured: end -->\n\nafter\n"


def run_bench(*words):
    command = [sys.executable, "-m", "bench", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The cheapest benchmark, measured in seconds; its file, and what was printed."""
    path = tmp_path_factory.mktemp("bench") / "found.json"
    done = run_bench("--quick", "curve", "--save", path)
    assert done.returncode == 0, done.stderr
    return path, done


def test_a_benchmark_is_measured_beside_its_limit(saved):
    """One table on stdout with figures, CPU and limits; progress on stderr; the same in the file, with the machine."""
    path, done = saved
    assert "its three commits" in done.stdout
    assert "% of the best rate" in done.stderr
    found = json.loads(path.read_text())
    assert found["machine"]["postgres"]
    assert found["machine"]["cores"] > 0
    point = found["benchmarks"]["curve"][1]
    assert 0 < point["limit"]["value"] < point["value"] <= point["p99"]
    assert point["unit"] == "ms"
    assert point["cpu"].keys() == {"daemon", "postgres", "load"}


def test_a_report_is_compared_with_an_earlier_one(saved):
    """Old beside new, with the change; a report compared with itself has not changed."""
    path, _ = saved
    done = run_bench("--read", path, "--compare", path)
    assert done.returncode == 0, done.stderr
    _, _, changes = done.stdout.partition("change")
    assert "best rate" in changes
    assert changes.count("+0.0 %") == len(read_report(path).benchmarks["curve"])


def test_a_page_is_written_from_a_report(saved, tmp_path):
    """What stands between the markers is replaced, the picture is drawn beside, twice gives the same."""
    path, _ = saved
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert run_bench("--read", path, "--page", page).returncode == 0
    once = page.read_text()
    assert once.startswith("# Figures\n\nbefore\n")
    assert once.endswith("\nafter\n")
    assert "| best rate" in once
    assert "![Latency against load](page.svg)" in once
    assert (tmp_path / "page.svg").read_text().startswith("<svg")
    write_page(page, read_report(path))
    assert page.read_text() == once


def test_the_page_says_what_its_file_says(tmp_path):
    """The table in docs/performance.md is the one that docs/performance.json gives; without the file it is empty."""
    page = ROOT / "docs" / "performance.md"
    report = page.with_suffix(".json")
    if not report.exists():
        assert BLOCK.search(page.read_text())[0].splitlines()[1] == NOTHING.strip()
        return
    copy = tmp_path / page.name
    copy.write_text(page.read_text())
    write_page(copy, read_report(report))
    assert copy.read_text() == page.read_text()


@pytest.mark.parametrize(
    ("words", "complaint", "status"),
    [
        (["no-such-benchmark"], "there is no benchmark no-such-benchmark", 2),
        (["--read", "/nowhere/file.json"], "cannot read /nowhere/file.json", 1),
        (["--read", ROOT / "Makefile"], "it is no report of bench", 1),
    ],
)
def test_what_cannot_be_done_is_said(words, complaint, status):
    """A wrong name or file is refused in one line, before anything is measured."""
    done = run_bench(*words)
    assert done.returncode == status
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_everything_listed_can_be_measured():
    """``--list`` shows every benchmark with its first line, so each of them can be imported."""
    done = run_bench("--list")
    assert done.returncode == 0, done.stderr
    assert all(len(line.split(maxsplit=1)) == 2 for line in done.stdout.splitlines())
