"""The writer: one actor, one connection, one owner; it commits what is queued, batch after batch.

Theory of operation. ``Journal`` is a bounded queue with a writer behind it. The writer takes what is queued,
reads the truth under locks, plans, writes, commits, and only then lets anybody know. What can go wrong:

- *The database is away.* The batch goes back to the head of the queue and is tried again with back-off, for
  ever; the queue fills, and ``append`` makes the agents wait. A start may be withdrawn while it is queued.
- *The connection broke after the commit was sent.* Nobody knows; the same batch number is tried again. If the
  fence opens, the first try never happened. If it is shut and the number is ours, it did, exactly as planned.
- *The database refuses* (deadlock, lock timeout, conflict, bad data). The batch is tried by halves, so that
  one item never takes its neighbours with it; a single item is tried again a few times, behind the others, if
  that may help, then refused. A settlement is only ever refused for what it says, never for a lock.
- *The fence is shut for another reason:* this owner is dead. Everything queued fails with OwnershipLost, and
  the supervisor cancels every run and registers anew (``begin_term``).

Rules:
1. No timer: what is queued is committed at once, together.
2. Nothing between a commit and the hub, the tickets and ``on_commit`` waits.
3. Facts of the daemon itself (a stop, a settlement) never wait for room; what agents emit does. A run that floods
   waits for its own room, which is small: others' starts and events never stand behind much of it.

Not here: deciding what to write (``plan.py``), SQL (``store/batches.py``).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping

import attrs
import structlog
import trio

from outlive import wire
from outlived.journal.hub import Hub
from outlived.journal.items import (
    OVERHEAD_BYTES,
    Append,
    Claim,
    Created,
    Entry,
    Item,
    JournalRefused,
    OwnershipLost,
    RunSpec,
    Start,
    StartAnswer,
    Take,
    Taken,
    Ticket,
    settles,
)
from outlived.journal.log import RunLog
from outlived.journal.meter import Meter
from outlived.journal.plan import Plan, ask, plan
from outlived.rules.lifecycle import IllegalFact
from outlived.rules.run import Fact
from outlived.store.adoption import Position
from outlived.store.batches import Fence, FenceState, read_fence, read_truth, write_batch
from outlived.store.owners import StopMark
from outlived.store.past import NewSession
from outlived.store.postgres import DatabaseLost, Link, QueryRefused
from outlived.store.stops import RunProcess

log = structlog.get_logger("outlived.journal")

QUEUE_BYTES = 32 << 20
WAITING_BYTES = 32 << 20
RUN_BYTES = 1 << 20
PIECE_BYTES = 64
BATCH_ITEMS = 2000
BATCH_BYTES = 4 << 20
ITEM_BYTES = 1 << 20
TURN_EMITS = 16
START_SECONDS = 5.0
TRIES = 5
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
LATE = "cannot store the run in time: the database is away, or the chat is locked"


@attrs.frozen
class _Sent:
    """A commit that was sent and not answered yet."""

    batch_no: int
    items: list[Item]
    plan: Plan


class Journal:
    """Group commit for one owner at a time. ``logs``: the unsettled runs this owner has."""

    def __init__(self, link: Link, hub: Hub, *, lease_seconds: float, message_limit: int) -> None:
        self._link = link
        self._hub = hub
        self._lease_seconds = lease_seconds
        self._message_limit = message_limit
        self._logs: dict[str, RunLog] = {}
        self._queue: deque[Item] = deque()
        self._queued_bytes = 0
        self._waiting_bytes = 0
        self._in_hand: list[Item] = []
        self._arrived = trio.Event()
        self._room = trio.lowlevel.ParkingLot()
        self._owner: str | None = None
        self._batch_no = 0
        self._unsure: _Sent | None = None
        self.lost = trio.Event()
        self.degraded = False
        self.meter = Meter()

    # ---- terms

    def begin_term(self, owner: str) -> None:
        """Write for this owner from now on. Everything of an earlier term is gone."""
        self._logs.clear()
        self._owner, self._batch_no, self._unsure = owner, 0, None
        self.lost = trio.Event()

    @property
    def owner(self) -> str:
        """The current owner's id; after a loss, the last one's."""
        assert self._owner is not None
        return self._owner

    @property
    def logs(self) -> Mapping[str, RunLog]:
        return self._logs

    def owns(self, run_id: str) -> bool:
        """Whether the run is unsettled and this owner's."""
        return run_id in self._logs

    def lose(self) -> None:
        """This owner is dead: fail whatever is queued. The writer pauses until the next term."""
        if self.lost.is_set():
            return
        self.lost.set()
        waiting = [*self._in_hand, *self._queue]
        self._in_hand = []
        self._queue.clear()
        self._queued_bytes = 0
        self._room.unpark_all()
        self._logs.clear()
        for item in waiting:
            _fail(item, OwnershipLost(f"cannot write for owner {self._owner}: it was declared dead"))

    # ---- what others ask for

    async def start(self, spec: RunSpec, on_commit: Callable[[RunSpec, wire.Run], None]) -> StartAnswer:
        """Insert a run, or say what is in its way. Raises DatabaseLost (nothing was stored), OwnershipLost."""
        size = OVERHEAD_BYTES + sum(len(str(each)) for each in (spec.input, spec.command, spec.env))
        if self._queued_bytes > QUEUE_BYTES:
            await self._wait_to_start(size)
        item = Start(spec, size, on_commit, trio.current_time())
        self._hand_in(item)
        return await item.ticket.wait()

    async def _wait_to_start(self, size: int) -> None:
        """Wait for room, unless too much waits for it already: what waits is held as well. Raises DatabaseLost."""
        if self._waiting_bytes + size <= WAITING_BYTES:
            self._waiting_bytes += size
            try:
                with trio.move_on_after(START_SECONDS):
                    await self._wait_for_room()
            finally:
                self._waiting_bytes -= size
        if self._queued_bytes > QUEUE_BYTES:
            raise DatabaseLost(LATE)

    async def append(self, run_id: str, entry: Entry, *, wait: bool = False) -> None:
        """Add an event to a run of ours; waits for room, and with ``wait`` for the commit."""
        await self._wait_for_room(run_id)
        ticket = self.append_nowait(run_id, entry, ticket=Ticket() if wait else None)
        if ticket is not None:
            await ticket.wait()
        elif self._is_turn_over(run_id):
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()

    def _is_turn_over(self, run_id: str) -> bool:
        """An agent that only talks lets others run now and then. In between the writer does not wake for each word."""
        owned = self._logs[run_id]
        owned.turn = (owned.turn + 1) % TURN_EMITS
        return owned.turn == 0

    def append_nowait(
        self, run_id: str, entry: Entry, *, ticket: Ticket[None] | None = None
    ) -> Ticket[None] | None:
        """Add an event without waiting for room. Raises OwnershipLost, JournalRefused."""
        owned = self._find_log(run_id)
        growing = owned.growing
        if growing is not None and ticket is None and growing.size < ITEM_BYTES:
            self._grow(growing, entry)
            return None
        item = Append(run_id, [entry], _measure(entry), ticket=ticket)
        owned.growing = item if ticket is None else None
        self._hand_in(item)
        return ticket

    def _grow(self, growing: Append, entry: Entry) -> None:
        """One more event of a run that has some in the queue; text grows in place."""
        size, last = _measure(entry), growing.entries[-1]
        if entry.pieces is not None and last.pieces is not None and last.type == entry.type:
            last.pieces.extend(entry.pieces)
            size -= OVERHEAD_BYTES - PIECE_BYTES  # a short string costs more than its characters
        else:
            growing.entries.append(entry)
        growing.size += size
        self._count(growing, size)

    async def relay(self, run_id: str, entries: list[Entry], position: Position) -> None:
        """Add what the output of a command amounts to, up to there; waits for room. All of it is one commit."""
        await self._wait_for_room(run_id)
        owned = self._find_log(run_id)
        growing = owned.growing
        if growing is None or growing.size >= ITEM_BYTES or not entries:
            growing = Append(run_id, entries, OVERHEAD_BYTES + sum(map(_measure, entries)))
            owned.growing = growing if entries else None
            self._hand_in(growing)
        else:
            for entry in entries:
                self._grow(growing, entry)
        growing.position = position
        await trio.lowlevel.checkpoint()

    async def note_process(self, run_id: str, process: RunProcess) -> None:
        """Record the process that a run was given, none of whose output is read; returns after the commit."""
        self._find_log(run_id).growing = None
        ticket: Ticket[None] = Ticket()
        self._hand_in(Append(run_id, [], OVERHEAD_BYTES, process, Position(), ticket=ticket))
        await ticket.wait()

    def keep_session(self, run_id: str, session: NewSession) -> None:
        """Keep, or forget, what the run's program calls its conversation."""
        self._find_log(run_id).growing = None
        self._hand_in(Append(run_id, [], OVERHEAD_BYTES, session=session))

    async def settle(
        self, run_id: str, status: str, error: dict[str, object] | None, mark: StopMark | None
    ) -> None:
        """Write the one terminal outcome; returns after its commit, however long the database is away."""
        await self._end(run_id, Entry(Fact.SETTLED.value, {"status": status, "error": error, "mark": mark}))

    async def release(self, run_id: str, reason: str, mark: StopMark | None) -> None:
        """Give the run back, to be claimed by whoever can start it again; as patient as a settlement.

        If the run is to be stopped (``mark``, or one that its row has by then) it is settled instead.
        """
        await self._end(run_id, Entry(Fact.RELEASED.value, {"reason": reason, "mark": mark}))

    async def _end(self, run_id: str, entry: Entry) -> None:
        owned = self._find_log(run_id, even_broken=True)
        if owned.settling:
            raise OwnershipLost(f"cannot settle run {run_id} twice")
        owned.settling, owned.growing = True, None
        item = Append(run_id, [entry], OVERHEAD_BYTES, ticket=Ticket())
        self._hand_in(item)
        assert item.ticket is not None
        await item.ticket.wait()

    async def take(self, run_ids: list[str]) -> list[Taken]:
        """Take over those of the runs that are nobody's. Raises OwnershipLost."""
        item = Take(run_ids)
        self._hand_in(item)
        return await item.ticket.wait()

    async def claim(
        self, spec: RunSpec, run: wire.Run, on_commit: Callable[[RunSpec, wire.Run], None]
    ) -> wire.Run | None:
        """Begin the next attempt of a released run; None if it is none any more. Raises OwnershipLost."""
        item = Claim(spec, run, on_commit)
        self._hand_in(item)
        return await item.ticket.wait()

    def is_settling(self, run_id: str) -> bool:
        """Whether the settlement, or the release, of that run is on its way."""
        owned = self._logs.get(run_id)
        return owned is not None and owned.settling

    def forget(self, run_id: str) -> None:
        """Lose sight of a run that nothing here works on any more, so that it can be taken anew."""
        self._logs.pop(run_id, None)

    @property
    def idle(self) -> bool:
        """Whether nothing is queued and nothing is being committed."""
        return not self._queue and not self._in_hand

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    @property
    def queued_items(self) -> int:
        return len(self._in_hand) + len(self._queue)

    @property
    def waiting_since(self) -> float | None:
        """When the oldest item came in that is not committed, but for those that were refused once; None: all are."""
        first = self._in_hand or self._queue
        return first[0].since if first else None

    async def _wait_for_room(self, run_id: str | None = None) -> None:
        """Wait for room for everybody, and for the run's own."""
        while self._queued_bytes > QUEUE_BYTES or (
            run_id is not None and self._find_log(run_id).queued > RUN_BYTES
        ):
            await self._room.park()

    def _find_log(self, run_id: str, *, even_broken: bool = False) -> RunLog:
        owned = self._logs.get(run_id)
        if owned is None or (owned.settling and not even_broken):
            raise OwnershipLost(f"cannot write to run {run_id}: it is settled or no longer ours")
        if owned.broken is not None and not even_broken:
            raise owned.broken
        return owned

    def _hand_in(self, item: Item) -> None:
        if self.lost.is_set() or self._owner is None:
            raise OwnershipLost("cannot write: this daemon is between two registrations")
        self._queue.append(item)
        self._count(item, item.size)
        self._arrived.set()

    def _give_up(self, item: Start) -> None:
        """A start took too long. What the writer has in hand is withdrawn if put back; once sent, only the commit can tell."""
        if item in self._queue:
            self._queue.remove(item)
            self._count(item, -item.size)
            _fail(item, DatabaseLost(LATE))
        else:
            item.overdue = True

    def _count(self, item: Item, change: int) -> None:
        """Bytes came into the queue, or left it: those of everybody and those of the run."""
        self._queued_bytes += change
        if isinstance(item, Append) and (owned := self._logs.get(item.run_id)) is not None:
            owned.queued += change
        if change < 0 and self._queued_bytes <= QUEUE_BYTES:
            self._room.unpark_all()

    # ---- the actor

    async def run(self) -> None:
        """Actor: commit what is queued, for ever. An exception here is a bug and ends the daemon."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_starts)
            await self._commit_for_ever()

    async def _watch_starts(self) -> None:
        """One clock for all starts: a deadline for each would cost more than the rest of its waiting."""
        while True:
            await trio.sleep(START_SECONDS / 10)
            late = trio.current_time() - START_SECONDS
            waiting = [item for item in (*self._in_hand, *self._queue) if isinstance(item, Start)]
            for item in waiting:
                if item.asked_at < late and not item.overdue:
                    self._give_up(item)

    async def _commit_for_ever(self) -> None:
        pause = FIRST_PAUSE
        while True:
            if not self._queue and not self._in_hand:
                self._arrived = trio.Event()
                await self._arrived.wait()
            try:
                await self._commit(self._take_batch())
            except DatabaseLost as error:
                self._note_degraded(error)
                self._put_back()
                await trio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - jitter, not a secret
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE

    def _note_degraded(self, error: DatabaseLost) -> None:
        if not self.degraded:
            log.warning(
                "the database is away; the journal keeps what it has and tries again", error=str(error)
            )
        self.degraded = True

    def _note_back(self) -> None:
        if self.degraded:
            log.info("the database is back")
        self.degraded = False

    def note_reached(self) -> None:
        """Somebody else has reached the database: with nothing to commit, the writer would not find that out."""
        if self.idle:
            self._note_back()

    def _put_back(self) -> None:
        """What was not sent waits in the queue again, in its place."""
        sent = set(map(id, self._unsure.items)) if self._unsure is not None else set()
        for item in reversed(self._in_hand):
            if id(item) in sent:
                continue
            self._queue_again(item, first=True)
        self._in_hand = [item for item in self._in_hand if id(item) in sent]

    def _queue_again(self, item: Item, *, first: bool) -> None:
        """An item that was in hand waits again, unless it is a start that was to be withdrawn meanwhile."""
        if isinstance(item, Start) and item.overdue:
            self._count(item, -item.size)
            _fail(item, DatabaseLost(LATE))
        elif first:
            self._queue.appendleft(item)
        else:
            self._queue.append(item)

    def _take_batch(self) -> list[Item]:
        """What is queued, up to a batch; after an unsure commit, exactly that batch again."""
        if self._in_hand:
            return self._in_hand
        size = 0
        while self._queue and len(self._in_hand) < BATCH_ITEMS and size < BATCH_BYTES:
            item = self._queue.popleft()
            size += item.size
            self._in_hand.append(item)
            if isinstance(item, Append) and (owned := self._logs.get(item.run_id)) is not None:
                owned.growing = owned.growing if owned.growing is not item else None
                size += 2 * owned.draft.size if owned.saves(item) else 0  # content and parts, whole
            size += (
                BATCH_BYTES if isinstance(item, Take | Claim) else 0
            )  # it brings messages: one of them to a batch
        return self._in_hand

    async def _commit(self, items: list[Item]) -> None:
        """Commit these items, by halves where they are refused together."""
        try:
            await self._try(items)
        except (QueryRefused, IllegalFact) as error:
            if len(items) > 1:
                log.warning("a batch was refused; trying its halves", items=len(items), error=str(error))
                middle = len(items) // 2
                for half in (items[:middle], items[middle:]):
                    if left := self._keep_in_hand(half):
                        await self._commit(left)
            else:
                await self._commit_single(items[0], error)

    def _keep_in_hand(self, items: list[Item]) -> list[Item]:
        """Those not done meanwhile: found committed by an earlier try, or failed with their owner."""
        in_hand = set(map(id, self._in_hand))
        return [item for item in items if id(item) in in_hand]

    async def _commit_single(self, item: Item, error: QueryRefused | IllegalFact) -> None:
        """Let one refused item try again if that may help: a deadlock or a lock passes, bad data does not.

        It goes behind the others if nothing of its run can follow it; else it is tried here, to keep its place.
        """
        while isinstance(error, QueryRefused) and error.passing and may_try_again(item):
            item.tries += 1
            await trio.sleep(FIRST_PAUSE * 2 ** min(item.tries, TRIES) * random.uniform(0.3, 0.6))  # noqa: S311 - jitter
            if not self._keep_in_hand([item]):
                return
            if not isinstance(item, Append) or settles(item):
                self._in_hand.remove(item)
                self._queue_again(item, first=False)
                return
            try:
                await self._try([item])
            except (QueryRefused, IllegalFact) as again:
                error = again
            else:
                return
        self._refuse(item, error)

    def _refuse(self, item: Item, error: Exception) -> None:
        log.error("the database refused an item for good", item=type(item).__name__, error=str(error))
        refusal = JournalRefused(f"cannot store this: {error}")
        if isinstance(item, Append) and (owned := self._logs.get(item.run_id)) is not None:
            owned.broken = refusal
            owned.settling = False
        self._put_down([item])
        _fail(item, refusal)

    async def _try(self, items: list[Item]) -> None:
        """One attempt at one batch. Raises DatabaseLost (try again), QueryRefused, IllegalFact."""
        if self.lost.is_set():
            return
        fence = Fence(self.owner, self._batch_no + 1, self._lease_seconds)
        sent, state = None, None
        self.meter.begin()
        try:
            async with self._link.use() as connection:
                truth = await read_truth(connection, fence, ask(items, self._logs))
                if truth is None:
                    state = await read_fence(connection, fence.owner)
                else:
                    self._unsure = None  # the fence opened: an earlier try did not happen
                    planned = plan(items, truth, self._logs, fence.owner, self._message_limit)
                    self._unsure = sent = _Sent(fence.batch_no, items, planned)
                    await write_batch(connection, fence, planned.batch)
        except QueryRefused:
            if sent is not None:
                self._unsure = None  # the database answered: it did not happen
            raise
        if self.lost.is_set() or self.owner != fence.owner:
            return  # another actor found out first that this owner is dead
        if sent is not None:
            self._finish(sent)
        elif state is not None:
            self._explain_shut_fence(fence, state)

    def _explain_shut_fence(self, fence: Fence, state: FenceState) -> None:
        """Either the try before this one had committed, or this owner is dead."""
        unsure = self._unsure
        if unsure is not None and state.batch_no == unsure.batch_no == fence.batch_no:
            log.info("a commit whose connection broke had happened", batch=fence.batch_no)
            self._finish(unsure)
            if not state.dead:
                return
        log.error(
            "this owner was declared dead", owner=fence.owner, batch=state.batch_no, ours=self._batch_no
        )
        self.lose()

    def _finish(self, sent: _Sent) -> None:
        """A batch is committed: move the logs on, tell the hub, answer. Nothing in here waits."""
        self._batch_no, self._unsure = sent.batch_no, None
        self._note_back()
        self.meter.note(len(sent.items), sent.plan)
        self._move_logs(sent.plan)
        self._answer(sent.plan)
        self._put_down(sent.items)

    def _move_logs(self, done: Plan) -> None:
        for opened in done.opened:
            self._logs[opened.run_id] = opened
        for run_id, change in done.changes.items():
            change.log.advance(change.run, change.events, unsaved=change.unsaved)
            if change.read is not None:
                change.log.read = change.read
            if change.gone:
                self._logs.pop(run_id, None)
            self._hub.publish(run_id, change.logged, settled=change.closed)

    def _answer(self, done: Plan) -> None:
        for start, answer in done.starts:
            if isinstance(answer, Created):
                start.on_commit(start.spec, answer.run)
            start.ticket.resolve(answer)
        for take, taken in done.takes:
            take.ticket.resolve(taken)
        for claim, claimed in done.claims:
            if claimed is not None:
                claim.on_commit(claim.spec, claimed)
            claim.ticket.resolve(claimed)
        for append in done.appends:
            if append.ticket is not None:
                append.ticket.resolve(None)
        for append in done.lost:
            self._logs.pop(append.run_id, None)
            _fail(append, OwnershipLost(f"cannot write to run {append.run_id}: it is no longer ours"))

    def _put_down(self, items: list[Item]) -> None:
        done = self._keep_in_hand(items)
        for item in done:
            self._count(item, -item.size)
        gone = set(map(id, done))
        self._in_hand = [item for item in self._in_hand if id(item) not in gone]


def _measure(entry: Entry) -> int:
    """Bytes of an event in the queue, roughly."""
    text = len(entry.pieces[0]) if entry.pieces else len(str(entry.data))
    return OVERHEAD_BYTES + text + len(entry.result or "")


def may_try_again(item: Item) -> bool:
    """A settlement is tried for ever; it is only refused for what it says."""
    return item.tries < TRIES or settles(item)


def _fail(item: Item, error: Exception) -> None:
    if item.ticket is not None and not item.ticket.done:
        item.ticket.fail(error)
