"""The page about limits says what the code does."""

import re
from pathlib import Path
from typing import get_args

import attrs

from outlive import wire
from outlived import cgroups, journald, logs, processes
from outlived.agents import reader, spool
from outlived.agents.acp import peer
from outlived.agents.formats import steps
from outlived.journal import hub, items, tail, writer
from outlived.rules import result
from outlived.server import outbox, session
from outlived.settings import AgentSettings, RunSettings, ServerSettings, StoreSettings
from outlived.store import READERS, batches, owners, past, postgres, reads
from outlived.supervisor import desk, judge

PAGE = Path(__file__).parents[2] / "docs/limits.md"


def size(count: int) -> str:
    """Bytes, as people write them."""
    whole, unit = (count >> 20, "MiB") if count % (1 << 20) == 0 else (count >> 10, "KiB")
    assert whole << {"MiB": 20, "KiB": 10}[unit] == count
    return f"{whole} {unit}"


def seconds(count: float) -> str:
    return f"{count:g} s"


def characters(count: int) -> str:
    return f"{count} characters"


def default(settings: type[attrs.AttrsInstance], field: str) -> int:
    value = getattr(attrs.fields(settings), field).default
    assert isinstance(value, int)
    return value


def unless(settings: type[attrs.AttrsInstance], field: str) -> str:
    """A limit that is none unless it is set."""
    assert not getattr(attrs.fields(settings), field).default
    return "none"


def most(annotated: object, field: str) -> int:
    """A bound that a type of the wire has."""
    bound = getattr(get_args(annotated)[1], field)
    assert isinstance(bound, int)
    return bound


LIMITS = {
    "a client's line": size(wire.MAX_CLIENT_LINE),
    "the daemon's line": size(wire.MAX_SERVER_LINE),
    "nesting of a line": str(wire.MAX_NESTING),
    "requests in flight": str(wire.MAX_IN_FLIGHT),
    "`run/stop`, `run/untail`, `$/cancel_request` in flight": str(session.MAX_UNLIMITED),
    "bytes of requests in flight": size(session.MAX_HELD_BYTES),
    "subscriptions": str(wire.MAX_SUBSCRIPTIONS),
    "bytes waiting to be sent": size(outbox.ROOM_BYTES),
    "first page of a tail": size(tail.FIRST_PAGE_BYTES),
    "largest page of a tail": size(reads.EVENT_PAGE_BYTES),
    "one send": size(outbox.CHUNK_BYTES),
    "a reader that takes nothing while something waits": seconds(outbox.STALL_SECONDS),
    "answers after the client's end of file": seconds(session.LINGER_SECONDS),
    "rows of a list's page": str(most(wire.PageSize, "le")),
    "bytes of a list's page": size(reads.PAGE_BYTES),
    "connections": f"{default(ServerSettings, 'max_connections')} `[server] max_connections`",
    "the journal's queue": size(writer.QUEUE_BYTES),
    "starts that wait for the queue": size(writer.WAITING_BYTES),
    "a start that is not stored": seconds(writer.START_SECONDS),
    "one run's share of the queue": size(writer.RUN_BYTES),
    "items of a batch": str(writer.BATCH_ITEMS),
    "bytes of a batch": size(writer.BATCH_BYTES),
    "messages taken over from a dead owner in a batch": size(batches.TAKE_BYTES),
    "events of a watched run in memory": size(hub.RING_BYTES),
    "events of all watched runs in memory": size(hub.ALL_RINGS_BYTES),
    "readers of the database": str(READERS),
    "waiting for a turn at the database": seconds(postgres.QUERY_SECONDS),
    "runs of one pass of the sweep": str(owners.SWEEP_LIMIT),
    "one sentence in the log": f"{logs.OFTEN} a minute",
    "a value in the journal": size(journald.MAX_VALUE_BYTES),
    "data of an event": size(desk.MAX_DATA_BYTES),
    "text of one event": characters(items.MAX_DELTA_CHARS),
    "a message": f"{size(default(StoreSettings, 'max_message_bytes'))} `[store] max_message_bytes`",
    "metadata": size(wire.MAX_METADATA_BYTES),
    "stop reason, title, `created_by`, `cwd`": characters(most(wire.ShortText, "max_length")),
    "idempotency key": characters(most(wire.Key, "max_length")),
    "what a step returns": size(result.MAX_RESULT_BYTES),
    "an error that an agent made itself": size(judge.MAX_ERROR_BYTES),
    "the time an attempt takes": f"{unless(RunSettings, 'wall_seconds')} `[run] wall_seconds`",
    "the time its agent does nothing": f"{unless(RunSettings, 'idle_seconds')} `[run] idle_seconds`",
    "memory of a command": f"{unless(AgentSettings, 'max_memory')} `[agents.NAME] max_memory`",
    "processes and threads of a command": f"{unless(AgentSettings, 'max_pids')} `[agents.NAME] max_pids`",
    "killing what is in a run's cgroup": seconds(cgroups.KILL_SECONDS),
    "looking for what a run has left, and killing it": f"{processes.KILL_ROUNDS} rounds, twice",
    "what a command has said and is not durable yet": (
        f"{size(default(RunSettings, 'max_spool_bytes'))} `[run] max_spool_bytes`"
    ),
    "one line of a command whose lines are events": size(reader.LINE_BYTES),
    "open steps of a command whose lines are events": str(steps.MAX_OPEN),
    "one line of an ACP agent": size(peer.MAX_LINE),
    "the history that an agent gets": size(past.HISTORY_BYTES),
    "messages of that history": str(past.HISTORY_MESSAGES),
    "one read of a command's output": size(spool.READ_BYTES),
}


def test_the_page_has_the_numbers_of_the_code():
    """Every row of the tables has the bound that the code has, and no bound is missing from them."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert dict(row for row in rows if row != ("What", "Bound")) == LIMITS
