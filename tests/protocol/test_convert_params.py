"""Parameters are checked against their type, and a fault is named by its path."""

from __future__ import annotations

import msgspec
import pytest

from outlive import methods, wire
from outlive.errors import InvalidParams
from outlive.strict_json import convert_params

RUN_ID = "0190c5a2-7b1e-7cc3-9a54-1f3a9c2b7d10"

FAULTS = [
    (wire.RunListParams, {"limit": "5"}, "$.limit"),
    (wire.RunListParams, {"limit": True}, "$.limit"),
    (wire.RunListParams, {"limit": 5.0}, "$.limit"),
    (wire.RunListParams, {"limit": None}, "$.limit"),
    (wire.RunListParams, {"limit": 0}, "$.limit"),
    (wire.RunListParams, {"limit": 201}, "$.limit"),
    (wire.RunListParams, {"limit": 10**30}, "$.limit"),
    (wire.RunListParams, {"status": ["running", "lost"]}, "$.status[1]"),
    (wire.RunListParams, {"status": "running"}, "$.status"),
    (wire.RunListParams, {"page": 1}, "$.page"),
    (wire.RunListParams, {"Limit": 1}, "$.Limit"),
    (wire.RunIdParams, {}, "$.run_id"),
    (wire.RunIdParams, {"run_id": "x"}, "$.run_id"),
    (wire.RunIdParams, {"run_id": RUN_ID.upper()}, "$.run_id"),
    (wire.RunIdParams, {"run_id": RUN_ID + "\n"}, "$.run_id"),
    (wire.RunIdParams, {"run_id": RUN_ID, "workspace": "a b"}, "$.workspace"),
    (wire.RunStartParams, {"command": []}, "$.command"),
    (wire.RunStartParams, {"command": ["ls", 1]}, "$.command[1]"),
    (wire.RunStartParams, {"env": {"A": 1}}, "$.env[...]"),
    (wire.RunStartParams, {"env": {"A ` - at `$.x`": 1}}, "$.env[...]"),
    (wire.RunStartParams, {"trigger": "x - at `$.agent`"}, "$.trigger"),
    (wire.RunStartParams, {"trigger": "x" * 100_000}, "$.trigger"),
    (wire.RunStartParams, {"input": 3}, "$.input"),
    (wire.RunStartParams, {"input": [3]}, "$.input[0]"),
    (wire.RunStartParams, {"idempotency_key": ""}, "$.idempotency_key"),
    (wire.RunTailParams, {"run_id": RUN_ID, "after_seq": -1}, "$.after_seq"),
    (wire.RunTailParams, {"run_id": RUN_ID, "after_seq": 2**63}, "$.after_seq"),
    (wire.RunWaitParams, {"run_id": RUN_ID, "timeout_seconds": -1}, "$.timeout_seconds"),
    (wire.RunWaitParams, {"run_id": RUN_ID, "timeout_seconds": True}, "$.timeout_seconds"),
    (wire.CancelRequestParams, {"id": 1.5}, "$.id"),
    (wire.NoParams, {"anything": None}, "$.anything"),
    (wire.NoParams, [], "$"),
    (wire.RunIdParams, [RUN_ID], "$"),
    (wire.NoParams, None, "$"),
    (wire.NoParams, "x", "$"),
]


@pytest.mark.parametrize(("cls", "params", "path"), FAULTS)
def test_fault_is_named_by_its_path(cls, params, path):
    """Every kind of fault raises InvalidParams with the path of the field and a short message."""
    with pytest.raises(InvalidParams, match=r"^cannot accept ") as caught:
        convert_params(cls, params)
    assert caught.value.data["path"] == path
    assert len(caught.value.message) < 500


def test_correct_params_become_their_class():
    """Correct params become an instance, absent fields take their defaults, integers may stand for floats."""
    params = convert_params(wire.RunWaitParams, {"run_id": RUN_ID, "timeout_seconds": 3})
    assert params == wire.RunWaitParams(RUN_ID, None, 3.0)


@pytest.mark.parametrize("method", methods.METHODS.values(), ids=lambda method: method.name)
def test_every_method_refuses_unknown_fields(method):
    """No method of the table lets an unknown field pass."""
    with pytest.raises(InvalidParams) as caught:
        convert_params(method.params, {"no_such_field": 1})
    assert caught.value.data["path"] == "$.no_such_field"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"run_id": 1}, "Expected `str`, got `int` - at `$.run_id`"),
        ({}, "Object missing required field `run_id`"),
    ],
)
def test_msgspec_still_words_its_messages_this_way(params, message):
    """The two forms of msgspec's messages that the paths are read from are what they were."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(params, wire.RunIdParams)
    assert str(caught.value) == message
