"""The table of agents: what the configuration names, and ``demo``.

Not here: what an agent is (``agents/__init__.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

from outlived.agents import Agent
from outlived.agents.command import CommandAgent
from outlived.agents.demo import DemoAgent
from outlived.agents.python import PythonAgent
from outlived.rules.limits import Limits
from outlived.settings import AgentSettings


def open_agents(configured: Mapping[str, AgentSettings]) -> dict[str, Agent]:
    """Every agent that clients may name. None is started or imported by this."""
    return {"demo": DemoAgent(), **{name: _open_agent(settings) for name, settings in configured.items()}}


def _open_agent(settings: AgentSettings) -> Agent:
    if settings.kind == "python":
        assert settings.target is not None
        return PythonAgent(settings.target, settings.description)
    assert settings.command is not None
    return CommandAgent(
        settings.command,
        settings.description,
        settings.cwd,
        settings.env,
        format=settings.format,
        limits=Limits(max_memory=settings.memory_bytes, max_pids=settings.max_pids),
        inherit=tuple(settings.inherit_env),
    )
