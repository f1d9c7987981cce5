"""A daemon that speaks from a script: a real Unix socket, real framing, canned answers.

It runs in threads, so that clients on any event loop and in other processes can talk to it. A script is a function that gets
each request and answers it through the conversation, or closes it, or says nothing.

Not here: what a real daemon does; that is tested against the real one in ``tests/daemon``.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeAlias

import attrs

from outlive import wire
from outlive.errors import OutliveError
from outlive.framing import LineSplitter
from outlive.peer import encode_error, encode_event, encode_notification, encode_result

RUN_ID = "0190c5a2-7b1e-7cc3-9a54-1f3a9c2b7d10"
AT = "2026-01-02T03:04:05.000006Z"
_DEADLINE_SECONDS = 20.0


class Conversation:
    """One connection: what a script may say. ``budget`` bytes are sent, then the connection is cut."""

    def __init__(self, peer: socket.socket, budget: int | None) -> None:
        self._peer = peer
        self._budget = budget

    def send(self, line: bytes) -> None:
        if self._budget is not None:
            line, cut = line[: self._budget], len(line) >= self._budget
            self._budget -= len(line)
        else:
            cut = False
        self._peer.sendall(line)
        if cut:
            self.close()

    def reply(self, request: dict[str, Any], result: Any) -> None:
        self.send(encode_result(request["id"], result))

    def error(self, request: dict[str, Any], error: OutliveError) -> None:
        self.send(encode_error(request["id"], error))

    def event(self, seq: int, type: str, data: dict[str, Any]) -> None:  # noqa: A002 - the wire's word
        self.send(encode_event("s1", RUN_ID, seq, AT, type, json.dumps(data)))

    def end(self, reason: str, last_seq: int) -> None:
        params = {"subscription": "s1", "run_id": RUN_ID, "reason": reason, "last_seq": last_seq}
        self.send(encode_notification("run/tail_end", params))

    def close(self) -> None:
        try:
            self._peer.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


Script: TypeAlias = Callable[[Conversation, dict[str, Any]], None]


class ScriptedDaemon:
    """``with ScriptedDaemon(path, script) as daemon``: listens at ``path`` until the end of the block.

    ``budgets`` are the bytes that the first connections may receive before they are cut, one number each.
    """

    def __init__(self, path: Path, script: Script, budgets: list[int] | None = None) -> None:
        self.path = path
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self._script = script
        self._budgets = list(budgets or [])
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish()
        for thread in self._threads:
            thread.join(_DEADLINE_SECONDS)
        for peer in self._peers:
            peer.close()

    def listen(self) -> None:
        """Appear at the path."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._accepting = self._run(self._accept, self._listener)

    def vanish(self) -> None:
        """Go away from the path and hang up on everybody."""
        if self._listener is not None:
            self.path.unlink()
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener = None
            self._accepting.join(_DEADLINE_SECONDS)  # or a connection just accepted would live on
        self.hang_up()

    def hang_up(self) -> None:
        """Cut every connection there is."""
        with self._changed:
            peers = list(self._peers)
        for peer in peers:
            Conversation(peer, None).close()

    def asked(self, method: str) -> list[dict[str, Any]]:
        """The params of every request for this method so far."""
        with self._changed:
            return [request["params"] for request in self.requests if request["method"] == method]

    def wait_asked(self, method: str, times: int = 1) -> None:
        """Return when ``method`` has been asked for so often."""
        self._wait(lambda: sum(request["method"] == method for request in self.requests) >= times)

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, _DEADLINE_SECONDS), f"in vain; asked: {self.requests}"

    def _run(self, function: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with self._changed:
                    self.connections += 1
                    self._peers.append(peer)
                    budget = self._budgets.pop(0) if self._budgets else None
                self._run(self._converse, peer, Conversation(peer, budget))

    def _converse(self, peer: socket.socket, conversation: Conversation) -> None:
        lines = LineSplitter(wire.MAX_CLIENT_LINE)
        try:
            while data := peer.recv(65536):
                for line in lines.feed(data):
                    request = json.loads(line)
                    request.setdefault("params", {})
                    with self._changed:
                        self.requests.append(request)
                        self._changed.notify_all()
                    self._script(conversation, request)
        except OSError:
            return


def script(**answers: Any) -> Script:
    """A script with one answer per method (``run_get`` for ``run/get``): a result, an error, or a function."""
    return playing(answers)


def playing(answers: dict[str, Any]) -> Script:
    """``script`` from a dictionary that may change as the play goes on."""

    def play(conversation: Conversation, request: dict[str, Any]) -> None:
        answer = answers.get(request["method"].replace("/", "_"))
        if callable(answer):
            answer(conversation, request)
        elif isinstance(answer, OutliveError):
            conversation.error(request, answer)
        elif answer is not None:
            conversation.reply(request, answer)

    return play


def telling(log: list[tuple[str, dict[str, Any]]], reason: str = "settled") -> Script:
    """An answer to ``run/tail`` that tells ``log`` (types and data, seq from 1) and ends the tail."""

    def tell(conversation: Conversation, request: dict[str, Any]) -> None:
        after = request["params"].get("after_seq", len(log))
        conversation.reply(request, wire.RunTailed("s1", a_run(), None, after))
        for seq, (kind, data) in enumerate(log, start=1):
            if seq > after:
                conversation.event(seq, kind, data)
        conversation.end(reason, len(log))

    return tell


def a_run(run_id: str = RUN_ID, **changes: Any) -> wire.Run:
    """A run as it might be."""
    fields: dict[str, Any] = {
        "id": run_id, "workspace": "default", "chat_id": "c1", "position": 2, "agent": "demo", "command": None,
        "status": "running", "trigger": "user", "created_by": None, "message_id": RUN_ID, "attempt": 1,
        "epoch": 1, "owner": RUN_ID, "step_count": 0, "first_seq": 1, "last_seq": 1, "error": None,
        "usage": wire.Usage(), "metadata": {}, "detached": True, "on_owner_loss": "abort",
        "stop_requested_at": None, "stop_reason": None, "created_at": AT, "started_at": AT,
        "finished_at": None, "updated_at": AT,
    }  # fmt: skip
    return wire.Run(**{**fields, **changes})


def a_message(**changes: Any) -> wire.Message:
    """A message as it might be."""
    fields: dict[str, Any] = {
        "id": RUN_ID, "chat_id": "c1", "run_id": RUN_ID, "position": 2, "role": "assistant",
        "status": "completed", "content": "hello", "truncated": False,
        "parts": [{"type": "text", "text": "hello"}], "created_at": AT, "updated_at": AT,
    }  # fmt: skip
    return wire.Message(**{**fields, **changes})


def an_info(pid: int = 1) -> wire.ServerInfo:
    """What a daemon might say about itself."""
    return wire.ServerInfo(
        name="outlived", version="0", protocol=1, instance_id=RUN_ID, host="here", pid=pid, started_at=AT,
        state="serving", limits={"max_client_line": 1}, agents=[wire.AgentInfo("demo", "python", "says it again")],
        peer=wire.PeerInfo(0, 0, "root"), workspaces=None,
    )  # fmt: skip


def some_stats(**changes: Any) -> wire.ServerStats:
    """What a daemon at rest might say about how it is doing."""
    fields = dict.fromkeys((field.name for field in attrs.fields(wire.ServerStats)), 0)
    quantiles = dict.fromkeys(name for name in fields if "_p50" in name or "_p99" in name)
    return wire.ServerStats(**{**fields, **quantiles, "database": "ok", **changes})


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds; fail after a deadline."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)
