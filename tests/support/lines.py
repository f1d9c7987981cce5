"""Strategies for what programs print: lines of a format, lines that nearly are, lines that are nothing."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from outlived.agents import Said
from outlived.agents.formats import Translator, open_translator
from tests.support.logs import names, texts, values

amounts = st.integers(0, 2**53 - 1)
reports = st.fixed_dictionaries(
    {}, optional={name: amounts | st.none() for name in ("input_tokens", "output_tokens", "cost_micro_usd")}
)
own_numbers = st.none() | st.integers(0, 3)
events = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["text.delta", "reasoning.delta"]), "text": texts}),
    reports.map(lambda report: {"type": "usage", **report}),
    st.fixed_dictionaries({"type": st.just("step.started"), "name": names}, optional={"step": own_numbers}),
    st.fixed_dictionaries(
        {"type": st.just("step.finished"), "name": names}, optional={"step": own_numbers, "usage": reports}
    ),
    st.fixed_dictionaries(
        {"type": st.just("tool.call"), "tool_call_id": names, "name": names, "input": values}
    ),
    st.fixed_dictionaries(
        {"type": st.just("tool.result"), "tool_call_id": names, "output": values},
        optional={"is_error": st.booleans()},
    ),
    st.fixed_dictionaries({"type": st.just("log"), "text": texts}, optional={"stream": names}),
    st.fixed_dictionaries({"type": st.just("data"), "name": names, "value": values}),
)
"""What a jsonl agent may say."""


def _write(value: Any) -> str:
    return msgspec.json.encode(value).decode()


spoiled = st.one_of(
    st.tuples(events, st.sampled_from(["run.settled", "run.started", "text", "", None, 3])).map(
        lambda pair: {**pair[0], "type": pair[1]}
    ),
    st.tuples(events, names, values).map(lambda three: {**three[0], f"_{three[1]}": three[2]}),
    st.tuples(events, st.sampled_from(["text", "name", "input_tokens", "tool_call_id", "step"]), values).map(
        lambda three: {**three[0], three[1]: three[2]}
    ),
    values,
)
"""What looks like an event and mostly is none."""
anything = st.text(st.characters(exclude_characters="\n"), max_size=20)
jsonl_lines = st.lists(events.map(_write) | spoiled.map(_write) | anything, max_size=30)


def translate(format_: str, lines: list[str], cut: int | None = None) -> tuple[list[Said], Translator]:
    """What lines amount to; ``cut``: after so many of them another translator goes on with the state of the first."""
    translator, said = open_translator(format_), []
    for index, line in enumerate(lines):
        if index == cut:
            stored = msgspec.json.encode(translator.state)
            assert len(stored) < 16 << 10
            translator = open_translator(format_, msgspec.json.decode(stored))
        said += translator.read_line(line)
    return said + translator.finish(), translator
