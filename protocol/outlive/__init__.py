"""The shared words of Outlive, and its front door for applications.

::

    async with connect() as client:
        started = await client.start(agent="demo", input="hello")
        async for event in client.tail(started):
            ...

It runs on asyncio and on Trio. ``outlive.sync`` has the same door for scripts without ``async``; ``outlive.events`` reads
an event's data into a class per type.

Rooms behind the door: ``wire`` (types), ``methods`` (the table), ``events``, ``errors``, ``describe``, ``strict_json``,
``framing`` and ``peer`` (JSON-RPC without I/O), ``places``, ``connection``, ``patience``, ``tail``, ``client``, ``sync``,
and ``cli``.
Names are fetched when they are first used, so that the daemon may import the words without the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outlive.client import Client, connect
    from outlive.connection import ConnectionLost, Unreachable
    from outlive.errors import (
        AgentUnavailable,
        CursorExpired,
        DatabaseUnavailable,
        Draining,
        Forbidden,
        IdempotencyMismatch,
        InternalError,
        InvalidParams,
        InvalidRequest,
        LimitReached,
        MethodNotFound,
        NotFound,
        OutliveError,
        Overloaded,
        ParseError,
        RequestCancelled,
        RunActive,
        TooLarge,
        Unsupported,
    )
    from outlive.peer import BrokenPeer
    from outlive.tail import Tail
    from outlive.wire import (
        Chat,
        ChatCreated,
        ChatPage,
        Event,
        Message,
        MessagePage,
        OwnerInfo,
        Run,
        RunAndMessage,
        RunFound,
        RunPage,
        RunStarted,
        RunStopped,
        RunTailed,
        RunWaited,
        ServerDescription,
        ServerInfo,
        ServerStats,
        TailEnd,
        Usage,
    )

_ROOMS = ("wire", "errors", "peer", "connection", "tail", "client")  # the light ones first

__all__ = [
    "AgentUnavailable",
    "BrokenPeer",
    "Chat",
    "ChatCreated",
    "ChatPage",
    "Client",
    "ConnectionLost",
    "CursorExpired",
    "DatabaseUnavailable",
    "Draining",
    "Event",
    "Forbidden",
    "IdempotencyMismatch",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "LimitReached",
    "Message",
    "MessagePage",
    "MethodNotFound",
    "NotFound",
    "OutliveError",
    "Overloaded",
    "OwnerInfo",
    "ParseError",
    "RequestCancelled",
    "Run",
    "RunActive",
    "RunAndMessage",
    "RunFound",
    "RunPage",
    "RunStarted",
    "RunStopped",
    "RunTailed",
    "RunWaited",
    "ServerDescription",
    "ServerInfo",
    "ServerStats",
    "Tail",
    "TailEnd",
    "TooLarge",
    "Unreachable",
    "Unsupported",
    "Usage",
    "connect",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        for room in _ROOMS:
            found: object = getattr(import_module(f"{__name__}.{room}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
