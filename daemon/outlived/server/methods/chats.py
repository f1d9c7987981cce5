"""``chat/create``, ``chat/get``, ``chat/list``, ``chat/messages``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from outlive import errors, wire
from outlived.identifiers import make_id
from outlived.server.methods.access import check_chat, list_allowed
from outlived.server.methods.cursors import read_cursor, write_cursor
from outlived.server.session import Call, Session
from outlived.store.chats import create

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


async def create_chat(session: Session, params: wire.ChatCreateParams, call: Call) -> wire.ChatCreated:  # noqa: ARG001
    """An existing chat is returned as it is."""
    metadata = params.metadata or {}
    if len(msgspec.json.encode(metadata)) > wire.MAX_METADATA_BYTES:
        raise errors.TooLarge(
            f"cannot accept metadata: it is larger than {wire.MAX_METADATA_BYTES} bytes", path="$.metadata"
        )
    check_chat(session, params.workspace, params.chat_id)
    chat_id = params.chat_id or make_id()
    created = await create(session.supervisor.store.stops, params.workspace, chat_id, params.title, metadata)
    return wire.ChatCreated(await _find(session, params.workspace, chat_id), created)


async def get_chat(session: Session, params: wire.ChatGetParams, call: Call) -> wire.ChatFound:  # noqa: ARG001
    return wire.ChatFound(await _find(session, params.workspace, params.chat_id))


async def list_chats(session: Session, params: wire.ChatListParams, call: Call) -> wire.ChatPage:  # noqa: ARG001
    """Most recently active first."""
    cursor = read_cursor(params.cursor, tuple[_Moment, wire.Workspace, wire.ChatId])
    async with session.turn():
        page = await session.supervisor.store.reads.list_chats(
            workspace=params.workspace, allowed=list_allowed(session), after=cursor, limit=params.limit
        )
        if not page.more:
            return wire.ChatPage(page.rows, None)
        last = page.rows[-1]
        return wire.ChatPage(page.rows, write_cursor(last.updated_at, last.workspace, last.id))


async def list_messages(session: Session, params: wire.ChatMessagesParams, call: Call) -> wire.MessagePage:  # noqa: ARG001
    """Oldest first."""
    cursor = read_cursor(params.cursor, tuple[wire.Seq])
    chat = await _find(session, params.workspace, params.chat_id)
    async with session.turn():
        page = await session.supervisor.store.reads.list_messages(
            workspace=chat.workspace, chat_id=chat.id, after=cursor[0] if cursor else 0, limit=params.limit
        )
        return wire.MessagePage(page.rows, write_cursor(page.rows[-1].position) if page.more else None)


async def _find(session: Session, workspace: str, chat_id: str) -> wire.Chat:
    check_chat(session, workspace, chat_id)
    chat = await session.supervisor.store.reads.get_chat(workspace, chat_id)
    if chat is None:
        raise errors.NotFound(f"cannot find chat {chat_id} in workspace {workspace}")
    return chat
