"""The command line ``outlive``: start runs, leave, come back.

1. Data goes to stdout, everything meant for people to stderr; with ``--json`` stdout holds one JSON value per line.
2. An error is one line that says what, and what to do; never a traceback. ``outcome.py`` holds the exit codes.
3. One file per command, each with ``add`` (its arguments) and ``act`` (what it does).

``perform.py`` reads the arguments and runs a command; ``screen.py`` is the terminal, ``status.py`` the line below the
output, ``cursor.py`` where it may stand; ``render.py`` turns objects into text and ``layout.py`` text into columns;
``find.py`` finds the run that is meant; ``follow.py`` shows a run's events; ``autostart.py`` starts a daemon and
``logs.py`` reads its log; ``complete.py`` answers a shell's TAB, ``ask.py`` asks the daemon for that.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv == ["--version"]:
            from importlib.metadata import version

            print(f"outlive {version('outlive')}")
            return 0
        from outlive.cli.perform import perform  # late: Ctrl-C while importing shall not be a traceback

        return perform(argv)
    except KeyboardInterrupt:
        return 130
