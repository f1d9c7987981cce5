"""The table of agents: what the configuration names, ``demo``, and coding agents that need no configuration.

Not here: what an agent is (``agents/__init__.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from outlived.agents import Agent
from outlived.agents.acp import AcpAgent
from outlived.agents.command import CommandAgent
from outlived.agents.demo import DemoAgent
from outlived.agents.presets import open_presets
from outlived.agents.python import PythonAgent, isolate
from outlived.rules.limits import Limits
from outlived.settings import AgentSettings


def open_agents(configured: Mapping[str, AgentSettings], inherit: Iterable[str] = ()) -> dict[str, Agent]:
    """Every agent that clients may name. None is started or imported by this.

    ``inherit``: variables that every command gets from the daemon; configured agents have them among their own.
    """
    opened = {name: _open_agent(settings) for name, settings in configured.items()}
    return {"demo": DemoAgent(), **open_presets(inherit), **opened}


def _open_agent(settings: AgentSettings) -> Agent:
    if settings.kind == "python":
        assert settings.target is not None
        if settings.isolation == "process":
            process = _describe_process(settings)
            return isolate(settings.target, settings.flavour, **{**process, "env": _find_modules(settings)})
        return PythonAgent(settings.target, settings.description, settings.flavour)
    assert settings.command is not None
    program = CommandAgent(settings.command, format=settings.format, **_describe_process(settings))
    return AcpAgent(program, settings.permissions) if settings.kind == "acp" else program


def _describe_process(settings: AgentSettings) -> dict[str, Any]:
    """What the configuration says of any agent that is a process."""
    return {
        "description": settings.description,
        "cwd": settings.cwd,
        "env": settings.env,
        "limits": Limits(max_memory=settings.memory_bytes, max_pids=settings.max_pids),
        "inherit": tuple(settings.inherit_env),
    }


def _find_modules(settings: AgentSettings) -> dict[str, str]:
    """A Python agent in its own process finds its module where the daemon would."""
    path = {"PYTHONPATH": found} if (found := os.environ.get("PYTHONPATH")) else {}
    return {**path, **settings.env}
