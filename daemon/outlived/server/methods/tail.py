"""``run/tail`` and ``run/untail``."""

from __future__ import annotations

from outlive import errors, wire
from outlived.identifiers import make_id
from outlived.rules.run import TERMINAL
from outlived.server.methods.access import find_run_and_message
from outlived.server.session import Call, Session
from outlived.server.subscription import Subscription


async def tail_run(session: Session, params: wire.RunTailParams, call: Call) -> wire.RunTailed:
    """Subscribe: the reply first, then the events after the cursor."""
    async with session.turn():
        run, message = await find_run_and_message(session, params.run_id, params.workspace)
        _check_room(session)
        cursor = run.last_seq if params.after_seq is None else params.after_seq
        _check_cursor(run, cursor)
        subscription = Subscription(
            session=session,
            id=make_id(),
            run_id=run.id,
            cursor=cursor,
            upto=None if params.follow else run.last_seq,
            last_seq=run.last_seq,
            holds_end=run.status in TERMINAL and cursor >= run.last_seq,
        )
        call.after = lambda: _begin(session, subscription)
        return wire.RunTailed(subscription.id, run, message if params.after_seq is None else None, cursor)


def _begin(session: Session, subscription: Subscription) -> None:
    session.subscriptions[subscription.id] = subscription
    session.nursery.start_soon(subscription.feed)
    if session.draining.is_set():
        subscription.end("draining")
    elif session.gone:
        subscription.end("unsubscribed")


def _check_room(session: Session) -> None:
    """Within the turn, after its last wait: tails that are asked for together are counted one by one."""
    if len(session.subscriptions) >= wire.MAX_SUBSCRIPTIONS:
        raise errors.Overloaded(
            f"cannot take more than {wire.MAX_SUBSCRIPTIONS} subscriptions on a connection"
        )


def _check_cursor(run: wire.Run, cursor: int) -> None:
    if cursor > run.last_seq:
        raise errors.InvalidParams(
            f"cannot tail run {run.id} after {cursor}: its last event is {run.last_seq}", path="$.after_seq"
        )
    if cursor < run.first_seq - 1:
        gone = "events" if run.first_seq > run.last_seq else f"events before {run.first_seq}"
        raise errors.CursorExpired(
            f"cannot tail run {run.id} after {cursor}: its {gone} are no longer kept",
            first_seq=run.first_seq,
            last_seq=run.last_seq,
        )


async def untail_run(session: Session, params: wire.RunUntailParams, call: Call) -> wire.Empty:
    """Answer, then end the subscription."""
    subscription = session.subscriptions.get(params.subscription)
    if subscription is None:
        raise errors.NotFound(f"cannot find subscription {params.subscription[:100]!r} on this connection")
    call.after = lambda: subscription.end("unsubscribed")
    return wire.Empty()
