"""The loop: how busy it is, and who holds it up.

Everything here shares one loop, the users' ``python`` agents too. One that computes, or waits without awaiting,
stops all others: no delivery, no stop, at last no heartbeat.

1. The loop itself pays for two readings of the clock per *turn* (every task that is ready, once), for no step.
2. Who holds it up is seen from outside, while it happens: a thread looks every ``LOOK_SECONDS``, and when a turn
   has lasted ``BLOCK_SECONDS`` it reads where the loop's thread stands.
3. Named is the task that two successive looks at one turn have found at work, or one look that could not come
   earlier because the interpreter was held. A turn that is long because very many tasks were ready is counted, and
   blamed on nobody.
4. At most ``REPORTS`` lines in ``REPORT_SECONDS``; what was not said is counted in the next line.

Not here: who asks (``server/methods/stats.py``). Why not a hook for each step: docs/decisions/0021.
"""

from __future__ import annotations

import inspect
import math
import sys
import threading
from collections import deque
from contextlib import suppress
from time import monotonic
from types import FrameType

import attrs
import structlog
import trio

log = structlog.get_logger("outlived.loop")

BLOCK_SECONDS = 0.1
LOOK_SECONDS = 0.05
LONG_SECONDS = 1.0
WINDOW_SECONDS = 60.0
REPORTS = 10
REPORT_SECONDS = 60.0
STACK_FRAMES = 20
NAME_CHARS = 200
RUN_TASK = "run "
"""How the name of a run's task begins; its id follows."""


@attrs.define
class _Window:
    """Turns since ``began``: how long they were together, and the longest."""

    began: float
    busy: float = 0.0
    longest: float = 0.0


class LoopWatch(trio.abc.Instrument):
    """The watch over one loop. ``blocks``: turns of more than ``BLOCK_SECONDS`` so far.

    ``turn_began``: when the present turn began (``time.monotonic``); None while the loop waits. ``last_block``: when
    the last such turn began, and its seconds.
    """

    def __init__(self) -> None:
        self.blocks = 0
        self.turn_began: float | None = None
        self.last_block = (-math.inf, 0.0)
        self._window = self._window_before = _Window(monotonic())

    # ---- what the loop does

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - a hook
        """A turn begins."""
        self.turn_began = monotonic()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - a hook
        """The turn is over."""
        began = self.turn_began
        if began is None:
            return
        self.turn_began = None
        seconds = monotonic() - began
        window = self._window
        window.busy += seconds
        window.longest = max(window.longest, seconds)
        if seconds > BLOCK_SECONDS:
            self.blocks += 1
            self.last_block = began, seconds

    # ---- what it comes to

    def read_longest(self) -> float:
        """Seconds of the longest turn of the last one to two minutes."""
        return max(self._window.longest, self._window_before.longest)

    def read_busy(self) -> float:
        """The share of that time in which the loop was not waiting, from 0 to 1."""
        before, now = self._window_before, self._window
        busy = now.busy if before is now else now.busy + before.busy
        return min(1.0, busy / max(monotonic() - before.began, LOOK_SECONDS))

    def turn_over(self, now: float) -> None:
        """Forget what is older than two windows."""
        if now >= self._window.began + WINDOW_SECONDS:
            self._window_before, self._window = self._window, _Window(now)

    # ---- the watch

    async def watch(self) -> None:
        """Actor: look at this loop until cancelled."""
        stop = threading.Lock()
        stop.acquire()
        onlooker = _Onlooker(self, stop)
        trio.lowlevel.add_instrument(self)
        try:
            await trio.to_thread.run_sync(
                onlooker.look_on, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
        finally:
            stop.release()
            with suppress(KeyError):  # Trio throws out an instrument that has failed
                trio.lowlevel.remove_instrument(self)


class _Onlooker:
    """The thread beside the loop; made in a task of that loop. It ends when it gets hold of ``stop``."""

    def __init__(self, watch: LoopWatch, stop: threading.Lock) -> None:
        self._watch = watch
        self._stop = stop
        self._thread = threading.get_ident()
        self._root = trio.lowlevel.current_root_task()
        frame = trio.lowlevel.current_task().coro.cr_frame
        assert frame is not None, "this task is at work"
        self._loop = frame.f_back
        self._turn: float | None = None
        self._suspect: FrameType | None = None
        self._named: str | None = None
        self._said: deque[float] = deque(maxlen=REPORTS)
        self._unsaid = 0

    def look_on(self) -> None:
        """Look at the loop again and again."""
        looked = monotonic()
        while not self._stop.acquire(timeout=LOOK_SECONDS):
            now = monotonic()
            self._watch.turn_over(now)
            self._look(now, held_up=now - looked > LOOK_SECONDS + BLOCK_SECONDS)
            looked = now

    def _look(self, now: float, *, held_up: bool) -> None:
        """``held_up``: somebody held the interpreter, so that this is the first look for long."""
        began = self._watch.turn_began
        if began != self._turn:
            self._conclude()
            self._turn, self._suspect, self._named = began, None, None
        if began is None or now - began < LOOK_SECONDS or self._named is not None:
            return
        stack = self._read_stack()
        suspect = stack[0] if stack else None
        if suspect is not None and now - began >= BLOCK_SECONDS and (held_up or suspect is self._suspect):
            self._report(now, stack)
        self._suspect = suspect

    def _read_stack(self) -> list[FrameType]:
        """Where the task at work stands, its first frame first; empty if the loop is at none."""
        stack: list[FrameType] = []
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - the documented way, in spite of its name
        while frame is not None and frame is not self._loop:
            stack.append(frame)
            frame = frame.f_back
        at_work = frame is not None and stack and stack[-1].f_code.co_flags & inspect.CO_COROUTINE
        return stack[::-1] if at_work else []

    def _report(self, now: float, stack: list[FrameType]) -> None:
        """Name the task, as long as it still stands there."""
        task = _find_task(self._root, stack[0])
        self._named = stack[0].f_code.co_qualname if task is None else task.name[:NAME_CHARS]
        if len(self._said) == REPORTS and now - self._said[0] < REPORT_SECONDS:
            self._unsaid += 1
            return
        self._said.append(now)
        run_id = _find_run(task)
        log.warning(
            "the loop is blocked: nothing else goes on",
            task=self._named,
            **({} if run_id is None else {"run_id": run_id}),
            seconds=round(now - (self._turn or now), 3),
            **({} if not self._unsaid else {"not_said": self._unsaid}),
            stack="\n".join(_describe(frame) for frame in stack[-STACK_FRAMES:]),
        )
        self._unsaid = 0

    def _conclude(self) -> None:
        """A turn that was reported is over: say so if it was a long one."""
        began, seconds = self._watch.last_block
        if self._named is not None and began == self._turn and seconds >= LONG_SECONDS:
            log.warning("the loop goes on", task=self._named, seconds=round(seconds, 3))


def _find_task(root: trio.lowlevel.Task | None, frame: FrameType) -> trio.lowlevel.Task | None:
    """The task whose first frame this is, wherever it is below ``root``."""
    pending = [] if root is None else [root]
    while pending:
        task = pending.pop()
        if task.coro.cr_frame is frame:
            return task
        for nursery in task.child_nurseries:
            pending.extend(nursery.child_tasks)
    return None


def _find_run(task: trio.lowlevel.Task | None) -> str | None:
    """The run that the task belongs to, if it is a run's own or was started by it."""
    while task is not None:
        if task.name.startswith(RUN_TASK):
            return task.name.removeprefix(RUN_TASK)
        task = None if task.parent_nursery is None else task.parent_nursery.parent_task
    return None


def _describe(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
