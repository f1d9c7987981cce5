"""A house without a door: every room below the server, in this process, on a real database.

    async with open_house(dsn, agents={"wait": act}) as house:
        run = await house.perform("wait")

Agents may be given as plain async functions of a desk. Whatever a test leaves active is ended on the way out.
``leave_behind`` makes what a daemon leaves that died: an owner, and runs with logs that a real journal wrote.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar

import attrs
import msgspec
import trio

from outlive import wire
from outlived import processes
from outlived.agents import Agent, Assignment, Desk
from outlived.agents.demo import DemoAgent
from outlived.agents.workshop import Workshop
from outlived.chores.heartbeat import beat
from outlived.chores.hints import exchange_hints
from outlived.chores.sweeper import sweep
from outlived.identifiers import make_id
from outlived.journal.elsewhere import watch_elsewhere
from outlived.journal.hub import Hub
from outlived.journal.items import Entry
from outlived.journal.writer import Journal
from outlived.rules.leases import ProcessIdentity
from outlived.rules.run import Event
from outlived.settings import OwnerSettings, RunSettings, Settings, SweepSettings
from outlived.store import Link, LinkPool, Reads, Store, open_store
from outlived.store.owners import Registration, register, retire
from outlived.store.postgres import DatabaseLost, QueryRefused
from outlived.store.stops import RunProcess
from outlived.supervisor import Home, Supervisor
from outlived.supervisor import start as door
from outlived.supervisor.registry import Registry
from outlived.supervisor.term import begin_term, watch_term
from outlived.supervisor.trust import Trust
from tests.support.history import assert_messages
from tests.support.journals import make_spec
from tests.support.workshops import open_workshop

DEADLINE = 20.0
"""Seconds. Generous: a deadline is there to end a broken test, not to measure."""
MESSAGE_LIMIT = 8 << 20
FAST = Settings(
    owner=OwnerSettings(lease_seconds=60, heartbeat_seconds=0.1),
    sweep=SweepSettings(interval_seconds=0.1),
    run=RunSettings(grace_seconds=2, drain_seconds=0.1, adopt_seconds=0),
)
ME = door.Caller(os.geteuid(), os.getegid(), trusted=True)

Act = Callable[[Desk], Awaitable[None]]


@attrs.frozen
class Acting:
    """An agent that is one function."""

    kind: ClassVar[str] = "python"

    act: Act
    description: str = ""

    def check(self) -> None:
        """It can always be started."""

    def check_assignment(self, assignment: Assignment) -> None:
        """It takes whatever it is given."""

    async def perform(self, desk: Desk) -> None:
        await self.act(desk)


async def wait_for(condition: Callable[[], Any], seconds: float = DEADLINE, what: str = "") -> Any:
    """The condition's first true value; the condition may be asynchronous."""
    with trio.move_on_after(seconds):
        while True:
            value = condition()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return value
            await trio.sleep(0.005)
    raise AssertionError(f"not within {seconds:g} s: {what or condition}")


@attrs.frozen(eq=False)
class House:
    """The rooms, and the few things tests do with them. ``services`` is for actors that a test starts itself.

    ``reads`` sees the database whatever way the rooms themselves have to it.
    """

    dsn: str
    supervisor: Supervisor
    services: trio.Nursery
    reads: Reads

    @property
    def registry(self) -> Registry:
        return self.supervisor.registry

    async def start(self, agent: str | None = "demo", **params: Any) -> wire.Run:
        """Start a run as a trusted caller; returns at its commit."""
        asked = wire.RunStartParams(agent=None if "command" in params else agent, **params)
        run, _ = await door.start(self.supervisor, asked, ME, lambda _: None)
        return run

    async def perform(self, agent: str | None = "demo", **params: Any) -> wire.Run:
        """Start a run and wait for its end."""
        return await self.wait_settled((await self.start(agent, **params)).id)

    async def wait_settled(self, run_id: str, seconds: float = DEADLINE) -> wire.Run:
        """The run once it is settled and its task has ended."""

        async def look() -> wire.Run | None:
            run = await self.read_run(run_id)
            return run if run.finished_at is not None else None

        run: wire.Run = await wait_for(look, seconds, f"run {run_id} is settled")
        await wait_for(lambda: self.registry.find(run_id) is None, seconds, "its task has ended")
        return run

    async def read_run(self, run_id: str) -> wire.Run:
        run = await self.reads.get_run(run_id)
        assert run is not None, run_id
        return run

    async def read_message(self, run_id: str) -> wire.Message:
        found = await self.reads.get_run_and_message(run_id)
        assert found is not None, run_id
        return found[1]

    async def read_log(self, run_id: str) -> list[Event]:
        """The whole log of a run."""
        found: list[Event] = []
        while page := await self.reads.list_events(run_id, len(found)):
            found += [Event(each.seq, each.at, each.type, msgspec.json.decode(each.data)) for each in page]
        return found

    async def wait_logged(self, run_id: str, type_: str) -> Event:
        """The first event of that type, once it is durable."""

        async def look() -> Event | None:
            return next((event for event in await self.read_log(run_id) if event.type == type_), None)

        event: Event = await wait_for(look, what=f"run {run_id} has logged {type_}")
        return event

    async def ask(self, sql: str, **params: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement, on a connection of its own."""
        return await ask(self.dsn, sql, **params)


async def ask(dsn: str, sql: str, **params: Any) -> list[tuple[Any, ...]]:
    """The rows of one statement, on a connection of its own."""
    link = Link(dsn, "test")
    try:
        return await link.query(sql, params)  # type: ignore[arg-type]
    finally:
        link.close()


@asynccontextmanager
async def open_house(
    dsn: str,
    *,
    through: str | None = None,
    agents: Mapping[str, Agent | Act] | None = None,
    settings: Settings = FAST,
    home_id: str | None = None,
    sole_owner: bool = False,
    database_down: Callable[[], bool] = lambda: False,
    actors: Iterable[str] = (),
) -> AsyncIterator[House]:
    """Open the rooms and run the journal, and of ``heartbeat, sweeper, term, poller, hints`` those in ``actors``. At the
    end every message has to be the fold of its log.

    ``through``: another way to the same database, for the rooms alone.
    """
    store = await open_store(through or dsn, message_limit=MESSAGE_LIMIT)
    pool = LinkPool(dsn, "test", 2)
    try:
        with open_workshop() as workshop:
            async with trio.open_nursery() as services, trio.open_nursery() as runs:
                home = Home(home_id or make_id(), "/nowhere", sole_owner, "2020-01-01T00:00:00.000000Z")
                supervisor = _furnish(store, settings, home, agents or {}, database_down, runs, workshop)
                services.start_soon(workshop.watch.run)
                await begin_term(supervisor)
                services.start_soon(supervisor.journal.run)
                for name in actors:
                    services.start_soon(_actor(name, supervisor))
                house = House(dsn, supervisor, services, Reads(pool, MESSAGE_LIMIT))
                try:
                    yield house
                finally:
                    await _end_runs(supervisor)
                    runs.cancel_scope.cancel()
                    services.cancel_scope.cancel()
    finally:
        store.close()
        pool.close()
    await trio.to_thread.run_sync(assert_messages, dsn)


def _furnish(
    store: Store,
    settings: Settings,
    home: Home,
    agents: Mapping[str, Agent | Act],
    database_down: Callable[[], bool],
    runs: trio.Nursery,
    workshop: Workshop,
) -> Supervisor:
    hub = Hub()
    lease_seconds = settings.owner.lease_seconds
    made = {name: agent if hasattr(agent, "perform") else Acting(agent) for name, agent in agents.items()}
    return Supervisor(
        settings=settings,
        home=home,
        store=store,
        journal=Journal(store.journal, hub, lease_seconds=lease_seconds, message_limit=MESSAGE_LIMIT),
        hub=hub,
        agents={"demo": DemoAgent(), **made},  # type: ignore[dict-item]
        registry=Registry(),
        trust=Trust(lease_seconds, database_down),
        nursery=runs,
        workshop=workshop,
    )


def _actor(name: str, supervisor: Supervisor) -> Callable[[], Awaitable[None]]:
    store = supervisor.store
    poller = partial(watch_elsewhere, supervisor.hub, store.reads, supervisor.journal.owns, store.notices)
    return {
        "heartbeat": partial(beat, supervisor),
        "sweeper": partial(sweep, supervisor),
        "term": partial(watch_term, supervisor),
        "poller": poller,
        "hints": partial(exchange_hints, supervisor),
    }[name]


async def _end_runs(supervisor: Supervisor) -> None:
    """End what a test left, without grace, and leave as an owner that retires."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + DEADLINE):
        for active in supervisor.registry:
            active.force()
        await supervisor.registry.wait_empty()
        try:
            await retire(supervisor.store.heartbeat, supervisor.journal.owner)
        except (DatabaseLost, QueryRefused):
            return  # a test took the database away


# ---------------------------------------------------------------- what the dead leave


def read_dead_identity() -> ProcessIdentity:
    """A process of this host that has lived and is gone."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        identity = processes.read_identity(process.pid)
        process.send_signal(signal.SIGKILL)
    assert identity is not None
    return identity


def read_foreign_identity() -> ProcessIdentity:
    """A process of another boot: nothing can be proved of it."""
    return ProcessIdentity("11111111-2222-3333-4444-555555555555", "pid:[1]", 1, 1)


@attrs.frozen
class Remains:
    """An owner that nobody is any more, and its runs."""

    owner: str
    run_ids: list[str]


async def leave_behind(
    dsn: str,
    count: int = 1,
    *,
    process: ProcessIdentity | None = None,
    lease_seconds: float = 60.0,
    home_id: str | None = None,
    text: str = "so far",
    run_process: RunProcess | None = None,
    **spec: Any,
) -> Remains:
    """Live as an owner, start runs that get as far as ``text``, and be gone. By default its death can be proved."""
    store = await open_store(dsn, message_limit=MESSAGE_LIMIT)
    owner = make_id()
    await register(
        store.heartbeat,
        Registration(
            owner,
            home_id or make_id(),
            "somewhere",
            process or read_dead_identity(),
            "/gone",
            "0",
            lease_seconds,
        ),
    )
    journal = Journal(store.journal, Hub(), lease_seconds=lease_seconds, message_limit=MESSAGE_LIMIT)
    journal.begin_term(owner)
    specs = [make_spec(**{"chat_id": make_id(), "workspace": "default", **spec}) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.run)
        async with trio.open_nursery() as starts:
            for each in specs:
                starts.start_soon(journal.start, each, lambda _spec, _run: None)
        for each in specs:
            started = {"attempt": 1, "owner": owner, "epoch": 1}
            journal.append_nowait(each.id, Entry("run.started", started))
            if text:
                journal.append_nowait(each.id, Entry("text.delta", {}, [text]))
            if run_process is not None:
                await journal.note_process(each.id, run_process)
        await wait_for(lambda: journal.idle, what="everything is written")
        nursery.cancel_scope.cancel()
    store.close()
    return Remains(owner, [each.id for each in specs])


async def expire(dsn: str, owner: str) -> None:
    """Let an owner's lease have run out, and the database have been up for longer than that."""
    await ask(
        dsn,
        "UPDATE outlived.owners SET lease_until = clock_timestamp() - interval '1 second',"
        " lease_seconds = 0.001 WHERE id = %(owner)s",
        owner=owner,
    )
