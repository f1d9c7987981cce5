"""Settings: one frozen class per room, read once from TOML, checked once, handed out by the house.

A leaf. 1. An unknown key or a wrong type is refused with the file, the key and the reason. 2. An empty file,
or none, is valid. 3. A command-line option beats the environment, which beats the file, which beats a default.

Not here: where a socket or a state directory lies by default (``outlive/places.py``).
"""

from __future__ import annotations

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
    """``[run]``: how runs end when they are made to."""

    grace_seconds: SecondsOrNone = 10.0
    drain_seconds: SecondsOrNone = 5.0
    on_stop: Literal["drain", "leave"] = "drain"


@attrs.frozen
class EventSettings:
    """``[events]``: how long the logs of settled runs are kept; 0 = for ever."""

    retention_days: Annotated[float, Meta(ge=0)] = 7.0


@attrs.frozen
class AgentSettings:
    """``[agents.NAME]``: an agent that clients may name."""

    kind: Literal["command", "python"]
    description: str = ""
    command: Annotated[list[str], Meta(min_length=1)] | None = None
    format: Literal["text"] = "text"
    target: Annotated[str, Meta(pattern=r"^[\w.]+:[\w.]+$(?!\n)")] | None = None
    cwd: str | None = None
    env: dict[str, str] = attrs.Factory(dict)


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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsRefused(f"cannot read {path}: {error}") from error
    return _check(path, raw)


def _check(path: Path, raw: dict[str, Any]) -> Settings:
    agents = raw.pop("agents", {})
    found: dict[str, Any] = {}
    for section, values in raw.items():
        if section not in _SECTIONS:
            raise SettingsRefused(f"cannot accept {path}: {section}: there is no such key")
        found[section] = _read_section(path, section, values, _SECTIONS[section])
    if not isinstance(agents, dict):
        raise SettingsRefused(f"cannot accept {path}: agents: expected tables [agents.NAME]")
    for name, values in agents.items():
        _check_name(path, name)
        found.setdefault("agents", {})[name] = _read_agent(path, name, values)
    settings = Settings(**found)
    if settings.owner.heartbeat_seconds * 2 > settings.owner.lease_seconds:
        raise SettingsRefused(
            f"cannot accept {path}: owner.heartbeat_seconds: {settings.owner.heartbeat_seconds:g} is more than "
            f"half of owner.lease_seconds ({settings.owner.lease_seconds:g})"
        )
    return settings


def _read_section(path: Path, key: str, values: Any, kind: type[T]) -> T:
    if not isinstance(values, dict):
        raise SettingsRefused(f"cannot accept {path}: {key}: expected a table [{key}]")
    try:
        return convert_params(kind, values)
    except InvalidParams as error:
        field = str(error.data["path"]).removeprefix("$").removeprefix(".")
        reason = error.message.rpartition(": ")[2]
        raise SettingsRefused(
            f"cannot accept {path}: {key}{'.' if field else ''}{field}: {reason}"
        ) from error


def _check_name(path: Path, name: str) -> None:
    if name == "demo" or not name or len(name) > 128 or not name.replace("-", "").replace("_", "").isalnum():
        raise SettingsRefused(
            f"cannot accept {path}: agents.{name}: a name has 1 to 128 letters, digits, - and _, and is not demo"
        )


def _read_agent(path: Path, name: str, values: Any) -> AgentSettings:
    agent = _read_section(path, f"agents.{name}", values, AgentSettings)
    needed, other = ("command", "target") if agent.kind == "command" else ("target", "command")
    if getattr(agent, needed) is None:
        raise SettingsRefused(f"cannot accept {path}: agents.{name}.{needed}: kind {agent.kind!r} needs it")
    if getattr(agent, other) is not None:
        raise SettingsRefused(
            f"cannot accept {path}: agents.{name}.{other}: kind {agent.kind!r} has no use for it"
        )
    return agent
