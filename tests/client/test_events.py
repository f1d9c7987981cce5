"""The data of every event that a real daemon writes is what the contract says it is."""

import signal

import attrs
import msgspec
import pytest

from outlive import BrokenPeer, Event, events, wire
from outlive.events import EVENTS, read_data
from tests.support.programs import shell
from tests.support.runs import ENDLESS, perform, start_endless, stop

NOT_SERVED_YET = {"run.promoted", "run.waiting", "run.resumed"}


def read_logs(daemon, run_ids):
    with daemon.connect() as wire:
        return [event for run_id in run_ids for event in wire.tail(run_id)[0]]


@pytest.fixture(scope="module")
def told(shared_daemon, postgres, tmp_path_factory):
    """The events of runs that end in every way, and of one whose daemon was killed."""
    with shared_daemon.connect() as wire:
        runs = [
            perform(wire, input="a b"),
            perform(wire, metadata={"demo": {"fail": "as asked"}}),
            perform(wire, agent="outspoken"),
            perform(wire, command=shell("echo out; echo err >&2; exit 3")),
            perform(wire, command=shell("kill -9 $$")),
            stop(wire, start_endless(wire)["id"], reason="enough"),
        ]
        return read_logs(shared_daemon, [run["id"] for run in runs])


@pytest.fixture
def orphaned(make_daemon):
    """The events of a run whose daemon was killed, of one that its daemon's end has ended, and of one that was resumed."""
    daemon = make_daemon().start()
    with daemon.connect() as wire:
        lost = start_endless(wire)["id"]
    daemon.kill()
    daemon.start()
    with daemon.connect() as wire:
        assert wire.call("run/wait", run_id=lost)["settled"]
        ended = wire.call("run/start", agent="demo", input="a b", metadata=ENDLESS)["run"]["id"]
        resumed = start_endless(wire, on_owner_loss="resume")["id"]
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.wait(30)
    daemon.start()
    with daemon.connect() as wire:
        stop(wire, resumed)
    return read_logs(daemon, [lost, ended, resumed])


def check(event):
    """The data has the fields of its class and no other, and each is of its type."""
    kind = EVENTS[event["type"]]
    fields = attrs.fields_dict(kind)
    assert event["data"].keys() <= fields.keys(), event
    assert {name for name, field in fields.items() if field.default is attrs.NOTHING} <= event[
        "data"
    ].keys(), event
    data = read_data(msgspec.convert(event, Event))
    assert isinstance(data, kind)
    if isinstance(data, events.Settled) and data.error is not None:
        assert data.error["code"] in wire.ErrorCode.__args__
        assert isinstance(data.error["message"], str)


def test_every_event_is_as_its_class_says(told, orphaned):
    """Every type of event that this version writes was written, and is exactly what its class says."""
    for event in told + orphaned:
        check(event)
    assert {event["type"] for event in told + orphaned} == EVENTS.keys() - NOT_SERVED_YET
    ends = [event["data"] for event in told + orphaned if event["type"] == "run.settled"]
    codes = [end["error"] and end["error"]["code"] for end in ends]
    assert codes == [None, "exception", None, "exit_status", "signal", None, "owner_lost", "shutdown", None]


def test_large_values_are_marked(told):
    """A value that was too large for an event is the beginning of its text, and says so."""
    marked = [event for event in told if event["data"].get("truncated")]
    assert [event["type"] for event in marked] == ["tool.call", "tool.result", "data"]
    for event in marked:
        data = read_data(msgspec.convert(event, Event))
        value = {"tool.call": "input", "tool.result": "output", "data": "value"}[event["type"]]
        assert isinstance(getattr(data, value), str)


def test_the_future_is_ignored():
    """A type that is not known reads as None, and an unknown field is left out."""
    assert read_data(Event("r", 1, "t", "run.dreamed", {"of": "sheep"})) is None
    assert read_data(Event("r", 1, "t", "text.delta", {"text": "a", "mood": 1})) == events.TextDelta("a")


def test_data_that_cannot_be_is_said():
    """Data that is not as its type promises is BrokenPeer, with the event's number and the field."""
    with pytest.raises(BrokenPeer, match=r"event 7 of run r: Expected `str`, got `int` - at `\$\.text`"):
        read_data(Event("r", 7, "t", "text.delta", {"text": 1}))
