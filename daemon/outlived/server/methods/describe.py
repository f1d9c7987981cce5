"""``server/describe``."""

from __future__ import annotations

from outlive import describe, wire
from outlived.server.session import Call, Session


async def describe_server(
    session: Session,  # noqa: ARG001
    params: wire.ServerDescribeParams,
    call: Call,  # noqa: ARG001
) -> wire.ServerDescription:
    """The contract as this daemon serves it; needs no database."""
    return describe.describe(params.method)
