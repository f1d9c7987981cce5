"""What a connection still has to say: gathered, bounded, and given up only when the peer takes nothing."""

import socket

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.server.outbox import CHUNK_BYTES, ROOM_BYTES, STALL_SECONDS, Outbox, Stalled

examples = settings(derandomize=True, deadline=None)


@attrs.frozen
class Counting:
    """A socket that notes how much was sent at a time."""

    sock: trio.socket.SocketType
    sent: list[int] = attrs.Factory(list)

    async def send(self, data):
        count = await self.sock.send(data)
        self.sent.append(count)
        return count


@pytest.fixture
def pair():
    """Two ends of a connection, the first of them counting; small buffers."""
    ours, theirs = trio.socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ours, theirs:
        yield Counting(ours), theirs


async def read(sock, count):
    """Exactly so many bytes."""
    data = b""
    with trio.fail_after(10):
        while len(data) < count:
            data += await sock.recv(count - len(data))
    return data


def fill(outbox):
    """Queue more than there is room for, and far more than the kernel takes; how many bytes."""
    line = b"x" * 999 + b"\n"
    count = (2 * ROOM_BYTES + (2 << 20)) // len(line)
    for _ in range(count):
        outbox.add(line)
    return count * len(line)


async def test_everything_that_waits_goes_out_in_one_send(pair):
    """Lines that were queued one by one leave together, in their order."""
    counting, peer = pair
    outbox = Outbox(counting)
    lines = [f"{number}\n".encode() for number in range(100)]
    for line in lines:
        outbox.add(line)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send_all)
        assert await read(peer, len(b"".join(lines))) == b"".join(lines)
        await trio.testing.wait_all_tasks_blocked()
        assert counting.sent == [len(b"".join(lines))]
        outbox.add(b"more\n")
        assert await read(peer, 5) == b"more\n"
        nursery.cancel_scope.cancel()


async def test_a_large_answer_is_sent_in_chunks(pair):
    """No single send is larger than a chunk: progress is seen, and the loop goes on."""
    counting, peer = pair
    outbox = Outbox(counting)
    large = b"y" * (3 * CHUNK_BYTES) + b"\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send_all)
        outbox.add(large)
        assert await read(peer, len(large)) == large
        await trio.testing.wait_all_tasks_blocked()
        assert max(counting.sent) <= CHUNK_BYTES
        nursery.cancel_scope.cancel()


@examples
@given(st.lists(st.binary(max_size=2000), max_size=30), st.lists(st.booleans(), max_size=30))
async def test_nothing_is_lost_split_up_or_reordered(lines, pauses):
    """Whatever is queued, and whenever, the peer reads exactly that."""
    ours, theirs = trio.socket.socketpair()
    with ours, theirs, trio.fail_after(10):
        outbox = Outbox(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.send_all)
            for number, line in enumerate(lines):
                outbox.add(line)
                if number < len(pauses) and pauses[number]:
                    await trio.lowlevel.checkpoint()
            assert await read(theirs, len(b"".join(lines))) == b"".join(lines)
            nursery.cancel_scope.cancel()


async def test_who_has_much_to_say_waits_for_room(pair):
    """Above a bound those who ask for room wait until the peer has read enough; ``add`` never does."""
    counting, peer = pair
    outbox = Outbox(counting)
    size = fill(outbox)
    got = []

    async def put(name):
        await outbox.put(name)
        got.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send_all)
        for name in (b"first\n", b"second\n"):
            nursery.start_soon(put, name)
            await trio.testing.wait_all_tasks_blocked()
        assert got == []
        outbox.add(b"urgent\n")
        data = await read(peer, size)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(got) == [b"first\n", b"second\n"]
        rest = await read(peer, len(b"urgent\nfirst\nsecond\n"))
        assert set(data) <= set(b"x\n")
        assert rest.startswith(b"urgent\n")
        nursery.cancel_scope.cancel()


async def test_room_never_means_more_than_a_little_over_the_bound(pair):
    """However many wait for room, what is queued by them stays within the bound and one line each."""
    counting, peer = pair
    outbox = Outbox(counting)
    line = b"z" * 9_999 + b"\n"
    total, most = 300 * len(line), 0

    async def say():
        nonlocal most
        await outbox.put(line)
        most = max(most, outbox._waiting)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send_all)
        for _ in range(300):
            nursery.start_soon(say)
        await read(peer, total)
        nursery.cancel_scope.cancel()
    assert most < ROOM_BYTES + len(line)


async def test_the_end_of_sending_can_be_waited_for(pair):
    """Everybody who waits is woken once the kernel has taken everything, and at once if there is nothing."""
    counting, peer = pair
    outbox = Outbox(counting)
    told = []

    async def wait():
        await outbox.wait_sent()
        told.append(True)

    with trio.fail_after(10):
        await outbox.wait_sent()
        async with trio.open_nursery() as nursery:
            sending = nursery.start_soon(outbox.send_all)
            size = fill(outbox)
            for _ in range(3):
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert (told, sending) == ([], None)
            await read(peer, size)
            await trio.testing.wait_all_tasks_blocked()
            assert told == [True] * 3
            nursery.cancel_scope.cancel()


async def test_a_peer_that_takes_nothing_is_given_up(pair, autojump_clock):
    """With something waiting, and not a byte taken for so long, the connection is over; the error says so."""
    counting, _ = pair
    outbox = Outbox(counting)
    fill(outbox)
    began = trio.current_time()
    with pytest.raises(Stalled, match=r"the peer took nothing for 30 s while \d+ bytes waited"):
        await outbox.send_all()
    assert trio.current_time() - began == pytest.approx(STALL_SECONDS)


async def test_a_slow_peer_is_not_a_stalled_one(pair, autojump_clock):
    """Whoever takes a little now and then is fed for ever, however slowly."""
    counting, peer = pair
    outbox = Outbox(counting)
    size, taken = fill(outbox), 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send_all)
        for _ in range(10):
            await trio.sleep(STALL_SECONDS * 0.9)
            taken += len(await peer.recv(64 << 10))
        assert taken < size
        assert trio.current_time() > STALL_SECONDS
        nursery.cancel_scope.cancel()


async def test_an_idle_connection_may_be_idle_for_ever(pair, autojump_clock):
    """With nothing to say there is no deadline."""
    counting, peer = pair
    outbox = Outbox(counting)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send_all)
        await trio.sleep(1000 * STALL_SECONDS)
        outbox.add(b"still here\n")
        assert await peer.recv(100) == b"still here\n"
        nursery.cancel_scope.cancel()


async def test_a_peer_that_is_gone_is_an_error(pair):
    """A closed connection ends the sending with the system's error."""
    counting, peer = pair
    outbox = Outbox(counting)
    peer.close()
    outbox.add(b"hello\n")
    with pytest.raises(OSError, match="Broken pipe"):
        await outbox.send_all()
