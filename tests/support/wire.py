"""A connection as an independent program would make it: a socket, lines, the standard library. No code of ours."""

import json
import socket
from collections import deque
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class WireError(Exception):
    """An error reply."""

    def __init__(self, error: Json) -> None:
        super().__init__(f"{error['code']} {error['data']['type']}: {error['message']}")
        self.code = error["code"]
        self.type = error["data"]["type"]
        self.data = error["data"]
        self.message = error["message"]


class Wire:
    """One connection. Replies are matched by id, notifications kept in order of arrival."""

    def __init__(self, path: Path | str, timeout: float = 20.0) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(str(path))
        except OSError:
            self.sock.close()
            raise
        self._buffer = b""
        self._next_id = 0
        self.replies: dict[Any, Json] = {}
        self.notifications: deque[Json] = deque()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def end_sending(self) -> None:
        """Half-close: the daemon reads the end of file, this side goes on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send(self, method: str, params: Json | None = None, **extra: Any) -> int:
        """Send a request; its id."""
        return self.send_params(method, params or {}, **extra)

    def send_params(self, method: str, params: Any, **extra: Any) -> int:
        """Send a request with params that need not be an object; its id."""
        self._next_id += 1
        message = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params, **extra}
        self.send_raw(json.dumps(message).encode() + b"\n")
        return self._next_id

    def notify(self, method: str, params: Json | None = None) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        self.send_raw(json.dumps(message).encode() + b"\n")

    def read(self) -> Json:
        """The next line, whatever it is. EOFError at the end, TimeoutError when nothing comes."""
        while b"\n" not in self._buffer:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError("the daemon closed the connection")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _read_one(self) -> None:
        message = self.read()
        if "method" in message:
            self.notifications.append(message)
        else:
            self.replies[message["id"]] = message

    def wait_line(self, request_id: Any) -> Json:
        """The reply to a request as it came, a result or an error."""
        while request_id not in self.replies:
            self._read_one()
        return self.replies.pop(request_id)

    def wait_reply(self, request_id: Any) -> Any:
        """The result of a request; raises WireError."""
        reply = self.wait_line(request_id)
        if "error" in reply:
            raise WireError(reply["error"])
        return reply["result"]

    def call(self, method: str, **params: Any) -> Any:
        return self.wait_reply(self.send(method, params))

    def refuse(self, method: str, **params: Any) -> WireError:
        """The error of a request that must fail."""
        return self.refuse_params(method, params)

    def refuse_params(self, method: str, params: Any) -> WireError:
        """The error of a request that must fail, with params that need not be an object."""
        try:
            result = self.wait_reply(self.send_params(method, params))
        except WireError as error:
            return error
        raise AssertionError(f"{method} {params} was answered {result}")

    def read_to_end(self) -> list[Json]:
        """Every line until the daemon closes the connection."""
        messages: list[Json] = []
        while True:
            try:
                messages.append(self.read())
            except EOFError:
                return messages

    def assert_silent(self) -> None:
        """Nothing was said but what was read: a question asked now is answered by the very next line."""
        assert not self.notifications, list(self.notifications)
        assert not self.replies, self.replies
        request_id = self.send("server/info")
        line = self.read()
        assert line.get("id") == request_id, line

    def wait_notification(self) -> Json:
        while not self.notifications:
            self._read_one()
        return self.notifications.popleft()

    def read_tail(self, subscription: str, until: int | None = None) -> tuple[list[Json], Json | None]:
        """The events of one subscription to its end (or to ``until`` events), and its tail_end."""
        events: list[Json] = []
        kept: list[Json] = []
        try:
            while until is None or len(events) < until:
                message = self.wait_notification()
                params = message["params"]
                if params["subscription"] != subscription:
                    kept.append(message)
                elif message["method"] == "run/tail_end":
                    return events, params
                else:
                    events.append(params)
            return events, None
        finally:
            self.notifications.extendleft(reversed(kept))

    def tail(self, run_id: str, **params: Any) -> tuple[list[Json], Json]:
        """A whole tail: all events to its end, and its tail_end."""
        reply = self.call("run/tail", run_id=run_id, **{"after_seq": 0, **params})
        events, end = self.read_tail(reply["subscription"])
        assert end is not None
        return events, end
