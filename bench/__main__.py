"""`python -m bench [NAME …]`: measure, print one table; save it, compare it, write it into a page.

Exit status: 0, also when a target is missed; 1 when something could not be measured; 2 for usage.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType

import trio

from bench import BENCHMARKS
from bench.figures import Broken, Figure, merge
from bench.page import write_page
from bench.report import (
    Report,
    ReportRefused,
    describe_machine,
    make_report,
    read_report,
    write_report,
)
from bench.stage import Stage, open_stage
from bench.table import write_change_table, write_report_table


def main(argv: list[str] | None = None) -> int:
    """The command."""
    options = _parse(argv)
    if options.list:
        for name in BENCHMARKS:
            print(f"{name:10} {(_load(name).__doc__ or '').splitlines()[0]}")
        return 0
    try:
        before = read_report(options.compare) if options.compare else None
        report = read_report(options.read) if options.read else trio.run(_measure_all, options)
        _show(options, report, before)
    except ReportRefused as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 1 if report.broken else 0


def _show(options: argparse.Namespace, report: Report, before: Report | None) -> None:
    """Keep it first, then print it, or write it into a page."""
    if options.save:
        write_report(options.save, report)
    if options.page:
        write_page(options.page, report)
    else:
        print(write_report_table(report))
    if before:
        print(f"\n{write_change_table(before, report)}")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        allow_abbrev=False,
        description="Measures the daemon beside what this machine allows, in a temporary directory.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (default: everything)")
    parser.add_argument("--list", action="store_true", help="say what there is to measure")
    parser.add_argument("--quick", action="store_true", help="for a tenth of the time, to try things out")
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="N times: medians, and the extremes beside them"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="write what was found as JSON")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="print an earlier report beside")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing: take a saved report")
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="write table and picture into a Markdown page, print nothing",
    )
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="where the temporary directory is made (a real disk)"
    )
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; see --list")
    if options.repeat < 1:
        parser.error("--repeat takes a number from 1 on")
    return options


def _load(name: str) -> ModuleType:
    return import_module(f"bench.{name}")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


async def _measure_all(options: argparse.Namespace) -> Report:
    """The report; a benchmark that breaks takes no other with it."""
    wanted = [name for name in BENCHMARKS if not options.names or name in options.names]
    found: dict[str, list[Figure]] = {}
    broken: dict[str, str] = {}
    async with open_stage(quick=options.quick, say=_say, below=options.dir) as stage:
        [(version,)] = await stage.ask(stage.dsn, "SHOW server_version")
        machine = describe_machine(stage.directory, version)
        if machine.filesystem == "tmpfs":
            _say(f"{stage.directory} is in memory: commits cost nothing there, so ratios mislead; use --dir")
        for name in wanted:
            try:
                found[name] = await _repeat(stage, name, options.repeat)
            except Exception as error:  # noqa: BLE001 - whatever breaks a benchmark, the others are measured
                broken[name] = _explain(error)
                _say(f"{name}: not measured: {broken[name]}")
    return make_report(machine, found, broken, quick=options.quick, repeat=options.repeat)


def _explain(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Broken):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


async def _repeat(stage: Stage, name: str, times: int) -> list[Figure]:
    benchmark = _load(name)
    repetitions = []
    for number in range(times):
        _say(f"{name}, {number + 1} of {times}" if times > 1 else name)
        stage.forget()
        repetitions.append(await benchmark.measure(stage))
    return merge(repetitions)


if __name__ == "__main__":
    sys.exit(main())
