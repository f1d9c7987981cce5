"""Lines become requests and replies, on both sides."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlive import errors, wire
from outlive.peer import (
    BrokenPeer,
    ClientPeer,
    Notification,
    Rejected,
    Reply,
    encode_error,
    encode_event,
    encode_notification,
    encode_result,
    parse_request,
    understand,
)

INVALID = [
    (b"hello", "parse_error", None),
    (b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":"\\u0000"}}', "parse_error", None),
    (b"[]", "invalid_request", None),
    (b'[{"jsonrpc":"2.0","id":1,"method":"a"}]', "invalid_request", None),
    (b'"text"', "invalid_request", None),
    (b"1", "invalid_request", None),
    (b"null", "invalid_request", None),
    (b"{}", "invalid_request", None),
    (b'{"jsonrpc":"2.0","id":true,"method":"a"}', "invalid_request", None),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"a"}', "invalid_request", None),
    (b'{"jsonrpc":"2.0","id":1.0,"method":"a"}', "invalid_request", None),
    (b'{"jsonrpc":"2.0","id":{},"method":"a"}', "invalid_request", None),
    (b'{"jsonrpc":"2.0","id":[1],"method":"a"}', "invalid_request", None),
    (b'{"id":7,"method":"a"}', "invalid_request", 7),
    (b'{"jsonrpc":"1.0","id":"x","method":"a"}', "invalid_request", "x"),
    (b'{"jsonrpc":2.0,"id":7,"method":"a"}', "invalid_request", 7),
    (b'{"jsonrpc":"2.0","id":7}', "invalid_request", 7),
    (b'{"jsonrpc":"2.0","id":7,"method":null}', "invalid_request", 7),
    (b'{"jsonrpc":"2.0","id":7,"method":["a"]}', "invalid_request", 7),
    (b'{"jsonrpc":"2.0","id":null}', "invalid_request", None),
    (b'{"jsonrpc":"2.0","method":1}', "invalid_request", None),
    (b'{"method":"a"}', "invalid_request", None),
]


@pytest.mark.parametrize(("line", "kind", "answered_id"), INVALID)
def test_line_that_is_no_request_is_rejected(line, kind, answered_id):
    """What is no request is rejected with the contract's error, under its id if that can be used."""
    with pytest.raises(Rejected) as caught:
        parse_request(line)
    assert caught.value.error.type == kind
    assert caught.value.id == answered_id
    answer = json.loads(encode_error(caught.value.id, caught.value.error))
    assert answer["id"] == answered_id
    assert answer["error"]["data"]["type"] == kind


@pytest.mark.parametrize("request_id", [0, -1, 10**30, "", "a\nb", "é"])
def test_usable_ids_are_kept(request_id):
    """Any string and any integer is an id, and is answered as it came."""
    line = json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "a"}).encode()
    request = parse_request(line)
    assert (request.id, request.is_notification) == (request_id, False)
    assert json.loads(encode_result(request.id, {}))["id"] == request_id


@pytest.mark.parametrize(
    "line", [b'{"jsonrpc":"2.0","method":"a"}', b'{"jsonrpc":"2.0","method":"a","id":null}']
)
def test_request_without_id_is_a_notification(line):
    """An absent id and a null one make a notification."""
    request = parse_request(line)
    assert request.id is None
    assert request.is_notification


def test_params_are_passed_on_unchecked():
    """Absent params are an empty object; null and lists reach the check that names them."""
    assert parse_request(b'{"jsonrpc":"2.0","id":1,"method":"a"}').params == {}
    assert parse_request(b'{"jsonrpc":"2.0","id":1,"method":"a","params":null}').params is None
    assert parse_request(b'{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}').params == [1]


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
objects = st.dictionaries(text, text | st.integers() | st.lists(text, max_size=2), max_size=3)


@given(text, objects)
def test_request_reaches_the_server(method, params):
    """What a client asks is what the server reads, in one line."""
    request_id, line = ClientPeer().request(method, params)
    assert line.count(b"\n") == 1
    request = parse_request(line)
    assert (request.id, request.method, request.params) == (request_id, method, params)
    assert parse_request(ClientPeer().notify(method, params)).is_notification


@given(st.text(max_size=10).filter(lambda text: text.isprintable()) | st.integers(), objects)
def test_result_reaches_the_client(request_id, result):
    """What the server answers is what the client reads, under the same id."""
    (reply,) = ClientPeer().receive(encode_result(request_id, result))
    assert isinstance(reply, Reply)
    assert (reply.id, json.loads(reply.result), reply.error) == (request_id, result, None)


@given(text, text, text, st.integers(0, 2**63 - 1), objects)
def test_event_reaches_the_client(subscription, run_id, kind, seq, data):
    """An event's strings are escaped, its data comes through as stored, even over several lines of JSON."""
    stored = json.dumps(data, indent=1)
    for data_json in (stored, stored.encode()):
        line = encode_event(subscription, run_id, seq, "now", kind, data_json)
        assert line.count(b"\n") == 1
        (message,) = ClientPeer().receive(line)
        assert isinstance(message, Notification)
        assert message.method == "run/event"
        assert json.loads(message.params)["subscription"] == subscription
        assert understand(wire.Event, message.params) == wire.Event(run_id, seq, "now", kind, data)


@pytest.mark.parametrize("kind", errors.BY_TYPE.values(), ids=errors.BY_TYPE)
def test_every_error_reaches_the_client_as_its_class(kind):
    """An error is the same class, message and data on both sides."""
    (reply,) = ClientPeer().receive(encode_error(1, kind("cannot do it", active_run_id="x")))
    assert isinstance(reply, Reply)
    assert type(reply.error) is kind
    assert (reply.error.message, reply.error.data) == ("cannot do it", {"active_run_id": "x"})


def test_unknown_error_is_still_an_error():
    """An error type that this client does not know becomes the general class."""
    line = b'{"jsonrpc":"2.0","id":1,"error":{"code":999,"message":"cannot x","data":{"type":"new"}}}\n'
    (reply,) = ClientPeer().receive(line)
    assert isinstance(reply, Reply)
    assert type(reply.error) is errors.OutliveError


def test_error_with_strange_data_is_still_an_error():
    """An error object whose data is no object, or names what Python uses itself, is an error like any other."""
    lines = b'{"id":1,"error":{"data":1}}\n{"id":2,"error":{"code":1,"data":{"message":"x","self":2}}}\n'
    first, second = ClientPeer().receive(lines)
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    assert type(first.error) is errors.OutliveError
    assert second.error is not None
    assert second.error.data == {"message": "x", "self": 2}


@pytest.mark.parametrize("line", [b"hello\n", b"[]\n", b'{"id":true}\n', b'{"error":1}\n', b"x" * 101])
def test_client_refuses_what_is_not_this_protocol(line):
    """A server that speaks something else, or too long a line, is reported as such."""
    with pytest.raises(BrokenPeer, match=r"^cannot "):
        ClientPeer(limit=100).receive(line)


def test_client_ignores_unknown_fields():
    """Fields that a newer server adds are ignored, beside the reply and inside its result."""
    (reply,) = ClientPeer().receive(
        b'{"jsonrpc":"2.0","id":1,"new":1,"result":{"uid":1,"gid":2,"user":null,"x":1}}\n'
    )
    assert isinstance(reply, Reply)
    assert understand(wire.PeerInfo, reply.result) == wire.PeerInfo(1, 2, None)


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"input": "x" * wire.MAX_CLIENT_LINE}, errors.TooLarge),
        ({"input": "a\0b"}, errors.ParseError),
        ({"input": "\ud800"}, errors.InvalidParams),
    ],
)
def test_client_does_not_send_what_nobody_could_answer(params, kind):
    """What the server would answer without naming the id is refused before it is sent."""
    with pytest.raises(kind, match=r"^cannot "):
        ClientPeer().request("run/start", params)


def test_notification_reaches_the_client():
    """A notification comes out as one, in its place between replies."""
    data = encode_result(1, {}) + encode_notification("run/tail_end", {"a": 1}) + encode_result(2, {})
    first, between, last = ClientPeer().receive(data)
    assert isinstance(between, Notification)
    assert (between.method, json.loads(between.params)) == ("run/tail_end", {"a": 1})
    assert isinstance(first, Reply)
    assert isinstance(last, Reply)
