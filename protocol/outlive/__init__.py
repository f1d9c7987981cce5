"""The shared words of Outlive, and its front door for applications.

::

    async with connect() as client:
        started = await client.start(agent="demo", input="hello")
        async for event in client.tail(started):
            ...

Rooms behind the door: ``wire`` (types), ``methods`` (the table), ``errors``, ``strict_json``, ``framing`` and ``peer``
(JSON-RPC without I/O), ``places``, ``connection``, ``patience``, ``tail``, ``client``, and ``cli``.
Names are fetched when they are first used, so that the daemon may import the words without the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outlive.client import Client, connect
    from outlive.connection import ConnectionLost, Unreachable
    from outlive.errors import OutliveError
    from outlive.peer import BrokenPeer
    from outlive.tail import Tail
    from outlive.wire import Chat, Event, Message, Run

_HOMES = {
    "BrokenPeer": "peer",
    "Chat": "wire",
    "Client": "client",
    "ConnectionLost": "connection",
    "Event": "wire",
    "Message": "wire",
    "OutliveError": "errors",
    "Run": "wire",
    "Tail": "tail",
    "Unreachable": "connection",
    "connect": "client",
}

__all__ = [
    "BrokenPeer",
    "Chat",
    "Client",
    "ConnectionLost",
    "Event",
    "Message",
    "OutliveError",
    "Run",
    "Tail",
    "Unreachable",
    "connect",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
