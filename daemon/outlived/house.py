"""The house: opens every room in order, closes them in reverse; the only file that knows all of them.

Start: home and lock, socket lock, Postgres, schema, registration, first sweep, door; only then the service manager is
told that we are ready. Stop, in this order: the manager is told, the door closes, runs drain, settle, the journal flushes, connections are told, this owner retires, Postgres stops.

Those who use a service end before it: sessions and runs have nurseries of their own inside that of the actors,
and an outer scope is never cancelled to stop an inner one. Told to stop before its door is open, the daemon gives
the start up, at whatever point it is.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import attrs
import structlog
import trio

from outlive.left import LeftRun, forget_left, write_left
from outlived import __version__
from outlived.agents.table import open_agents
from outlived.agents.watch import SpoolWatch
from outlived.agents.workshop import Workshop
from outlived.chores.drainer import drain_when_told
from outlived.chores.heartbeat import beat
from outlived.chores.hints import exchange_hints
from outlived.chores.pruner import prune
from outlived.chores.reloader import reload_when_told
from outlived.chores.report import describe, report
from outlived.chores.sweeper import sweep, sweep_all
from outlived.containment import open_containment
from outlived.ears import Ears
from outlived.home import HomeRefused, open_home
from outlived.journal.elsewhere import watch_elsewhere
from outlived.journal.hub import Hub
from outlived.journal.items import OwnershipLost
from outlived.journal.writer import Journal
from outlived.server.listener import Inherited, Listener, SocketRefused, bind, take_over_socket
from outlived.settings import Settings, SettingsRefused
from outlived.store import Store, open_store
from outlived.store.embedded import Embedded, EmbeddedFailed, open_embedded
from outlived.store.migrate import SchemaRefused
from outlived.store.owners import retire
from outlived.store.postgres import DatabaseLost, QueryRefused, write_time
from outlived.supervisor import Home, Supervisor
from outlived.supervisor.access import open_access
from outlived.supervisor.actors import DaemonBroken, keep, keep_or_break
from outlived.supervisor.drain import drain
from outlived.supervisor.registry import Registry
from outlived.supervisor.term import begin_term, watch_term
from outlived.supervisor.trust import Trust
from outlived.systemd import Manager, make_status

log = structlog.get_logger("outlived")

FLUSH_SECONDS = 10.0
RETIRE_SECONDS = 3.0

REFUSALS = (
    SettingsRefused, HomeRefused, SocketRefused, EmbeddedFailed, SchemaRefused, DatabaseLost, QueryRefused,
    OwnershipLost, DaemonBroken,
)  # fmt: skip
"""What ends a daemon with one line on stderr."""


@attrs.frozen
class Place:
    """Where this daemon lives: resolved paths, and a DSN instead of the embedded Postgres.

    ``inherited``: a listening socket that was handed down, in place of one to be bound at ``socket``.
    """

    socket: Path
    state_dir: Path
    database: str | None
    inherited: Inherited | None = None


async def live(settings: Settings, place: Place, read: Callable[[], Settings], manager: Manager) -> bool:
    """Run the daemon until it is told to stop; True after a clean stop. Raises one of REFUSALS.

    ``read``: how to read the settings again.
    """
    ears, clean = Ears(manager, read), True
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ears.listen, signals)
            nursery.start_soon(ears.announce)
            nursery.start_soon(keep, "watchdog", manager.attend)
            with ears.opening:
                clean = await _live(settings, place, ears)
            nursery.cancel_scope.cancel()
    return clean


async def _live(settings: Settings, place: Place, ears: Ears) -> bool:
    """Open the rooms up to the store, live, and close them again."""
    with open_home(place.state_dir) as home_id, _open_socket(settings, place) as sock:
        async with _open_database(place, ears.manager) as (dsn, embedded), trio.open_nursery() as services:
            if embedded is not None:
                services.start_soon(keep, "postgres watch", embedded.watch)
            with ears.manager.taking_time():  # migrations
                store = await open_store(dsn, message_limit=settings.store.max_message_bytes)
            try:
                home = Home(
                    home_id=home_id,
                    socket=str(place.socket),
                    sole_owner=embedded is not None,
                    started_at=write_time(datetime.now(UTC)),
                )
                return await _live_here(settings, place, home, store, embedded, sock, services, ears)
            finally:
                services.cancel_scope.cancel()
                store.close()


def _open_socket(settings: Settings, place: Place) -> AbstractContextManager[trio.socket.SocketType]:
    if place.inherited is not None:
        return take_over_socket(place.inherited)
    return bind(place.socket, mode=int(settings.server.socket_mode, 8), group=settings.server.socket_group)


@asynccontextmanager
async def _open_database(place: Place, manager: Manager) -> AsyncIterator[tuple[str, Embedded | None]]:
    if place.database is not None:
        yield place.database, None
        return
    directory = place.state_dir / "postgres"
    async with AsyncExitStack() as stack:
        with manager.taking_time():  # creating it, or its recovery
            server = await stack.enter_async_context(
                open_embedded(directory, log=structlog.get_logger("outlived.postgres"))
            )
        yield server.dsn, server


async def _live_here(
    settings: Settings,
    place: Place,
    home: Home,
    store: Store,
    embedded: Embedded | None,
    sock: trio.socket.SocketType,
    services: trio.Nursery,
    ears: Ears,
) -> bool:
    """Open the rooms above the store, live, and close them again."""
    hub, workshop = Hub(), _open_workshop(settings, place)
    journal = Journal(
        store.journal,
        hub,
        lease_seconds=settings.owner.lease_seconds,
        message_limit=settings.store.max_message_bytes,
    )
    async with trio.open_nursery() as runs:
        supervisor = Supervisor(
            settings=settings,
            home=home,
            store=store,
            journal=journal,
            hub=hub,
            agents=open_agents(settings.agents, settings.run.inherit_env),
            access=open_access(settings.workspaces),
            registry=Registry(),
            trust=Trust(settings.owner.lease_seconds, lambda: embedded is not None and embedded.known_down),
            nursery=runs,
            workshop=workshop,
        )
        services.start_soon(keep, "spool watch", workshop.watch.run)
        services.start_soon(keep, "loop watch", supervisor.loop.watch)
        await begin_term(supervisor)
        services.start_soon(keep_or_break, "journal", journal.run)
        services.start_soon(keep, "heartbeat", partial(beat, supervisor))
        await sweep_all(supervisor)
        forget_left(place.state_dir)
        services.start_soon(keep, "term watch", partial(watch_term, supervisor))
        services.start_soon(keep, "sweeper", partial(sweep, supervisor))
        services.start_soon(keep, "pruner", partial(prune, supervisor))
        services.start_soon(keep, "tidying of cgroups", supervisor.workshop.containment.tidy)
        notices = None if home.sole_owner else store.notices
        services.start_soon(
            keep, "tail poller", partial(watch_elsewhere, hub, store.reads, journal.owns, notices)
        )
        if not home.sole_owner:  # else there is nobody to hear from
            services.start_soon(keep, "hints", partial(exchange_hints, supervisor))
        clean = await _serve(supervisor, sock, ears)
        runs.cancel_scope.cancel()
    await _retire(supervisor)
    _note_left(supervisor, place)
    return clean


def _open_workshop(settings: Settings, place: Place) -> Workshop:
    return Workshop(
        root=place.state_dir / "spool",
        watch=SpoolWatch(),
        containment=open_containment(settings.run.cgroups),
        max_spool_bytes=settings.run.max_spool_bytes,
        on_full=settings.run.on_full_spool,
    )


def _note_left(supervisor: Supervisor, place: Place) -> None:
    left = [LeftRun(active.run_id, active.what, active.pid) for active in supervisor.registry.left]
    if not left:
        return
    try:
        write_left(place.state_dir, left)
    except OSError as error:
        log.warning("cannot write down what was left running", reason=str(error))


async def _serve(supervisor: Supervisor, sock: trio.socket.SocketType, ears: Ears) -> bool:
    """Keep the door open until a signal, then close everything that uses the journal; True if all is settled."""
    listener = Listener(supervisor, sock)
    manager = ears.manager
    async with trio.open_nursery() as doors:
        doors.start_soon(keep, "listener", listener.serve)
        doors.start_soon(
            keep, "reloader", partial(reload_when_told, supervisor, ears.reload, ears.read, manager)
        )
        doors.start_soon(keep, "report", partial(report, supervisor, manager))
        await listener.opened.wait()
        log.info(
            "serving", version=__version__, socket=supervisor.home.socket, owner=supervisor.journal.owner
        )
        ears.serving = True
        await manager.tell("READY=1", f"MAINPID={os.getpid()}", make_status(describe(supervisor)))
        await _obey(supervisor, ears)
        listener.stop_accepting()
        settled = await drain(supervisor, ears.hurry)
        away = supervisor.journal.degraded  # and the drain has waited for it in vain
        flushed = (settled or not away) and await _flush(supervisor)
        await listener.close()
        doors.cancel_scope.cancel()
    return settled and flushed


async def _obey(supervisor: Supervisor, ears: Ears) -> None:
    """Carry out orders to drain until a signal comes: that drain takes the place of theirs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, "drainer", partial(drain_when_told, supervisor))
        await ears.told.wait()
        nursery.cancel_scope.cancel()


async def _flush(supervisor: Supervisor) -> bool:
    with trio.move_on_after(FLUSH_SECONDS):
        while not supervisor.journal.idle:
            await trio.sleep(0.01)
        return True
    log.error("the journal could not be flushed", bytes=supervisor.journal.queued_bytes)
    return False


async def _retire(supervisor: Supervisor) -> None:
    """Let nobody wait for this owner's lease."""
    try:
        with trio.move_on_after(RETIRE_SECONDS):
            await retire(supervisor.store.heartbeat, supervisor.journal.owner)
    except (DatabaseLost, QueryRefused) as error:
        log.warning("cannot retire: the lease will run out instead", reason=str(error))
