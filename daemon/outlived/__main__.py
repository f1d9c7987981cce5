"""``outlived``: read the command line and the settings, run the house, say in one line what went wrong.

Exit status: 0 after a clean stop, 1 for any failure, 2 for usage.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from outlive.places import socket_path, state_directory, usual_config
from outlived import __version__
from outlived.settings import Settings, SettingsRefused, read_settings
from outlived.systemd import Handed, Manager, take_environment
from outlived.units import add_arguments, install_units

if TYPE_CHECKING:
    from outlived.house import Place

LARGE_BLOCK = 256 << 10


def main(argv: list[str] | None = None) -> int:
    """The console script."""
    options = _parse(argv)
    handed = take_environment()
    try:
        if options.command == "install-units":
            return install_units(options)
        config = _find_config(options.config, handed)
        settings = read_settings(config)
        if options.command == "check-config":
            return _check_config(settings, config)
        if options.command == "fsck":
            return _check_database(settings, options)
        return _serve(settings, options, config, handed)
    except SettingsRefused as error:
        return _complain(error)
    except KeyboardInterrupt:  # before the house listens
        return 130


class _Parser(argparse.ArgumentParser):
    """Complains in one line and knows no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"outlived: {message}; see: {self.prog} --help\n")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="outlived", description="Runs agent turns that outlive the client that started them."
    )
    parser.add_argument("--version", action="version", version=f"outlived {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the daemon in the foreground")
    check = commands.add_parser(
        "check-config", help="check the configuration and the agents, and start nothing"
    )
    fsck = commands.add_parser(
        "fsck", help="check that everything in the database is true, and change nothing"
    )
    add_arguments(
        commands.add_parser("install-units", help="install the systemd units, with the right paths in them")
    )
    for command in (serve, check, fsck):
        command.add_argument(
            "--config",
            metavar="FILE",
            help="TOML settings (default: $OUTLIVED_CONFIG, else ~/.config/outlived/outlived.toml if it is there)",
        )
    serve.add_argument("--socket", metavar="PATH", help="where to listen (default: $OUTLIVE_SOCKET)")
    serve.add_argument(
        "--personal",
        action="store_true",
        help="as `outlive` starts it: commands are left running when it stops, unless the configuration says otherwise",
    )
    for command in (serve, fsck):
        command.add_argument(
            "--state-dir", metavar="DIR", help="where state lies (default: $OUTLIVED_STATE_DIR)"
        )
        command.add_argument(
            "--database", metavar="DSN", help="use this Postgres, start none (default: $OUTLIVED_DATABASE)"
        )
    fsck.add_argument("--json", action="store_true", help="print one JSON value per line")
    return parser.parse_args(argv)


def _find_config(given: str | None, handed: Handed) -> Path | None:
    """The file that was named, else the usual one if it is there."""
    if found := given or os.environ.get("OUTLIVED_CONFIG"):
        return Path(found)
    try:
        usual = handed.configuration / "outlived.toml" if handed.configuration else usual_config()
    except ValueError:
        return None  # nobody's home
    return usual if os.path.isfile(usual) else None  # noqa: PTH113 - a place that may not be looked into has none


@contextmanager
def _left_out(name: str) -> Iterator[None]:
    """Whoever can do without that package does, while importing.

    structlog takes rich for the colours of a traceback: a fifth of the start, and 3 MiB for as long as we live.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # documented: its import fails
    try:
        yield
    finally:
        del sys.modules[name]


def _import_bridge(settings: Settings) -> None:
    """trio-asyncio replaces functions of asyncio, and has to do so before a library takes one of them by name.

    psycopg does, and so may whatever an agent imports. Daemons without Python agents do without.
    """
    if any(
        agent.kind == "pydantic-ai" or (agent.kind == "python" and agent.isolation == "none")
        for agent in settings.agents.values()
    ):
        import trio_asyncio  # noqa: F401


def _serve(settings: Settings, options: argparse.Namespace, config: Path | None, handed: Handed) -> int:
    _import_bridge(settings)
    with _left_out("rich"):
        import trio

        from outlived.house import REFUSALS, live
        from outlived.logs import open_logs

    for name in [
        name for name in os.environ if name in {"OUTLIVE_RUN_ID", "OUTLIVE_CHAT_ID", "OUTLIVE_ATTEMPT"}
    ]:
        del os.environ[name]  # started from within a run, the daemon is no part of it
    open_logs(to_journal=handed.to_journal)
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the log where we stood
    settings = _resolve(settings, options)
    try:
        place = _find_place(settings, options, handed)
    except (ValueError, OSError, *REFUSALS) as error:
        return _complain(error)
    _calm_collector()
    _return_large_blocks()
    _raise_file_limit()
    read = partial(_read_again, config, options, handed)
    manager = Manager(handed.notify_socket, handed.watchdog_seconds)
    try:
        clean = trio.run(live, settings, place, read, manager, strict_exception_groups=True)
    except REFUSALS as error:
        return _complain(error)
    except BaseExceptionGroup as group:
        known, unknown = group.split(REFUSALS)
        if unknown is not None or known is None:
            raise
        return _complain(_first(known))
    return 0 if clean else 1


def _resolve(settings: Settings, options: argparse.Namespace) -> Settings:
    """The settings, where they say nothing and the way of starting does."""
    on_stop = settings.run.on_stop or ("leave" if options.personal else "drain")
    return attrs.evolve(settings, run=attrs.evolve(settings.run, on_stop=on_stop))


def _read_again(config: Path | None, options: argparse.Namespace, handed: Handed) -> Settings:
    """The settings as they are now. A file that was there has to be there; one that was not may be by now."""
    return _resolve(read_settings(config or _find_config(options.config, handed)), options)


def _find_place(settings: Settings, options: argparse.Namespace, handed: Handed) -> Place:
    """Option, environment, the socket and the credential that were handed down, file, default: the first that speaks."""
    from outlived.house import Place
    from outlived.server.listener import pick_inherited, read_address

    inherited = pick_inherited(handed.fds)
    named = options.socket or os.environ.get("OUTLIVE_SOCKET")
    address = read_address(inherited) if inherited is not None else None
    if inherited is not None and named and str(socket_path(named)) != address:
        inherited.close()
        inherited = None
    return Place(
        socket=Path(address) if inherited and address else socket_path(named or settings.server.socket),
        state_dir=state_directory(
            options.state_dir
            or os.environ.get("OUTLIVED_STATE_DIR")
            or settings.store.state_dir
            or handed.state
        ),
        database=options.database
        or os.environ.get("OUTLIVED_DATABASE")
        or handed.read_credential("database")
        or settings.store.database,
        inherited=inherited,
    )


def _return_large_blocks() -> None:
    """Let the C library give large blocks back to the system when they are freed, as it does at first.

    By itself glibc raises this bound to the largest block that was ever freed: one message of 8 MiB, and every page
    and every batch comes from a heap that is full of holes: 20 to 40 MiB that nobody uses.
    """
    mmap_threshold = -3
    with suppress(OSError, AttributeError):  # another C library has its own ways
        ctypes.CDLL(None).mallopt(mmap_threshold, LARGE_BLOCK)


def _raise_file_limit() -> None:
    """As many open files as we may have: the usual soft limit, 1024, is a thousand connections, or their runs' pipes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _calm_collector() -> None:
    """Modules and settings are for ever: the collector need not look at them again, nor look after every 700 objects.

    A run in flight is some hundred objects; with the defaults a tenth of a busy daemon's time went into counting them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 50)


def _check_database(settings: Settings, options: argparse.Namespace) -> int:
    from outlived.fsck import NothingToCheck, check, find_embedded
    from outlived.store.history import Allowance
    from outlived.store.migrate import SchemaRefused
    from outlived.store.postgres import DatabaseLost

    given = options.database or os.environ.get("OUTLIVED_DATABASE") or settings.store.database
    place = options.state_dir or os.environ.get("OUTLIVED_STATE_DIR") or settings.store.state_dir
    try:
        dsn = given or find_embedded(state_directory(place))
        clean = check(dsn, Allowance(settings.sweep.interval_seconds), as_json=options.json)
    except (NothingToCheck, DatabaseLost, SchemaRefused, ValueError) as error:
        return _complain(error)
    return 0 if clean else 1


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _check_config(settings: Settings, config: Path | None) -> int:
    _import_bridge(settings)
    from outlived.agents import AgentBroken
    from outlived.agents.presets import Preset
    from outlived.agents.python import PythonProcess
    from outlived.agents.table import open_agents
    from outlived.supervisor.access import open_access

    open_access(settings.workspaces)
    status = 0
    for name, agent in open_agents(settings.agents).items():
        if isinstance(agent, Preset):
            continue  # nobody has asked for it
        try:
            if isinstance(agent, PythonProcess):
                agent.probe()
            else:
                agent.check()
        except AgentBroken as error:
            status = _complain(f"agents.{name}: {error}")
    if status == 0:
        print(f"{config or 'the default configuration'} is valid")
    return status


def _complain(reason: object) -> int:
    print(f"outlived: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
