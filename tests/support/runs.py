"""Runs as tests need them: one that ends at once, one that never does, a program, a shell line."""

import re
from typing import Any

from tests.support.wire import Json, Wire

ENDLESS = {"demo": {"delay_ms": 3_600_000}}
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
NO_RUN = "0190a0a0-0000-7000-8000-000000000000"
"""A well-formed id that nobody has."""


def start(wire: Wire, **params: Any) -> Json:
    """Start a run (of ``demo``, unless an agent or a command is named); the run."""
    if "command" not in params:
        params = {"agent": "demo", **params}
    return wire.call("run/start", **params)["run"]


def start_endless(wire: Wire, **params: Any) -> Json:
    """Start a run that has said its first word and would take an hour for the second."""
    run = start(wire, **{"input": "first second", "metadata": ENDLESS, **params})
    wait_text(wire, run["id"], "first ")
    return run


def start_shell(wire: Wire, script: str, **params: Any) -> Json:
    """Start a shell with a script."""
    return start(wire, command=["sh", "-c", script], **params)


def settle(wire: Wire, run_id: str) -> Json:
    """Wait for a run's end; the run."""
    answer = wire.call("run/wait", run_id=run_id)
    assert answer["settled"], answer
    return answer["run"]


def perform(wire: Wire, **params: Any) -> Json:
    """Start a run and wait for its end; the run."""
    return settle(wire, start(wire, **params)["id"])


def stop(wire: Wire, run_id: str, **params: Any) -> Json:
    """Stop a run and wait for its end; the run."""
    answer = wire.call("run/stop", **{"run_id": run_id, "wait_seconds": 20, **params})
    assert answer["outcome"] != "stopping", answer
    return answer["run"]


def wait_text(wire: Wire, run_id: str, text: str) -> None:
    """Wait until an active run's answer begins with ``text``."""
    tailed = wire.call("run/tail", run_id=run_id, after_seq=0)
    said = ""
    while not said.startswith(text):
        events, end = wire.read_tail(tailed["subscription"], until=1)
        assert end is None, f"the run ended after {said!r}"
        said += read_text(events)
    wire.call("run/untail", subscription=tailed["subscription"])
    wire.read_tail(tailed["subscription"])


def read_text(events: list[Json]) -> str:
    """What the ``text.delta`` events of a log amount to."""
    return "".join(event["data"]["text"] for event in events if event["type"] == "text.delta")


def read_logged(events: list[Json]) -> str:
    """What the ``log`` events of a log amount to."""
    return "".join(event["data"]["text"] for event in events if event["type"] == "log")


def list_seqs(events: list[Json]) -> list[int]:
    return [event["seq"] for event in events]
