"""The handlers: one for each row of the method table, checked against it at import."""

from __future__ import annotations

from outlive.methods import METHODS
from outlived.server.methods import chats, describe, drain, info, runs, start, stats, stop, tail, wait
from outlived.server.session import Handler

HANDLERS: dict[str, Handler] = {
    "server/info": info.info,
    "server/owners": info.list_owners,
    "server/describe": describe.describe_server,
    "server/stats": stats.read_stats,
    "server/drain": drain.drain_server,
    "run/start": start.start_run,
    "run/get": runs.get_run,
    "run/latest": runs.get_latest,
    "run/list": runs.list_runs,
    "run/stop": stop.stop_run,
    "run/wait": wait.wait_run,
    "run/tail": tail.tail_run,
    "run/untail": tail.untail_run,
    "chat/create": chats.create_chat,
    "chat/get": chats.get_chat,
    "chat/list": chats.list_chats,
    "chat/messages": chats.list_messages,
    "$/cancel_request": info.cancel_request,
}

assert HANDLERS.keys() == METHODS.keys(), "the method table and the handlers differ"
