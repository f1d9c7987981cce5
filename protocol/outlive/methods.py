"""The table of methods: name, purpose, what is asked, what is answered, how it may fail, and what is special about it.

1. A method that is not in this table does not exist: the server answers -32601.
2. The server binds one handler to each row and checks at start that none is missing.
3. What is said about the contract elsewhere (``server/describe``, docs/protocol.md) is made from this table.

Not here: handlers (the daemon's server room), types (``wire.py``), events (``events.py``).
"""

from __future__ import annotations

from typing import Any

import attrs

from outlive import errors, wire
from outlive.errors import OutliveError

_DB = errors.DatabaseUnavailable

ANY_METHOD: tuple[type[OutliveError], ...] = (
    errors.InvalidParams, errors.InternalError, errors.Overloaded, errors.TooLarge, errors.Draining,
)  # fmt: skip
"""What every method may answer."""


@attrs.frozen
class Method:
    """One row: parameter and result classes; ``failures`` are the errors besides those of any method.

    ``unlimited`` = not counted by the in-flight limit. ``cancellable`` = ``$/cancel_request`` ends it; a start is
    always answered: its run may be durable already.
    """

    name: str
    params: type[Any]
    result: type[Any]
    purpose: str
    failures: tuple[type[OutliveError], ...] = ()
    unlimited: bool = False
    needs_id: bool = False  # as a notification it would have nobody to answer to: ignored
    cancellable: bool = True

    @property
    def errors(self) -> tuple[type[OutliveError], ...]:
        """Everything it may answer instead of a result."""
        cancelled = (errors.RequestCancelled,) if self.cancellable else ()
        return (*self.failures, *ANY_METHOD, *cancelled)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "server/info", wire.NoParams, wire.ServerInfo,
            "Says who answers, what it allows, and which agents it has. Needs no database.",
        ),
        Method(
            "server/describe", wire.ServerDescribeParams, wire.ServerDescription,
            "Returns this contract, or what it says about one method, as JSON Schema.",
        ),
        Method(
            "server/owners", wire.NoParams, wire.OwnerList,
            "Lists the daemons that share this database, and those of the last day that are dead.",
            (_DB,),
        ),
        Method(
            "server/stats", wire.NoParams, wire.ServerStats,
            "Says how this daemon is doing: gauges of this moment, totals since its start (`_total`), quantiles of the last "
            "one to two minutes (`_p50`, `_p99`). Needs no database.",
        ),
        Method(
            "server/drain", wire.ServerDrainParams, wire.ServerDraining,
            "Stops taking starts and ends the runs as a stop of the daemon would, but the daemon stays; answers at once. For "
            "the daemon's own user and root. A later order takes the place of an earlier one.",
            (errors.Forbidden,),
        ),
        Method(
            "run/start", wire.RunStartParams, wire.RunStarted,
            "Starts a run of an agent or of a command, exactly one of both, or finds the run that the key or `join` means. "
            "`input` is text, or a list of parts with a `type`.",
            (
                errors.Forbidden, errors.RunActive, errors.IdempotencyMismatch, errors.AgentUnavailable,
                errors.Unsupported, errors.LimitReached, _DB,
            ),
            cancellable=False,
        ),
        Method(
            "run/get", wire.RunIdParams, wire.RunFound,
            "Returns a run and its assistant message, if the run is in that workspace.",
            (errors.NotFound, _DB),
        ),
        Method(
            "run/latest", wire.RunLatestParams, wire.RunAndMessage,
            "Returns a chat's newest run and its assistant message: what a client asks that comes back.",
            (errors.NotFound, _DB),
        ),
        Method(
            "run/list", wire.RunListParams, wire.RunPage,
            "Lists runs, newest first: those that match all the filters given.",
            (_DB,),
        ),
        Method(
            "run/stop", wire.RunStopParams, wire.RunStopped,
            "Asks for the end of a run, or of a chat's active (else latest) one: exactly one of `run_id` and `chat_id`.",
            (errors.NotFound, _DB),
            unlimited=True,
        ),
        Method(
            "run/wait", wire.RunWaitParams, wire.RunWaited,
            "Answers when the run is settled, or when the timeout has passed; without one there is no limit.",
            (errors.NotFound, _DB),
        ),
        Method(
            "run/tail", wire.RunTailParams, wire.RunTailed,
            "Subscribes to a run's events: those after a cursor (or a snapshot instead), then those to come.",
            (errors.NotFound, errors.CursorExpired, _DB),
            needs_id=True,
        ),
        Method(
            "run/untail", wire.RunUntailParams, wire.Empty,
            "Ends a subscription of this connection; its `run/tail_end` follows.",
            (errors.NotFound,),
            unlimited=True,
        ),
        Method(
            "chat/create", wire.ChatCreateParams, wire.ChatCreated,
            "Makes a chat, named by the daemon if `chat_id` is absent, or returns the one that is there, as it is.",
            (errors.NotFound, _DB),
        ),
        Method(
            "chat/get", wire.ChatGetParams, wire.ChatFound,
            "Returns a chat.",
            (errors.NotFound, _DB),
        ),
        Method(
            "chat/list", wire.ChatListParams, wire.ChatPage,
            "Lists chats, most recently active first; of every workspace that the peer may use, unless one is named.",
            (_DB,),
        ),
        Method(
            "chat/messages", wire.ChatMessagesParams, wire.MessagePage,
            "Lists a chat's messages, oldest first.",
            (errors.NotFound, _DB),
        ),
        Method(
            "$/cancel_request", wire.CancelRequestParams, wire.Empty,
            "Gives up a request that is in flight on this connection, never a run. It is sent as a notification.",
            unlimited=True,
        ),
    )
}  # fmt: skip

NOTIFICATIONS: dict[str, type[Any]] = {"run/event": wire.RunEvent, "run/tail_end": wire.TailEnd}
"""What the server says by itself, after a ``run/tail``: name and params."""
