"""From the start of the process to the answer to a first ``server/info``.

With a DSN; with the embedded Postgres warm (its postmaster outlived a daemon that was killed, and is adopted); with the
embedded Postgres stopped cleanly (it is started again); and the first start ever, which makes the cluster. Beside it
the command line's own way to its first answer. Limit: ``python -c 'import trio, msgspec, psycopg'``.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from bench.figures import Broken, Figure, Limit, at_most, percentile
from bench.load import format_request
from bench.stage import Stage, environment

NAME = "startup"

TIMES = 15
LOOK_SECONDS = 0.001
PATIENCE_SECONDS = 60
IMPORTS = "import trio, msgspec, psycopg"
ASK = format_request(1, "server/info")


async def measure(stage: Stage) -> list[Figure]:
    return await trio.to_thread.run_sync(_measure, stage, await stage.create_schema())


def _measure(stage: Stage, dsn: str) -> list[Figure]:
    """In a thread: what is timed here are processes, and nothing else may be in between."""
    times = max(3, stage.size(TIMES))
    with tempfile.TemporaryDirectory(dir=stage.directory) as place:
        stage.say("start-up with a DSN")
        imports, given = [], []
        with_dsn = _Home(Path(place) / "given", dsn)
        for _ in range(times):
            imports.append(_time_program(sys.executable, "-c", IMPORTS))
            given.append(with_dsn.start())
            with_dsn.stop(signal.SIGTERM)
        limit = Limit(f"python -c '{IMPORTS}'", percentile(imports, 0.5))
        stage.say("start-up with the embedded Postgres")
        own = _Home(Path(place) / "own", None)
        first = own.start()
        cold, warm = [], []
        for _ in range(max(3, times // 3)):
            own.stop(signal.SIGTERM)
            cold.append(own.start())
            own.stop(signal.SIGKILL)  # the postmaster lives on
            warm.append(own.start())
        command = [_time_command(own) for _ in range(times)]
        own.stop(signal.SIGTERM)
    return [
        _figure("with a DSN", given, limit, at_most(600)),
        _figure("Postgres adopted", warm, limit),
        _figure("Postgres started", cold, limit),
        _figure("the very first, with initdb", [first], limit),
        _figure("outlive info", command, limit),
    ]


def _figure(name: str, times: list[float], limit: Limit, target: object = None) -> Figure:
    return Figure(
        name, "ms", percentile(times, 0.5), better="less", limit=limit, target=target,  # type: ignore[arg-type]
        p99=percentile(times, 0.99) if len(times) > 1 else None,
    )  # fmt: skip


class _Home:
    """One daemon's place, started and stopped in turn."""

    def __init__(self, directory: Path, dsn: str | None) -> None:
        directory.mkdir()
        self.directory = directory
        self.socket = directory / "s"
        places = ["--socket", str(self.socket), "--state-dir", str(directory / "state")]
        database = ["--database", dsn] if dsn else []
        self.command = [sys.executable, "-m", "outlived", "serve", *places, *database]

    def start(self) -> float:
        """Milliseconds until it answers."""
        with (self.directory / "log").open("ab") as log:
            started = time.perf_counter()
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment())
            while not self._answers():
                if self.process.poll() is not None or time.perf_counter() - started > PATIENCE_SECONDS:
                    raise Broken(f"the daemon did not start: {(self.directory / 'log').read_text()[-2000:]}")
                time.sleep(LOOK_SECONDS)
        return (time.perf_counter() - started) * 1000

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(self.socket))
                sock.sendall(ASK)
                return b'"result"' in sock.recv(1 << 16)
            except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
                return False

    def stop(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        if self.process.wait(PATIENCE_SECONDS) not in {0, -signal.SIGKILL}:
            raise Broken(f"the daemon ended with {self.process.returncode}")


def _time_program(*command: str, **options: object) -> float:
    """Milliseconds of a whole process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    return (time.perf_counter() - started) * 1000


def _time_command(home: _Home) -> float:
    words = ("-m", "outlive", "info", "--socket", str(home.socket))
    return _time_program(sys.executable, *words, env=environment())
