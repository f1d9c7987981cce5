"""``server/describe``."""

from __future__ import annotations

from outlive import wire
from outlived.server.session import Call, Session


async def describe_server(
    session: Session,  # noqa: ARG001
    params: wire.ServerDescribeParams,
    call: Call,  # noqa: ARG001
) -> wire.ServerDescription:
    """The contract as this daemon serves it; needs no database."""
    from outlive.describe import (
        describe,
    )  # late: it brings the classes of every event, which nothing else here needs

    return describe(params.method)
