"""The application of the FastAPI how-to, under a real uvicorn, with a real HTTP client that hangs up and comes back."""

import json
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from tests.docs.pages import ROOT, read_blocks
from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.runs import settle

PAGE = ROOT / "docs/how-to/fastapi.md"
WORDS = "".join(f"{number} ünïcode {'word' * (number % 5)}\n" for number in range(25))


@attrs.frozen
class Sent:
    """One server-sent event."""

    id: int
    event: str
    data: dict[str, Any]


@contextmanager
def serve(daemon: Daemon, directory: Path) -> Iterator[httpx.Client]:
    """The page's application in a process of its own; a client of it."""
    for block in read_blocks(PAGE):
        if block.title is not None:
            (directory / block.title).write_text(block.text)
    with socket.create_server(("127.0.0.1", 0)) as server, (directory / "uvicorn.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(server.fileno())],
            cwd=directory,
            env={**os.environ, "OUTLIVE_SOCKET": str(daemon.socket)},
            pass_fds=[server.fileno()],
            stdout=log,
            stderr=log,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{server.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            process.terminate()
            process.wait(30)
    # FastAPI's own keep-alive task may trip over a stream that its client has cut; no line of the how-to is in it.
    said = re.split(r"^(?=[A-Z]+: )", (directory / "uvicorn.log").read_text(), flags=re.MULTILINE)
    assert not [each for each in said if "Traceback" in each and "in _keepalive_inserter" not in each], said


@pytest.fixture(scope="module")
def http(shared_daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the application, beside the module's daemon."""
    with serve(shared_daemon, tmp_path_factory.mktemp("app")) as client:
        yield client


def read_events(data: bytes) -> list[Sent]:
    """The events that are whole; a browser throws away the rest, too."""
    events = []
    for part in data.decode(errors="replace").split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in part.split("\n") if not line.startswith(":"))
        if fields:
            events.append(Sent(int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return events


def read_text(events: list[Sent]) -> str:
    return "".join(event.data["text"] for event in events if event.event == "text.delta")


def receive(
    http: httpx.Client, method: str, url: str, size: int | None = None, **options: Any
) -> tuple[str, list[Sent]]:
    """Receive a stream, or ``size`` bytes of it and hang up; its place, and the events that were whole by then."""
    received = b""
    with http.stream(method, url, **options) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        for chunk in response.iter_raw():
            received += chunk
            if size is not None and len(received) >= size:
                received = received[:size]
                break
    return response.headers.get("location", url), read_events(received)


def resume(http: httpx.Client, place: str, last: int, size: int | None = None) -> list[Sent]:
    return receive(http, "GET", place, size, headers={"Last-Event-ID": str(last)})[1]


@pytest.mark.parametrize("number", range(2))
def test_a_stream_cut_anywhere_is_resumed_without_a_gap(http: httpx.Client, effort: Effort, number: int):
    """However often the client hangs up in mid-stream, what it got is the run's whole text: nothing twice, nothing missing."""
    chance = random.Random(f"{effort.seed} {number}")
    place, events = receive(
        http, "POST", f"/chats/cut-{number}/runs", chance.randrange(1, 900), json={"input": WORDS}
    )
    cuts = 0
    while not events or events[-1].event != "run.settled":
        events += resume(http, place, events[-1].id if events else 0, chance.randrange(1, 2500))
        cuts += 1
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert read_text(events) == WORDS
    assert events[-1].data["status"] == "succeeded"
    assert cuts > 1


def test_every_reader_sees_the_same_stream(http: httpx.Client):
    """The stream that began with the start, a second one beside it and one afterwards hold the same events."""
    place, first = receive(http, "POST", "/chats/same/runs", json={"input": "one two three"})
    assert resume(http, place, 0) == first


def test_hanging_up_does_not_end_the_run(http: httpx.Client, wire):
    """A client that leaves after the first bytes leaves a run that succeeds."""
    place, _ = receive(http, "POST", "/chats/left/runs", 10, json={"input": "one two three"})
    assert settle(wire, place.split("/")[2])["status"] == "succeeded"


def test_a_stop_ends_the_stream(http: httpx.Client):
    """A stop is said in the stream, which ends with the settlement; what was said before is kept."""
    place, before = receive(http, "POST", "/chats/stop/runs", 600, json={"input": "word " * 2000})
    stopped = http.post(place.replace("events", "stop")).json()
    assert stopped == {"outcome": "stopped", "status": "aborted"}
    after = resume(http, place, before[-1].id)
    assert [event.event for event in after][-2:] == ["run.stop_requested", "run.settled"]
    assert after[-1].data["stop_reason"] == "stopped in the browser"
    assert [event.id for event in [*before, *after]] == list(range(1, after[-1].id + 1))


def test_a_delivered_stream_is_not_resumed(http: httpx.Client):
    """204 after the last event keeps an EventSource from asking for ever."""
    place, events = receive(http, "POST", "/chats/done/runs", json={"input": "once"})
    assert http.get(place, headers={"Last-Event-ID": str(events[-1].id)}).status_code == 204


def test_a_busy_chat_refuses_with_409(http: httpx.Client):
    """A second turn is refused before any stream begins, and told which run is active."""
    place, _ = receive(http, "POST", "/chats/busy/runs", 10, json={"input": "word " * 2000})
    refused = http.post("/chats/busy/runs", json={"input": "me too"})
    assert (refused.status_code, refused.json()["type"]) == (409, "run_active")
    assert refused.json()["active_run_id"] == place.split("/")[2]
    http.post(place.replace("events", "stop"))


def test_a_repeated_key_finds_the_same_run(http: httpx.Client):
    """A client that repeats its POST with the same Idempotency-Key gets the same run from its beginning."""
    again = {"json": {"input": "just once"}, "headers": {"Idempotency-Key": "k1"}}
    first, second = (receive(http, "POST", "/chats/key/runs", **again) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/runs/0190a0a0-0000-7000-8000-000000000000/events", 404),
        ("POST", "/runs/0190a0a0-0000-7000-8000-000000000000/stop", 404),
        ("GET", "/runs/nonsense/events", 400),
        ("POST", "/chats/a chat/runs", 400),
    ],
)
def test_a_refusal_has_its_status(http: httpx.Client, method: str, path: str, status: int):
    """An error of the daemon is an HTTP status with its type, before any stream begins."""
    body = {"json": {"input": ""}} if method == "POST" else {}
    answer = http.request(method, path, **body)
    assert answer.status_code == status
    assert answer.json()["message"].startswith("cannot ")


def test_a_stream_goes_on_when_the_daemon_restarts(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """The daemon is killed and started again in mid-stream: the same response goes on to the run's end."""
    daemon = make_daemon().start()
    turn = {"json": {"input": "word " * 2000}}
    with serve(daemon, tmp_path) as http, http.stream("POST", "/chats/restart/runs", **turn) as response:
        chunks = response.iter_raw()
        received = b"".join(next(chunks) for _ in range(6))
        daemon.kill()
        daemon.start()
        received += b"".join(chunks)
    events = read_events(received)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert events[-1].event == "run.settled"
    assert events[-1].data["error"]["code"] == "owner_lost"
