"""Parameters that are wrong: refused before anything happens, and ``data.path`` says which."""

import pytest

from tests.support.runs import NO_RUN, start_endless, stop
from tests.support.wire import Wire

GOOD = {
    "server/info": {},
    "server/stats": {},
    "run/start": {"agent": "demo"},
    "run/get": {"run_id": NO_RUN},
    "run/latest": {"chat_id": "c"},
    "run/list": {},
    "run/stop": {"run_id": NO_RUN},
    "run/wait": {"run_id": NO_RUN},
    "run/tail": {"run_id": NO_RUN},
    "run/untail": {"subscription": "s"},
    "chat/create": {},
    "chat/get": {"chat_id": "c"},
    "chat/list": {},
    "chat/messages": {"chat_id": "c"},
    "$/cancel_request": {"id": 1},
}
REQUIRED = {
    "run/get": "run_id", "run/latest": "chat_id", "run/wait": "run_id", "run/tail": "run_id",
    "run/untail": "subscription", "chat/get": "chat_id", "chat/messages": "chat_id", "$/cancel_request": "id",
}  # fmt: skip
WORKSPACED = [
    method
    for method in GOOD
    if method not in {"server/info", "server/stats", "run/untail", "$/cancel_request"}
]
NO_TEXT = [1, 1.5, True, [], {}]
ILL_TYPED = [
    *[
        ("run/start", field, value)
        for field in ("agent", "workspace", "idempotency_key")
        for value in NO_TEXT
    ],
    *[
        ("run/start", field, value)
        for field in ("created_by", "cwd", "trigger", "on_active")
        for value in NO_TEXT
    ],
    *[("run/start", "detached", value) for value in (0, 1, "true", None, [])],
    *[("run/start", "metadata", value) for value in (1, "{}", [], True)],
    *[("run/start", "input", value) for value in (1, None, True, {})],
    *[("run/start", "trigger", value) for value in ("schedule", "agent", "retry", "", "USER")],
    *[("run/start", "on_active", value) for value in ("queue", "")],
    *[("run/start", "on_owner_loss", value) for value in ("retry", "", 1)],
    *[("run/start", "idempotency_key", value) for value in ("", "x" * 129)],
    *[("run/start", "agent", value) for value in ("", "x" * 129, "no such agent", "DEMO")],
    ("run/start", "created_by", "x" * 5000),
    *[("run/list", "status", value) for value in ("running", [1], ["done"], {}, [None])],
    *[("run/list", "agent", value) for value in NO_TEXT],
    *[("run/list", "cursor", value) for value in NO_TEXT],
    *[("run/tail", "follow", value) for value in (0, 1, "no", None, [])],
    *[("run/untail", "subscription", value) for value in (*NO_TEXT, None)],
    *[("$/cancel_request", "id", value) for value in (1.5, True, None, [], {})],
    *[("run/stop", "reason", value) for value in NO_TEXT],
    *[(method, "workspace", value) for method in WORKSPACED for value in ("", "a b", "x" * 65, 1, ["a"])],
    *[
        (method, "chat_id", value)
        for method in ("chat/get", "chat/messages", "run/latest")
        for value in ("", "ä", 1)
    ],
]


@pytest.mark.parametrize("method", GOOD)
@pytest.mark.parametrize("params", [[], [1], "x", 1, True, None])
def test_params_are_an_object(wire: Wire, method, params):
    """Positional params, and anything else that is no object, are refused as a whole."""
    error = wire.refuse_params(method, params)
    assert (error.code, error.type, error.data["path"]) == (-32602, "invalid_params", "$")


@pytest.mark.parametrize("method", GOOD)
def test_an_unknown_parameter_is_refused(wire: Wire, method):
    """A field that the method does not have is refused under its name, beside good ones."""
    error = wire.refuse(method, **GOOD[method], nonsense=1)
    assert (error.code, error.type, error.data["path"]) == (-32602, "invalid_params", "$.nonsense")
    assert error.data["retryable"] is False


@pytest.mark.parametrize(("method", "field"), REQUIRED.items())
def test_a_missing_parameter_is_named(wire: Wire, method, field):
    """A required field that is absent is refused under its name."""
    error = wire.refuse(method)
    assert (error.code, error.data["path"]) == (-32602, f"$.{field}")


@pytest.mark.parametrize(("method", "field", "value"), ILL_TYPED)
def test_a_wrong_parameter_is_named(wire: Wire, method, field, value):
    """A field of another type, or out of its range, is refused under its name, for people in plain words."""
    error = wire.refuse(method, **{**GOOD[method], field: value})
    assert (error.code, error.type) == (-32602, "invalid_params")
    assert error.data["path"].startswith(f"$.{field}")
    assert error.message.startswith("cannot ")


@pytest.mark.parametrize(("params", "path"), [
    ({"command": []}, "$.command"), ({"command": "ls"}, "$.command"), ({"command": ["ls", 1]}, "$.command[1]"),
    ({"command": ["true"], "env": []}, "$.env"), ({"command": ["true"], "env": {"A": 1}}, "$.env"),
    ({"command": ["true"], "cwd": 1}, "$.cwd"), ({"agent": "demo", "input": ["x"]}, "$.input[0]"),
])  # fmt: skip
def test_a_wrong_command_is_named(wire: Wire, params, path):
    """A command is a list of at least one text, its environment texts by name."""
    error = wire.refuse("run/start", **params)
    assert error.code == -32602
    assert error.data["path"].startswith(path)


def test_a_refused_start_stores_nothing(wire: Wire):
    """A start with one wrong field leaves no chat, no message and no key behind."""
    faults = ({"nonsense": 1}, {"trigger": "x"}, {"metadata": 1}, {"detached": "no"})
    for fault in faults:
        wire.refuse("run/start", agent="demo", chat_id="untouched", idempotency_key="unused", **fault)
    assert wire.refuse("chat/get", chat_id="untouched").type == "not_found"
    assert (
        wire.call("run/start", agent="demo", chat_id="untouched", idempotency_key="unused")["created"] is True
    )


def test_a_refused_stop_stops_nothing(wire: Wire):
    """A stop with an unknown field leaves its run as it was, without a mark."""
    run = start_endless(wire)
    wire.refuse("run/stop", run_id=run["id"], force=True)
    found = wire.call("run/get", run_id=run["id"])["run"]
    assert (found["status"], found["stop_requested_at"]) == ("running", None)


def test_a_refused_untail_ends_nothing(wire: Wire):
    """An untail with an unknown field leaves its subscription."""
    run = start_endless(wire)
    subscription = wire.call("run/tail", run_id=run["id"])["subscription"]
    wire.refuse("run/untail", subscription=subscription, nonsense=1)
    stop(wire, run["id"])
    assert wire.read_tail(subscription)[1]["reason"] == "settled"


def test_an_absent_field_may_be_null(wire: Wire):
    """A field whose absence means "none" may be sent as null."""
    absent = dict.fromkeys(("chat_id", "idempotency_key", "created_by", "cwd", "env", "metadata", "command"))
    assert wire.call("run/start", agent="demo", **absent)["created"] is True
    wire.call("run/list", workspace=None, chat_id=None, status=None, agent=None, cursor=None)
