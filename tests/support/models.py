"""A model server on loopback, compatible with OpenAI's: Responses and Chat Completions, both streamed.

    with ModelServer() as server:
        server.base_url       # http://127.0.0.1:PORT/v1
        server.requests       # what was asked, in order: (path, body)

The model is as stupid as predictable. It answers the newest message of its user, by a word in brackets in it:

``[call TOOL {"json": "arguments"}]``   calls that tool, and when it has the result answers ``It said: …``
``[think]``      thinks aloud before it answers
``[recall]``     answers with all earlier messages of its user, joined by `` | ``
``[say TEXT]``   answers TEXT, a word at a time
``[fail 500]``   answers with that HTTP status (401: the key is wrong)
``[cut]``        hangs up in the middle of its answer
``[wait N]``     answers after N seconds
``[once]``       falls silent in the middle of its answer the first time it is asked that, and answers the next time
``[stall]``      falls silent in the middle of its answer, until the server is closed
anything else    is answered with ``You said: …``
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import attrs

WANTS_TITLE = "Generate a title for this conversation"
"""How opencode's other request begins, besides the turn itself."""
USAGE = (30, 7, 10)
"""Tokens read, written, and of those read cached: of every answer."""


@attrs.frozen
class Turn:
    """What a request asks, whatever its dialect: what its user has said so far, and results of tools since."""

    said: list[str]
    results: list[str]
    tools: list[str]


@attrs.frozen
class Answer:
    """What the model answers, after so many seconds. ``ending``: "whole", "cut" or "stall"."""

    words: list[str]
    thought: list[str] = attrs.Factory(list)
    call: tuple[str, str] | None = None
    ending: str = "whole"
    after: float = 0.0


class Refused(Exception):
    """The request fails with this HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the model server answers {status}")
        self.status = status


def answer(turn: Turn, *, again: bool = False) -> Answer:
    """What the model says to that; ``again``: it was asked that before."""
    newest = turn.said[-1] if turn.said else ""
    found = re.search(r"\[(call|think|recall|say|fail|cut|stall|wait|once)(?: (.*))?\]", newest, re.DOTALL)
    word, given = (found[1], found[2] or "") if found else ("", "")
    if word == "fail":
        raise Refused(int(given))
    if word == "call" and not turn.results:
        name, _, arguments = given.partition(" ")
        return Answer([], call=(name, arguments or "{}"))
    text = f"You said: {newest}"
    if turn.results:
        text = f"It said: {turn.results[-1]}"
    elif word == "recall":
        text = " | ".join(turn.said[:-1])
    elif word == "say":
        text = given
    words = re.findall(r"\S+\s*|\s+", text)
    if word in {"cut", "stall"} or (word == "once" and not again):
        return Answer(words[:2], ending="stall" if word == "once" else word)
    thought = ["Let me ", "think."] if word == "think" else []
    return Answer(words, thought, after=float(given) if word == "wait" else 0.0)


def _read_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return json.dumps(content)


def read_completion(body: dict[str, Any]) -> Turn:
    """A request for a chat completion."""
    said, results = [], []
    for message in body["messages"]:
        if message["role"] == "user":
            said.append(_read_text(message["content"]))
            results.clear()
        elif message["role"] == "tool":
            results.append(_read_text(message["content"]))
    return Turn(said, results, [tool["function"]["name"] for tool in body.get("tools") or ()])


def read_response(body: dict[str, Any]) -> Turn:
    """A request for a response."""
    said: list[str] = []
    results: list[str] = []
    given = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    for item in given:
        if item.get("role") == "user":
            said.append(_read_text(item["content"]))
            results.clear()
        elif item.get("type") in {"function_call_output", "custom_tool_call_output"}:
            results.append(_read_text(item["output"]))
    return Turn(said, results, [str(tool.get("name", tool["type"])) for tool in body.get("tools") or ()])


def write_completion(given: Answer, model: str) -> Iterator[dict[str, Any]]:
    """The chunks of a chat completion."""

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {
            "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice],
        }  # fmt: skip

    yield chunk({"role": "assistant", "content": ""})
    for thought in given.thought:
        yield chunk({"reasoning_content": thought})
    for word in given.words:
        yield chunk({"content": word})
    if given.ending != "whole":
        return
    if given.call is not None:
        name, arguments = given.call
        function = {"name": name, "arguments": arguments}
        yield chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})
    yield chunk({}, "stop" if given.call is None else "tool_calls")
    read, written, cached = USAGE
    usage = {
        "prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }  # fmt: skip
    yield {**chunk({}), "choices": [], "usage": usage}


def write_response(given: Answer, model: str) -> Iterator[dict[str, Any]]:
    """The events of a response."""
    output: list[dict[str, Any]] = []

    def response(status: str, **more: Any) -> dict[str, Any]:
        return {"id": "r1", "object": "response", "created_at": 1, "model": model, "status": status, **more}

    yield {"type": "response.created", "response": response("in_progress", output=[])}
    if given.thought:
        yield from _write_reasoning(given.thought, output)
    if given.words:
        yield from _write_message(given.words, output, whole=given.ending == "whole")
    if given.ending != "whole":
        return
    if given.call is not None:
        name, arguments = given.call
        item = {
            "type": "function_call",
            "id": "f1",
            "call_id": "call_1",
            "name": name,
            "arguments": arguments,
        }
        index = len(output)
        opened = {**item, "arguments": "", "status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": index, "item": opened}
        yield {
            "type": "response.function_call_arguments.delta", "output_index": index, "item_id": "f1",
            "delta": arguments,
        }  # fmt: skip
        yield {
            "type": "response.function_call_arguments.done", "output_index": index, "item_id": "f1",
            "name": name, "arguments": arguments,
        }  # fmt: skip
        output.append({**item, "status": "completed"})
        yield {"type": "response.output_item.done", "output_index": index, "item": output[-1]}
    read, written, cached = USAGE
    usage = {
        "input_tokens": read, "input_tokens_details": {"cached_tokens": cached}, "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": read + written,
    }  # fmt: skip
    yield {"type": "response.completed", "response": response("completed", output=output, usage=usage)}


def _write_reasoning(thought: list[str], output: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    where = {"output_index": len(output), "item_id": "t1"}
    item = {"type": "reasoning", "id": "t1", "summary": []}
    part = {"type": "summary_text", "text": ""}
    yield {"type": "response.output_item.added", "output_index": len(output), "item": item}
    yield {"type": "response.reasoning_summary_part.added", **where, "summary_index": 0, "part": part}
    for delta in thought:
        yield {"type": "response.reasoning_summary_text.delta", **where, "summary_index": 0, "delta": delta}
    part = {"type": "summary_text", "text": "".join(thought)}
    yield {
        "type": "response.reasoning_summary_text.done", **where, "summary_index": 0, "text": part["text"],
    }  # fmt: skip
    yield {"type": "response.reasoning_summary_part.done", **where, "summary_index": 0, "part": part}
    output.append({**item, "summary": [part]})
    yield {"type": "response.output_item.done", "output_index": where["output_index"], "item": output[-1]}


def _write_message(
    words: list[str], output: list[dict[str, Any]], *, whole: bool
) -> Iterator[dict[str, Any]]:
    index = len(output)
    where = {"output_index": index, "item_id": "m1", "content_index": 0}
    item = {"type": "message", "id": "m1", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": item}
    yield {"type": "response.content_part.added", **where, "part": part}
    for word in words:
        yield {"type": "response.output_text.delta", **where, "delta": word, "logprobs": []}
    if not whole:
        return
    part = {**part, "text": "".join(words)}
    yield {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **where, "part": part}
    output.append({**item, "status": "completed", "content": [part]})
    yield {"type": "response.output_item.done", "output_index": index, "item": output[-1]}


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        responding = self.path.endswith("/responses")
        turn = read_response(body) if responding else read_completion(body)
        with suppress(BrokenPipeError, ConnectionResetError):
            try:
                if turn.said and turn.said[0].startswith(WANTS_TITLE):
                    given = Answer(["A title"])
                else:
                    given = answer(turn, again=self.server.was_asked(turn))
                self.server.closing.wait(given.after)
            except Refused as refusal:
                self._refuse(refusal.status)
                return
            model = body.get("model", "mock")
            if body.get("stream"):
                self._stream(given, write_response if responding else write_completion, model)
            else:
                self._send(_join(given, model))

    def _refuse(self, status: int) -> None:
        said = {"error": {"message": f"no, says the model server ({status})", "type": "mock", "code": "mock"}}
        self._send(said, status)

    def _send(self, value: Any, status: int = 200) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, given: Answer, write: Any, model: str) -> None:
        self.close_connection = given.ending != "whole"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        responding = write is write_response
        for number, event in enumerate(write(given, model)):
            head = f"event: {event['type']}\n" if responding else ""
            numbered = {**event, "sequence_number": number} if responding else event
            self._write_chunk(f"{head}data: {json.dumps(numbered)}\n\n")
        if given.ending == "stall":
            self.server.closing.wait()
        elif given.ending == "whole":
            if not responding:
                self._write_chunk("data: [DONE]\n\n")
            self._write_chunk("")

    def _write_chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """It is quiet."""


def _join(given: Answer, model: str) -> dict[str, Any]:
    """A chat completion that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(given.words) or None}
    if given.call is not None:
        function = {"name": given.call[0], "arguments": given.call[1]}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    reason = "stop" if given.call is None else "tool_calls"
    read, written, _ = USAGE
    return {
        "id": "c1", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }  # fmt: skip


class ModelServer(ThreadingHTTPServer):
    """The server, in threads of its own."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address: ClassVar[bool] = True  # type: ignore[misc]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._asked: set[str] = set()
        self.closing = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def was_asked(self, turn: Turn) -> bool:
        """Whether a chat ended in the same words before; from now on it did."""
        newest = turn.said[-1] if turn.said else ""
        asked, self._asked = newest in self._asked, self._asked | {newest}
        return asked

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
