"""A journal on a real database without a daemon around it: owner, writer, specifications of runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from outlive import wire
from outlived.identifiers import make_id
from outlived.journal.hub import Hub
from outlived.journal.items import Created, Entry, RunSpec
from outlived.journal.writer import Journal
from outlived.rules.leases import ProcessIdentity
from outlived.rules.message import DEFAULT_LIMIT
from outlived.rules.run import Fact
from outlived.store.migrate import migrate
from outlived.store.owners import Registration, register
from outlived.store.postgres import Link, LinkPool
from outlived.store.reads import Reads

LEASE_SECONDS = 60.0


def make_spec(chat_id: str = "chat", **changes: Any) -> RunSpec:
    """A run that is asked for."""
    return RunSpec(**{
        "id": make_id(), "message_id": make_id(), "user_message_id": make_id(), "workspace": "w", "chat_id": chat_id,
        "agent": "demo", "command": None, "input": "hello", "trigger": "user", "on_active": "reject",
        "created_by": None, "peer_uid": 0, "metadata": {}, "detached": True, "on_owner_loss": "abort", "key": None,
        "digest": None, "cwd": None, "env": None, **changes,
    })  # fmt: skip


def say(text: str) -> Entry:
    """Text of an agent."""
    return Entry("text.delta", {}, [text])


async def make_owner(link: Link, *, lease_seconds: float = LEASE_SECONDS, pid: int = 1) -> str:
    """Register an owner; its id."""
    process = ProcessIdentity("boot", "namespace", pid, 1)
    owner = make_id()
    await register(link, Registration(owner, make_id(), "host", process, "/s", "0", lease_seconds))
    return owner


def make_schema(dsn: str) -> None:
    """Bring a database's schema up to date, from outside any loop."""

    async def make() -> None:
        link = Link(dsn, "maker")
        await migrate(link)
        link.close()

    trio.run(make)


@attrs.define(eq=False)
class Desk:
    """One journal and what it needs. ``created``: the runs whose start was committed, in order."""

    journal: Journal
    hub: Hub
    link: Link
    heart: Link
    pool: LinkPool
    reads: Reads
    created: list[wire.Run] = attrs.Factory(list)

    @property
    def owner(self) -> str:
        return self.journal.owner

    def note(self, _spec: RunSpec, run: wire.Run) -> None:
        self.created.append(run)

    async def ask(self, spec: RunSpec) -> Any:
        """Ask for a run; the journal's answer."""
        return await self.journal.start(spec, self.note)

    async def start(self, chat_id: str = "chat", **changes: Any) -> str:
        """Start a run whose agent has started; its id."""
        spec = make_spec(chat_id, **changes)
        answer = await self.ask(spec)
        assert isinstance(answer, Created), answer
        self.begin(spec.id)
        return spec.id

    def begin(self, run_id: str) -> None:
        """Its agent starts."""
        data = {"attempt": 1, "owner": self.owner, "epoch": 1}
        self.journal.append_nowait(run_id, Entry(Fact.STARTED.value, data))

    async def settle(self, run_id: str, status: str = "succeeded", **given: Any) -> None:
        await self.journal.settle(run_id, status, given.get("error"), given.get("mark"))

    async def flush(self) -> None:
        """Everything handed in is committed."""
        while not self.journal.idle:
            await trio.sleep(0.001)


@asynccontextmanager
async def open_desk(
    dsn: str, *, write_dsn: str | None = None, name: str = "", limit: int = DEFAULT_LIMIT
) -> AsyncIterator[Desk]:
    """A journal at work; ``write_dsn``: another way to the database for its writer; ``name`` marks its sessions."""
    link, heart = Link(write_dsn or dsn, f"{name}journal"), Link(dsn, f"{name}heartbeat")
    pool = LinkPool(dsn, f"{name}reads", 2)
    hub = Hub()
    try:
        await migrate(heart)
        journal = Journal(link, hub, lease_seconds=LEASE_SECONDS, message_limit=limit)
        journal.begin_term(await make_owner(heart))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.run)
            yield Desk(journal, hub, link, heart, pool, Reads(pool, limit))
            nursery.cancel_scope.cancel()
    finally:
        for each in (link, heart, pool):
            each.close()
