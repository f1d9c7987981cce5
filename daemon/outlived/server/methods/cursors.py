"""Page cursors: opaque to clients, checked when they come back."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from outlive import errors


def write_cursor(*values: str | int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def read_cursor(cursor: str | None, shape: type[Any]) -> Any:
    """The values of a cursor of ours, as ``shape`` (a tuple type). Raises InvalidParams."""
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(raw, type=shape)
    except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
        message = "cannot accept $.cursor: it is none of a page of this method"
        raise errors.InvalidParams(message, path="$.cursor") from error
