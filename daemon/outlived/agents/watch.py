"""The watch over spools: whoever waits for one is woken when something in it has changed.

1. One inotify instance for all spools of a daemon (a user has 128). Where it cannot be had, or has lost something,
   every spool is looked at every ``LOOK_SECONDS`` or so: a wake-up says "look", never what there is.
2. Waking is free for whoever does not wait, and costs nothing while no command says anything.

Not here: looking (``follow.py``, ``program.py``).
"""

from __future__ import annotations

from pathlib import Path

import structlog
import trio
from inotify_simple import INotify, flags

log = structlog.get_logger("outlived.watch")

LOOK_SECONDS = 0.05
SURE_SECONDS = 1.0


class Pulse:
    """A wake-up for all who wait at that moment. Look, and wait without a checkpoint between: nothing is missed."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def beat(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class SpoolWatch:
    """``run`` is an actor; until it runs, and if it cannot, nobody is woken but by ``Pulse.beat``."""

    def __init__(self) -> None:
        self._pulses: dict[Path, Pulse] = {}
        self._watched: dict[int, Path] = {}
        self._inotify: INotify | None = None
        self._opened = trio.Event()

    def open(self, path: Path) -> Pulse:
        """Begin to watch a spool; ``close`` it."""
        pulse = self._pulses[path] = Pulse()
        self._watch(path)
        self._opened.set()
        return pulse

    def close(self, path: Path) -> None:
        """Watch it no more."""
        self._pulses.pop(path, None)
        for number in [number for number, watched in self._watched.items() if watched == path]:
            del self._watched[number]
            try:
                if self._inotify is not None:
                    self._inotify.rm_watch(number)
            except OSError:
                continue  # it went with its directory

    def _watch(self, path: Path) -> None:
        if self._inotify is None:
            return
        try:
            self._watched[self._inotify.add_watch(path, flags.MODIFY)] = path
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        log.warning("cannot watch spools: looking at them again and again instead", reason=error.strerror)
        if self._inotify is not None:
            self._inotify.close()
        self._inotify, self._watched = None, {}

    async def run(self) -> None:
        """Actor: wake whoever waits."""
        self._begin()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_at_all)
                if self._inotify is not None:
                    await self._hear()
        finally:
            if self._inotify is not None:
                self._inotify.close()
                self._inotify, self._watched = None, {}

    def _begin(self) -> None:
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            self._give_up(error)
        for path in self._pulses:
            self._watch(path)

    async def _hear(self) -> None:
        while (inotify := self._inotify) is not None:
            with trio.move_on_after(SURE_SECONDS):
                await trio.lowlevel.wait_readable(inotify)
            if self._inotify is None:
                return
            for number in {event.wd for event in inotify.read(timeout=0)}:
                if (path := self._watched.get(number)) is not None:
                    self._pulses[path].beat()

    async def _look_at_all(self) -> None:
        while True:
            if not self._pulses:
                self._opened = trio.Event()
                await self._opened.wait()
            await trio.sleep(LOOK_SECONDS if self._inotify is None else SURE_SECONDS)
            for pulse in list(self._pulses.values()):
                pulse.beat()
