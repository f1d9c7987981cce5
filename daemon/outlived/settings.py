"""Settings: one frozen class per room, read once from TOML, checked once, handed out by the house.

A leaf. 1. An unknown key or a wrong type is refused with the file, the key and the reason. 2. An empty file,
or none, is valid. 3. A command-line option beats the environment, which beats the file, which beats a default.

Not here: where a socket or a state directory lies by default (``outlive/places.py``).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import attrs
from msgspec import Meta

from outlive.errors import InvalidParams
from outlive.strict_json import convert_params

T = TypeVar("T", bound=attrs.AttrsInstance)
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=86_400)]
LimitSeconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Pattern = Annotated[str, Meta(pattern=r"^([^=*]+\*?|\*)$(?!\n)")]
"""A variable's name, or the beginning of names and a star."""
MIN_MEMORY = 16 << 20
Memory = (
    Annotated[int, Meta(ge=MIN_MEMORY, le=1 << 50)] | Annotated[str, Meta(pattern=r"^[0-9]{1,9}[KMG]$(?!\n)")]
)


class SettingsRefused(Exception):
    """The configuration is wrong; the message names file, key and reason."""


@attrs.frozen
class ServerSettings:
    """``[server]``: the socket, and who may open it. ``socket_mode`` in octal, as a string."""

    socket: str | None = None
    socket_mode: Annotated[str, Meta(pattern=r"^0?[0-7]{3}$(?!\n)")] = "600"
    socket_group: str | None = None
    max_connections: Annotated[int, Meta(ge=1, le=100_000)] = 4096


@attrs.frozen
class StoreSettings:
    """``[store]``: a DSN instead of the embedded Postgres; where state lies; a message's size in bytes."""

    database: str | None = None
    state_dir: str | None = None
    max_message_bytes: Annotated[int, Meta(ge=1024, le=32 << 20)] = 8 << 20


@attrs.frozen
class OwnerSettings:
    """``[owner]``: how long a silent daemon is believed, and how often it speaks."""

    lease_seconds: Seconds = 60.0
    heartbeat_seconds: Seconds = 10.0


@attrs.frozen
class SweepSettings:
    """``[sweep]``: how often; and when a run without an owner is given up."""

    interval_seconds: Seconds = 15.0
    backstop_seconds: Seconds = 600.0


@attrs.frozen
class RunSettings:
    """``[run]``: how runs end when they are made to; how many attempts a resumed run may lose with their owners.

    ``on_stop``: what becomes of commands when the daemon stops; None is "leave" for a daemon that ``outlive`` started by
    itself, else "drain". ``adopt``: whether the next daemon goes on with them; ``adopt_seconds``: how long after the
    lease other homes leave them to it (0: they do not). ``max_spool_bytes``: what a command may have said that is not
    durable yet; ``on_full_spool``: whether one that says more is held up, or fails.
    ``wall_seconds, idle_seconds``: limits of every run whose agent has none of its own; 0 is none. ``cgroups``: whether
    runs get cgroups where that is possible. ``inherit_env``: variables that every command gets from the daemon.
    """

    grace_seconds: SecondsOrNone = 10.0
    drain_seconds: SecondsOrNone = 5.0
    on_stop: Literal["drain", "leave"] | None = None
    adopt: bool = True
    adopt_seconds: SecondsOrNone = 120.0
    max_spool_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 40)] = 64 << 20
    on_full_spool: Literal["slow", "fail"] = "slow"
    max_attempts: Annotated[int, Meta(ge=1, le=1_000_000)] = 3
    wall_seconds: LimitSeconds = 0.0
    idle_seconds: LimitSeconds = 0.0
    cgroups: Literal["auto", "off"] = "auto"
    inherit_env: list[Pattern] = attrs.Factory(list)


@attrs.frozen
class EventSettings:
    """``[events]``: how long the logs of settled runs are kept; 0 = for ever."""

    retention_days: Annotated[float, Meta(ge=0, le=36_500)] = 7.0


@attrs.frozen
class AgentSettings:
    """``[agents.NAME]``: an agent that clients may name. Of its limits, 0 is none, whatever ``[run]`` says.

    ``inherit_env`` holds those of ``[run]``, too.
    """

    kind: Literal["command", "python", "acp"]
    description: str = ""
    command: Annotated[list[str], Meta(min_length=1)] | None = None
    format: Literal["text", "jsonl", "codex", "opencode", "claude"] = "text"
    target: Annotated[str, Meta(pattern=r"^[\w.]+:[\w.]+$(?!\n)")] | None = None
    flavour: Literal["trio", "asyncio"] | None = None
    isolation: Literal["none", "process"] = "none"
    permissions: Literal["allow", "deny", "allow_reads"] = "allow_reads"
    cwd: str | None = None
    env: dict[str, str] = attrs.Factory(dict)
    inherit_env: list[Pattern] = attrs.Factory(list)
    wall_seconds: LimitSeconds | None = None
    idle_seconds: LimitSeconds | None = None
    max_memory: Memory | None = None
    max_pids: Annotated[int, Meta(ge=2, le=4_194_304)] | None = None

    @property
    def memory_bytes(self) -> int | None:
        """``max_memory``: a number of bytes, or one with K, M or G."""
        if isinstance(self.max_memory, str):
            return int(self.max_memory[:-1]) << {"K": 10, "M": 20, "G": 30}[self.max_memory[-1]]
        return self.max_memory


@attrs.frozen
class WorkspaceSettings:
    """``[workspaces.NAME]``: who may use it, by name or number; the daemon's own user and root may always."""

    users: list[Annotated[str, Meta(min_length=1)] | Annotated[int, Meta(ge=0)]] = attrs.Factory(list)
    groups: list[Annotated[str, Meta(min_length=1)] | Annotated[int, Meta(ge=0)]] = attrs.Factory(list)


@attrs.frozen
class Settings:
    """Everything the file can say."""

    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    owner: OwnerSettings = OwnerSettings()
    sweep: SweepSettings = SweepSettings()
    run: RunSettings = RunSettings()
    events: EventSettings = EventSettings()
    agents: dict[str, AgentSettings] = attrs.Factory(dict)
    workspaces: dict[str, WorkspaceSettings] = attrs.Factory(dict)


_SECTIONS: dict[str, type[Any]] = {
    "server": ServerSettings,
    "store": StoreSettings,
    "owner": OwnerSettings,
    "sweep": SweepSettings,
    "run": RunSettings,
    "events": EventSettings,
}


def read_settings(path: Path | None) -> Settings:
    """The settings in a file, or the defaults. Raises SettingsRefused."""
    if path is None:
        return Settings()
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsRefused(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number or a nesting without end
        raise SettingsRefused(f"cannot read {path}: {_write(str(error))}") from error
    return _check(path, raw)


def _check(path: Path, raw: dict[str, Any]) -> Settings:
    _check_characters(path, "", raw)
    agents, workspaces = raw.pop("agents", {}), raw.pop("workspaces", {})
    found: dict[str, Any] = {}
    for section, values in raw.items():
        if section not in _SECTIONS:
            raise _refusal(path, section, "there is no such key")
        found[section] = _read_section(path, section, values, _SECTIONS[section])
    if not isinstance(agents, dict):
        raise _refusal(path, "agents", "expected tables [agents.NAME]")
    for name, values in agents.items():
        _check_name(path, name)
        found.setdefault("agents", {})[name] = _read_agent(path, name, values)
    if not isinstance(workspaces, dict):
        raise _refusal(path, "workspaces", "expected tables [workspaces.NAME]")
    for name, values in workspaces.items():
        if not re.fullmatch(r"[A-Za-z0-9._:@/-]{1,64}", name):
            raise _refusal(path, f"workspaces.{name}", "a name has 1 to 64 of A-Z a-z 0-9 . _ : @ / -")
        members = _read_section(path, f"workspaces.{name}", values, WorkspaceSettings)
        found.setdefault("workspaces", {})[name] = members
    shared = found.get("run", RunSettings()).inherit_env
    for name, agent in found.get("agents", {}).items():
        found["agents"][name] = attrs.evolve(agent, inherit_env=[*shared, *agent.inherit_env])
    settings = Settings(**found)
    if settings.owner.heartbeat_seconds * 2 > settings.owner.lease_seconds:
        beat, lease = settings.owner.heartbeat_seconds, settings.owner.lease_seconds
        reason = f"{beat:g} is more than half of owner.lease_seconds ({lease:g})"
        raise _refusal(path, "owner.heartbeat_seconds", reason)
    return settings


def _refusal(path: Path, key: str, reason: str) -> SettingsRefused:
    return SettingsRefused(f"cannot accept {path}: {_write(key)}: {_write(reason)}")


def _write(text: str) -> str:
    """Text of the file, or about it, on one line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _check_characters(path: Path, key: str, value: Any) -> None:
    """No name and no text holds a NUL: no path, no argument and no environment could."""
    if isinstance(value, dict):
        for name, inner in value.items():
            inner_key = f"{key}.{name}" if key else name
            _check_characters(path, inner_key, name)
            _check_characters(path, inner_key, inner)
    elif isinstance(value, list):
        for inner in value:
            _check_characters(path, key, inner)
    elif isinstance(value, str) and "\0" in value:
        raise _refusal(path, key, "it holds a NUL character")


def _read_section(path: Path, key: str, values: Any, kind: type[T]) -> T:
    if not isinstance(values, dict):
        raise _refusal(path, key, f"expected a table [{key}]")
    try:
        return convert_params(kind, values)
    except InvalidParams as error:
        field = str(error.data["path"]).removeprefix("$").removeprefix(".")
        reason = error.message.rpartition(": ")[2]
        raise _refusal(path, f"{key}.{field}" if field else key, reason) from error


def _check_name(path: Path, name: str) -> None:
    if name == "demo" or not re.fullmatch(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_-]{1,128}", name):
        reason = "a name has 1 to 128 letters (a to z), digits, - and _, and is not demo"
        raise _refusal(path, f"agents.{name}", reason)


_USES = {
    "command": {"command", "acp"},
    "format": {"command"},
    "target": {"python"},
    "flavour": {"python"},
    "isolation": {"python"},
    "permissions": {"acp"},
}
"""The keys that not every kind of agent has a use for."""
_NEEDS = {"command": "command", "acp": "command", "python": "target"}


def _read_agent(path: Path, name: str, values: Any) -> AgentSettings:
    agent = _read_section(path, f"agents.{name}", values, AgentSettings)
    for key in values:
        if agent.kind not in _USES.get(key, {agent.kind}):
            raise _refusal(path, f"agents.{name}.{key}", f"kind {agent.kind!r} has no use for it")
    needed = _NEEDS[agent.kind]
    if getattr(agent, needed) is None:
        raise _refusal(path, f"agents.{name}.{needed}", f"kind {agent.kind!r} needs it")
    for field in ("max_memory", "max_pids"):
        in_daemon = agent.kind == "python" and agent.isolation == "none"
        if in_daemon and getattr(agent, field) is not None:
            raise _refusal(
                path, f"agents.{name}.{field}", "an agent in the daemon's own process has no such limit"
            )
    if agent.memory_bytes is not None and agent.memory_bytes < MIN_MEMORY:
        raise _refusal(path, f"agents.{name}.max_memory", f"it is less than {MIN_MEMORY >> 20}M")
    for variable in agent.env:
        if not variable or "=" in variable:
            raise _refusal(path, f"agents.{name}.env", f"{variable!r} is no name: it is empty or holds '='")
    return agent
