"""The table of methods: name, what is asked, what is answered, and what is special about it.

1. A method that is not in this table does not exist: the server answers -32601.
2. The server binds one handler to each row and checks at start that none is missing.

Not here: handlers (the daemon's server room), types (``wire.py``).
"""

from __future__ import annotations

from typing import Any

import attrs

from outlive import wire


@attrs.frozen
class Method:
    """One row: parameter and result classes; ``unlimited`` = not counted by the in-flight limit."""

    name: str
    params: type[Any]
    result: type[Any]
    unlimited: bool = False
    needs_id: bool = False  # as a notification it would have nobody to answer to: ignored


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("server/info", wire.NoParams, wire.ServerInfo),
        Method("run/start", wire.RunStartParams, wire.RunStarted),
        Method("run/get", wire.RunIdParams, wire.RunAndMessage),
        Method("run/latest", wire.RunLatestParams, wire.RunAndMessage),
        Method("run/list", wire.RunListParams, wire.RunPage),
        Method("run/stop", wire.RunStopParams, wire.RunStopped, unlimited=True),
        Method("run/wait", wire.RunWaitParams, wire.RunWaited),
        Method("run/tail", wire.RunTailParams, wire.RunTailed, needs_id=True),
        Method("run/untail", wire.RunUntailParams, wire.Empty, unlimited=True),
        Method("chat/create", wire.ChatCreateParams, wire.ChatCreated),
        Method("chat/get", wire.ChatGetParams, wire.ChatFound),
        Method("chat/list", wire.ChatListParams, wire.ChatPage),
        Method("chat/messages", wire.ChatMessagesParams, wire.MessagePage),
        Method("$/cancel_request", wire.CancelRequestParams, wire.Empty, unlimited=True),
    )
}
