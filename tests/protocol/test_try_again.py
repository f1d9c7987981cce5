"""Patience: how long a lost daemon is waited for, on a clock of our own."""

from __future__ import annotations

import anyio
from trio.testing import MockClock

from outlive import ConnectionLost
from outlive.errors import Draining, NotFound
from outlive.patience import Patience

LOST = ConnectionLost("lost it")


def run(main):
    """Run on Trio with a clock that jumps to the next deadline."""
    anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


async def exhaust(patience, error=LOST):
    """Connect and lose again until the error is raised; return for how many seconds and how often."""
    begin, times = anyio.current_time(), 0
    while True:
        try:
            await patience.wait(error)
        except type(error):
            return anyio.current_time() - begin, times
        times += 1
        patience.connected("again")


def test_patience_is_spent_in_growing_pauses():
    """Thirty seconds are spent in pauses that grow to a second, and then the last error is raised."""

    async def main():
        seconds, times = await exhaust(Patience(30, None), Draining("cannot start now"))
        assert 28 < seconds <= 30
        assert 30 < times < 40

    run(main)


def test_final_errors_are_raised_at_once():
    """An error that does not call itself retryable is not tried again, nor is anything without patience."""

    async def main():
        assert await exhaust(Patience(30, None), NotFound("cannot find it")) == (0, 0)
        assert await exhaust(Patience(0, None)) == (0, 0)

    run(main)


def test_connection_that_held_makes_patience_whole():
    """After a connection that held for a while, a new loss has the whole patience again."""

    async def main():
        patience = Patience(10, None)
        await patience.wait(LOST)
        patience.connected("again")
        await anyio.sleep(600)
        assert (await exhaust(patience))[0] > 8

    run(main)


def test_connection_that_falls_at_once_makes_nothing_whole():
    """A daemon that accepts and hangs up again and again is left when the patience ends."""

    async def main():
        assert (await exhaust(Patience(10, None)))[0] <= 10

    run(main)


def test_progress_makes_patience_whole():
    """Something received between losses starts the patience anew."""

    async def main():
        patience = Patience(10, None)
        for _ in range(100):
            await patience.wait(LOST)
            patience.progress()
        assert (await exhaust(patience))[0] > 8

    run(main)


def test_trouble_is_said_once_and_its_end_once():
    """A person is told once that something is lost, and once that it is back."""

    async def main():
        said = []
        patience = Patience(10, said.append)
        patience.connected("back")
        await patience.wait(LOST)
        await patience.wait(LOST)
        patience.connected("back")
        patience.connected("back")
        assert said == ["lost it; trying again for 10 s", "back"]

    run(main)
