"""Lines that are no request, and requests that look odd: each gets its one answer, and the connection lives."""

import json

import pytest

from tests.support.daemon import Daemon
from tests.support.runs import perform, start_endless, stop
from tests.support.wire import Json, Wire

LIMIT = 1 << 20

NOT_JSON = {
    "a word": b"hello",
    "nothing but a brace": b"{",
    "cut short": b'{"jsonrpc":"2.0","id":1,"method":"server/in',
    "two values": b'{"jsonrpc":"2.0","id":1,"method":"server/info"} {}',
    "single quotes": b"{'jsonrpc':'2.0'}",
    "a trailing comma": b'{"jsonrpc":"2.0","id":1,"method":"server/info",}',
    "a byte order mark": b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"server/info"}',
    "bytes that are not UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}',
    "UTF-8 that is overlong": b'{"jsonrpc":"2.0","id":1,"method":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xed\xa0\x80"}',
    "UTF-16": '{"jsonrpc":"2.0","id":1,"method":"server/info"}'.encode("utf-16-be"),
    "NaN": b'{"jsonrpc":"2.0","id":1,"method":"server/info","params":{"a":NaN}}',
    "Infinity": b'{"jsonrpc":"2.0","id":1,"method":"server/info","params":{"a":Infinity}}',
    "minus Infinity": b'{"jsonrpc":"2.0","id":1,"method":"server/info","params":{"a":-Infinity}}',
    "1e400": b'{"jsonrpc":"2.0","id":1,"method":"server/info","params":{"a":1e400}}',
    "-1e400": b'{"jsonrpc":"2.0","id":1,"method":"server/info","params":{"a":-1e400}}',
    "a lone high surrogate": b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}',
    "a lone low surrogate": b'{"jsonrpc":"2.0","id":1,"method":"x\\udc00x"}',
    "a lone surrogate in a key": b'{"jsonrpc":"2.0","id":1,"method":"server/info","params":{"\\ud83d":1}}',
    "a raw NUL": b'{"jsonrpc":"2.0","id":1,"method":"server/info","params":{"a":"\x00"}}',
    "a raw NUL between lines": b'\x00{"jsonrpc":"2.0","id":1,"method":"server/info"}',
    "an escaped NUL": b'{"jsonrpc":"2.0","id":1,"method":"server/info","params":{"a":"\\u0000"}}',
    "an escaped NUL in a key": b'{"jsonrpc":"2.0","id":1,"method":"server/info","params":{"\\u0000":1}}',
    "an escaped NUL in the id": b'{"jsonrpc":"2.0","id":"\\u0000","method":"server/info"}',
    "a raw control character": b'{"jsonrpc":"2.0","id":1,"method":"server\x01info"}',
    "nested out of all reason": b"[" * 200_000,
}

NO_REQUEST: dict[str, tuple[bytes, object]] = {
    "an empty batch": (b"[]", None),
    "a batch": (b'[{"jsonrpc":"2.0","id":1,"method":"server/info"}]', None),
    "a number": (b"1", None),
    "a text": (b'"server/info"', None),
    "null": (b"null", None),
    "true": (b"true", None),
    "an empty object": (b"{}", None),
    "no jsonrpc": (b'{"id":7,"method":"server/info"}', 7),
    "jsonrpc 1.0": (b'{"jsonrpc":"1.0","id":7,"method":"server/info"}', 7),
    "jsonrpc a number": (b'{"jsonrpc":2.0,"id":"seven","method":"server/info"}', "seven"),
    "no method": (b'{"jsonrpc":"2.0","id":7}', 7),
    "a method that is a number": (b'{"jsonrpc":"2.0","id":7,"method":1}', 7),
    "a method that is null": (b'{"jsonrpc":"2.0","id":"","method":null}', ""),
    "no id and no method": (b'{"jsonrpc":"2.0"}', None),
    "no id and no jsonrpc": (b'{"method":"server/info"}', None),
    "an answer": (b'{"jsonrpc":"2.0","id":7,"result":{}}', 7),
    "an id that is true": (b'{"jsonrpc":"2.0","id":true,"method":"server/info"}', None),
    "an id that is a fraction": (b'{"jsonrpc":"2.0","id":1.5,"method":"server/info"}', None),
    "an id that is a float": (b'{"jsonrpc":"2.0","id":1.0,"method":"server/info"}', None),
    "an id that is a list": (b'{"jsonrpc":"2.0","id":[1],"method":"server/info"}', None),
    "an id that is an object": (b'{"jsonrpc":"2.0","id":{},"method":"server/info"}', None),
}


def ask(wire: Wire, line: bytes) -> list[Json]:
    """Everything that a connection says to this line and to a request after it, to its end."""
    wire.send_raw(line + b'\n{"jsonrpc":"2.0","id":"after","method":"server/info"}\n')
    wire.end_sending()
    return wire.read_to_end()


def assert_refused(said: list[Json], code: int, kind: str, request_id: object) -> None:
    """One error as the contract has it, and the answer to the request behind it."""
    assert len(said) == 2, said
    error, answer = said
    assert (error["jsonrpc"], error["id"]) == ("2.0", request_id)
    assert (error["error"]["code"], error["error"]["data"]["type"]) == (code, kind)
    assert error["error"]["data"]["retryable"] is False
    assert "Traceback" not in json.dumps(error)
    assert (answer["id"], answer["result"]["name"]) == ("after", "outlived")


def pad(size: int) -> bytes:
    """A request of so many bytes without its newline."""
    request = b'{"jsonrpc":"2.0","id":"padded","method":"server/info"}'
    return request + b" " * (size - len(request))


@pytest.mark.parametrize("line", NOT_JSON.values(), ids=NOT_JSON)
def test_a_line_that_cannot_be_read(wire: Wire, line):
    """What is no JSON of the contract is answered -32700 with id null, once, and the next line is served."""
    assert_refused(ask(wire, line), -32700, "parse_error", None)


@pytest.mark.parametrize(("line", "request_id"), NO_REQUEST.values(), ids=NO_REQUEST)
def test_a_line_that_is_no_request(wire: Wire, line, request_id):
    """JSON that is no request is answered -32600, under its id where that is usable, and the next line is served."""
    assert_refused(ask(wire, line), -32600, "invalid_request", request_id)


@pytest.mark.parametrize("method", ["no/such", "", "server/Info", "run/start ", "run", "x" * 5000, "ü\u2028"])
def test_a_method_that_is_not_there(wire: Wire, method):
    """An unknown method is answered -32601, whatever its parameters are."""
    for params in ({}, [1], None):
        line = json.dumps({"jsonrpc": "2.0", "id": 3, "method": method, "params": params}).encode()
        wire.send_raw(line + b"\n")
        error = wire.read()
        assert (error["id"], error["error"]["code"]) == (3, -32601)
        assert error["error"]["data"] == {"type": "method_not_found", "retryable": False}


# ---------------------------------------------------------------- length and depth


def test_a_line_of_the_limit_is_read(wire: Wire):
    """A line of 1 MiB, with or without counting its newline, is a line like any other."""
    for size in (LIMIT - 1, LIMIT):
        wire.send_raw(pad(size) + b"\n")
        assert wire.wait_reply("padded")["name"] == "outlived"


def test_an_overlong_line_is_answered_once(wire: Wire):
    """A line beyond the limit is answered 413 with id null, once, however long it is, and the next one is served."""
    for size in (LIMIT + 1, 5 * LIMIT):
        wire.send_raw(pad(size) + b"\n" + pad(100) + b"\n")
        error = wire.read()
        assert (error["id"], error["error"]["code"], error["error"]["data"]["type"]) == (
            None,
            413,
            "too_large",
        )
        assert wire.read()["id"] == "padded"
    wire.assert_silent()


def test_an_overlong_line_is_answered_at_the_limit(wire: Wire):
    """The answer does not wait for the line's end; whatever follows up to the newline is skipped."""
    wire.send_raw(b"x" * (LIMIT + 1))
    assert wire.read()["error"]["code"] == 413
    for _ in range(3):
        wire.send_raw(pad(LIMIT))
    said = ask(wire, b"")
    assert [line["id"] for line in said] == ["after"]


def nest(levels: int) -> Json:
    """An object that nests so deep, itself counted."""
    value: Json = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def test_a_request_may_nest_64_deep(wire: Wire):
    """With the request itself as depth 1, depth 64 is read and stored, and depth 65 is not."""
    deepest = nest(62)
    assert wire.call("chat/create", chat_id="deep", metadata=deepest)["chat"]["metadata"] == deepest
    line = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "chat/create",
        "params": {"chat_id": "deeper", "metadata": nest(63)},
    }
    assert_refused(ask(wire, json.dumps(line).encode()), -32700, "parse_error", None)


def test_lists_count_as_depth(wire: Wire):
    """Lists nest as objects do; brackets within a text do not count."""
    inside = '{"jsonrpc":"2.0","id":1,"method":"chat/create","params":{"metadata":{"a":%s}}}'
    wire.send_raw((inside % ("[" * 61 + "]" * 61)).encode() + b"\n")
    assert wire.wait_reply(1)["created"] is True
    wire.send_raw((inside % json.dumps("[{" * 500)).encode() + b"\n")
    assert wire.wait_reply(1)["created"] is True
    assert_refused(ask(wire, (inside % ("[" * 62 + "]" * 62)).encode()), -32700, "parse_error", None)


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize(
    "request_id", [0, -1, 2**53 + 1, 2**63, 2**64 + 1, -(2**70), "", "1", "ü\u2028😀", "x" * 50_000]
)
def test_an_id_comes_back_as_it_was_sent(wire: Wire, request_id):
    """Any string and any integer is an id, with a result and with an error."""
    for method in ("server/info", "no/such"):
        line = {"jsonrpc": "2.0", "id": request_id, "method": method}
        wire.send_raw(json.dumps(line).encode() + b"\n")
        answer = wire.read()
        assert answer["id"] == request_id
        assert type(answer["id"]) is type(request_id)


def test_an_id_in_flight_is_refused(wire: Wire):
    """A second request with an id in flight is answered -32600 under that id; the first one goes on; once it is
    answered the id is free.
    """
    run = start_endless(wire)
    wait = json.dumps(
        {"jsonrpc": "2.0", "id": "twice", "method": "run/wait", "params": {"run_id": run["id"]}}
    )
    info = '{"jsonrpc":"2.0","id":"twice","method":"server/info"}'
    wire.send_raw(f"{wait}\n{info}\n".encode())
    error = wire.read()
    assert (error["id"], error["error"]["code"]) == ("twice", -32600)
    assert error["error"]["data"]["type"] == "invalid_request"
    stop(wire, run["id"])
    assert wire.wait_reply("twice")["settled"] is True
    wire.send_raw(info.encode() + b"\n")
    assert wire.wait_reply("twice")["name"] == "outlived"


def test_a_text_and_a_number_are_two_ids(wire: Wire):
    """The ids 1 and "1" are in flight side by side."""
    run = start_endless(wire)
    for request_id in (1, "1"):
        line = {"jsonrpc": "2.0", "id": request_id, "method": "run/wait", "params": {"run_id": run["id"]}}
        wire.send_raw(json.dumps(line).encode() + b"\n")
    stop(wire, run["id"])
    assert wire.wait_reply(1)["settled"] is wire.wait_reply("1")["settled"] is True


# ---------------------------------------------------------------- notifications


@pytest.mark.parametrize("line", [
    b'{"jsonrpc":"2.0","method":"server/info"}',
    b'{"jsonrpc":"2.0","method":"server/info","id":null}',
    b'{"jsonrpc":"2.0","method":"no/such"}',
    b'{"jsonrpc":"2.0","method":"server/info","params":{"unknown":1}}',
    b'{"jsonrpc":"2.0","method":"server/info","params":[1]}',
    b'{"jsonrpc":"2.0","method":"run/get","params":{"run_id":"x"}}',
    b'{"jsonrpc":"2.0","method":"run/get","params":{"run_id":"0190a0a0-0000-7000-8000-000000000000"}}',
    b'{"jsonrpc":"2.0","method":"run/start","params":{}}',
    b'{"jsonrpc":"2.0","method":"run/untail","params":{"subscription":"x"}}',
    b'{"jsonrpc":"2.0","method":"$/cancel_request","params":{}}',
    b'{"jsonrpc":"2.0","method":"$/cancel_request","params":{"id":1.5}}',
])  # fmt: skip
def test_a_notification_is_never_answered(wire: Wire, line):
    """A request without id, or with id null, is not answered, right or wrong."""
    assert [said["id"] for said in ask(wire, line)] == ["after"]


# ---------------------------------------------------------------- bytes and lines


def test_blank_lines_are_ignored(wire: Wire):
    """Empty lines and lines of white space are not answered."""
    assert [said["id"] for said in ask(wire, b"\n\n   \n\t\n\r\n \r\n" * 50)] == ["after"]


def test_a_line_may_end_as_on_other_systems(wire: Wire):
    """White space around a request, a carriage return too, is part of JSON."""
    wire.send_raw(b'  {"jsonrpc":"2.0","id":1,"method":"server/info"} \t\r\n')
    assert wire.wait_reply(1)["name"] == "outlived"


def test_many_requests_in_one_write(wire: Wire):
    """All requests of one write are answered, each once, whatever stands between them."""
    lines = [json.dumps({"jsonrpc": "2.0", "id": number, "method": "server/info"}) for number in range(200)]
    wire.send_raw(("\n\n".join(lines) + "\nnonsense\n").encode())
    wire.end_sending()
    said = wire.read_to_end()
    assert sorted(line["id"] for line in said if line["id"] is not None) == list(range(200))
    assert [line["error"]["code"] for line in said if line["id"] is None] == [-32700]


def test_a_request_byte_by_byte(wire: Wire):
    """A request may come in any pieces, also in the middle of a character."""
    line = (
        json.dumps({"jsonrpc": "2.0", "id": "ü😀", "method": "server/info"}, ensure_ascii=False).encode()
        + b"\n"
    )
    for number in range(len(line)):
        wire.send_raw(line[number : number + 1])
    assert wire.wait_reply("ü😀")["name"] == "outlived"


def test_other_connections_do_not_notice(shared_daemon: Daemon, wire: Wire):
    """While one connection sends every kind of fault, another one's tail and requests go on undisturbed."""
    run = start_endless(wire)
    subscription = wire.call("run/tail", run_id=run["id"], after_seq=0)["subscription"]
    with shared_daemon.connect() as faulty:
        for line in [*NOT_JSON.values(), *(line for line, _ in NO_REQUEST.values()), b"x" * (2 * LIMIT)]:
            faulty.send_raw(line + b"\n")
            assert "error" in faulty.read()
        assert perform(wire, input="meanwhile")["status"] == "succeeded"
    stop(wire, run["id"])
    events, end = wire.read_tail(subscription)
    assert (events[-1]["type"], end["reason"]) == ("run.settled", "settled")
