"""What an agent may do that asks: pure, from the configured policy and its question to the answer and its record.

1. ``allow`` says yes, ``deny`` no, ``allow_reads`` yes to what only reads or searches.
2. A yes is for once where that is offered; so is a no. Where nothing fitting is offered the question is cancelled.
3. Every answer is an event: ``data`` of the name ``permission``.

Not here: asking a person.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from outlived.agents import Said

Policy = Literal["allow", "deny", "allow_reads"]

READS = frozenset({"read", "search"})
_WANTED = {True: ("allow_once", "allow_always"), False: ("reject_once", "reject_always")}


@attrs.frozen
class Decision:
    """``outcome`` is what the agent is answered, ``record`` what the log says."""

    outcome: dict[str, Any]
    record: Said


def decide(policy: Policy, params: dict[str, Any]) -> Decision:
    """The answer to a ``session/request_permission``."""
    call = params.get("toolCall")
    call = call if isinstance(call, dict) else {}
    kind = call.get("kind")
    yes = policy == "allow" or (policy == "allow_reads" and isinstance(kind, str) and kind in READS)
    option = _choose(params.get("options"), _WANTED[yes])
    if option is None:
        outcome: dict[str, Any] = {"outcome": "cancelled"}
    else:
        outcome = {"outcome": "selected", "optionId": option}
    value = {
        "tool_call_id": call.get("toolCallId"),
        "title": call.get("title"),
        "kind": kind,
        "policy": policy,
        "allowed": yes and option is not None,
        "option": option,
    }
    return Decision({"outcome": outcome}, Said("data", {"name": "permission", "value": value}))


def _choose(options: Any, kinds: tuple[str, ...]) -> str | None:
    """The id of the first option of the first kind that is offered."""
    offered = [option for option in options if isinstance(option, dict)] if isinstance(options, list) else []
    for kind in kinds:
        for option in offered:
            if option.get("kind") == kind and isinstance(option.get("optionId"), str):
                return str(option["optionId"])
    return None
