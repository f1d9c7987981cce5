"""``server/describe`` and ``outlive describe``: what a real daemon says of itself, and whether it is true."""

import json
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlive.describe import describe
from outlive.methods import METHODS
from tests.support.command_line import CommandLine
from tests.support.runs import NO_RUN
from tests.support.wire import WireError

SPOKEN_TO = sorted(METHODS.keys() - {"$/cancel_request", "server/drain"})  # others need this daemon, too


def ask(wire, method, params):
    """A result, or the error."""
    try:
        return wire.wait_reply(wire.send(method, params)), None
    except WireError as error:
        return None, error


def test_the_daemon_describes_the_contract(wire):
    """The whole description comes over the wire as it is made, and so does that of each method."""
    assert wire.call("server/describe") == msgspec.to_builtins(describe())
    for method in METHODS:
        described, _ = ask(wire, "server/describe", {"method": method})
        assert described == msgspec.to_builtins(describe(method))


def test_an_unknown_method_is_refused(wire):
    """A method that does not exist cannot be described, and the parameter is named."""
    _, error = ask(wire, "server/describe", {"method": "run/fly"})
    assert (error.type, error.data["path"]) == ("invalid_params", "$.method")


values = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats(0, 0.01)
    | st.sampled_from(["default", "demo", "", "x" * 200, "running", NO_RUN, "é", "c1"])
    | st.just(["demo"])
    | st.just({"demo": 1})
)


@st.composite
def requests(draw):
    method = draw(st.sampled_from(SPOKEN_TO))
    names = sorted(find(describe(method), describe(method).methods[method].params)["properties"])
    params = draw(st.dictionaries(st.sampled_from([*names, "more"]), values, max_size=4))
    if method == "run/wait" and "timeout_seconds" not in params:
        params["timeout_seconds"] = 0
    return method, params


def find(description, schema):
    return description.definitions[schema["$ref"].rpartition("/")[2]]


def test_answers_are_as_described(shared_daemon, effort):
    """Whatever is asked, an error is one that the method's description lists, and a result has the fields it promises."""

    @settings(
        max_examples=effort.choose(150, 5000),
        deadline=None,
        derandomize=effort.seed is None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(requests())
    def check(request):
        method, params = request
        description = describe(method)
        promised = description.methods[method]
        with shared_daemon.connect() as wire:
            result, error = ask(wire, method, params)
        if error is None:
            assert "more" not in params, "an unknown parameter is refused"
            assert list(result) == list(find(description, promised.result)["properties"])
        else:
            assert error.type in promised.errors
            known = description.errors[error.type]
            assert (error.code, error.data["retryable"]) == (known.code, known.retryable)

    check()


def test_the_command_prints_it(shared_daemon, tmp_path: Path):
    """``outlive describe`` prints readable JSON, with --json one line, of all methods or of one."""
    outlive = CommandLine(tmp_path, OUTLIVE_SOCKET=str(shared_daemon.socket))
    whole = outlive.run("describe")
    assert (whole.returncode, whole.stderr) == (0, "")
    assert json.loads(whole.stdout) == msgspec.to_builtins(describe())
    assert whole.stdout.count("\n") > 500
    one = outlive.run("describe", "run/get", "--json")
    assert (one.returncode, one.stdout.count("\n")) == (0, 1)
    assert json.loads(one.stdout) == msgspec.to_builtins(describe("run/get"))


def test_the_command_refuses_what_is_not_there(shared_daemon, tmp_path: Path):
    """A method that does not exist is a usage error in one line."""
    outlive = CommandLine(tmp_path, OUTLIVE_SOCKET=str(shared_daemon.socket))
    refused = outlive.run("describe", "run/fly")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "outlive: cannot describe 'run/fly': there is no such method\n"
