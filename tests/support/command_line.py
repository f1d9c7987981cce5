"""Run ``outlive`` as a person would: a process of its own, with its own environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 30.0


class CommandLine:
    """Runs ``outlive`` with everything it might find of ours pointed into ``home``."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.socket = home / "s"
        self.argv = [sys.executable, "-m", "outlive"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OUTLIVE", "XDG_"))}
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.environment = {
            **kept,
            "PYTHONPATH": path,
            "HOME": str(home),
            "OUTLIVE_SOCKET": str(self.socket),
            "OUTLIVED_STATE_DIR": str(home / "state"),
            "OUTLIVE_NO_AUTOSTART": "1",
            "PYTHONWARNINGS": "error",
            **environment,
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start one command; its stdin is empty unless said otherwise."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*self.argv, *arguments],
            env=self.environment,
            encoding="utf-8",
            **{**streams, **options},
        )

    def run(
        self, *arguments: str, text: str | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, with ``text`` in a pipe as its stdin if there is any."""
        if text is not None:
            options["stdin"] = subprocess.PIPE
        with self.start(*arguments, **options) as process:
            try:
                out, err = process.communicate(text, timeout=DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)
