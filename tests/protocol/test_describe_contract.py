"""The contract as JSON Schema: complete, closed under its references, and what is checked in."""

import json
import re
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlive import wire
from outlive.describe import describe
from outlive.errors import BY_TYPE, InvalidParams
from outlive.events import EVENTS
from outlive.methods import METHODS, NOTIFICATIONS
from outlive.strict_json import convert_params

GOLDEN = Path(__file__).with_name("golden") / "describe.json"


def write_golden():
    return json.dumps(msgspec.to_builtins(describe()), indent=2, ensure_ascii=False) + "\n"


def test_the_contract_is_the_one_that_is_checked_in():
    """Every change of the contract is seen in a review: python tests/protocol/test_describe_contract.py writes it."""
    assert write_golden() == GOLDEN.read_text("utf-8")


def test_everything_is_described():
    """Every method, error, notification and type of event is there."""
    described = describe()
    assert described.methods.keys() == METHODS.keys()
    assert described.errors.keys() == BY_TYPE.keys()
    assert described.notifications.keys() == NOTIFICATIONS.keys()
    assert described.events.keys() == EVENTS.keys()
    for name, method in described.methods.items():
        assert method.description.endswith("."), name
        assert len(set(method.errors)) == len(method.errors), name
        assert set(method.errors) <= described.errors.keys(), name


def list_references(value):
    if isinstance(value, dict):
        for name, item in value.items():
            yield from [item] if name == "$ref" else list_references(item)
    elif isinstance(value, list):
        for item in value:
            yield from list_references(item)


@pytest.mark.parametrize("method", [None, *METHODS])
def test_references_lead_to_definitions(method):
    """Each description holds the definitions that it refers to, and no other."""
    description = msgspec.to_builtins(describe(method))
    names = {reference.removeprefix("#/$defs/") for reference in list_references(description)}
    assert names == description["$defs"].keys()


@pytest.mark.parametrize("method", METHODS)
def test_one_method_is_a_part_of_the_whole(method):
    """What is said of one method alone is what is said of it among all."""
    whole, one = describe(), describe(method)
    assert list(one.methods) == [method]
    assert one.errors.keys() == set(one.methods[method].errors)
    assert bool(one.events) == (method == "run/tail"), "only a tail is followed by events"
    for part in ("methods", "errors", "notifications", "events", "definitions"):
        assert getattr(one, part).items() <= getattr(whole, part).items() or all(
            getattr(whole, part)[name] == item for name, item in getattr(one, part).items()
        )


def test_an_unknown_method_is_refused():
    """A method that does not exist is the caller's error, and the parameter is named."""
    with pytest.raises(InvalidParams, match=r"^cannot describe 'run/fly'") as caught:
        describe("run/fly")
    assert caught.value.data == {"path": "$.method"}


@given(
    st.text(st.sampled_from("aZ09._:@/-é \n"), max_size=5)
    | st.integers(120, 135).map(lambda size: "x" * size)
)
def test_patterns_mean_what_the_daemon_checks(chat_id):
    """A pattern in the schema takes what the daemon takes, read as other languages read it."""
    schema = describe().definitions["ChatGetParams"]["properties"]["chat_id"]
    matches = re.search(schema["pattern"].removesuffix("$") + r"\Z", chat_id) is not None
    try:
        convert_params(wire.ChatGetParams, {"chat_id": chat_id})
    except InvalidParams:
        assert not matches
    else:
        assert matches


def test_words_are_in_their_order():
    """An enumeration is told in the order of its type, from the beginning of a life to its end."""
    assert describe().definitions["Run"]["properties"]["status"]["enum"] == list(wire.Status.__args__)


if __name__ == "__main__":
    GOLDEN.write_text(write_golden(), "utf-8")
    sys.stdout.write(f"{GOLDEN} written\n")
