"""What a run knows of its chat's past: the messages before it, and what its program called the conversation."""

import pytest

from outlived.agents import Session
from outlived.store import past
from tests.support.history import assert_history
from tests.support.house import ask, open_house


class Curious:
    """An agent that asks for the past, answers, and keeps a session if it is told to."""

    def __init__(self):
        self.histories, self.sessions = [], []

    async def act(self, desk):
        self.histories.append(await desk.read_history())
        self.sessions.append(await desk.read_session())
        kept = desk.assignment.metadata.get("keep")
        if "keep" in desk.assignment.metadata:
            desk.keep_session(None if kept is None else Session(*kept))
        await desk.emit_text(f"re: {desk.assignment.input}")
        if desk.assignment.metadata.get("fail"):
            raise ValueError("no")


@pytest.fixture
def curious():
    return Curious()


async def test_a_turn_knows_the_turns_before_it(shared_database, curious):
    """The history has the chat's messages before the run, oldest first, failed ones too; never its own, nor another chat's."""
    async with open_house(shared_database, agents={"act": curious.act}) as house:
        await house.perform("act", chat_id="h1", input="one")
        await house.perform("act", chat_id="h2", input="elsewhere")
        await house.perform("act", chat_id="h1", input="two", metadata={"fail": True})
        await house.perform("act", chat_id="h1", input="three")
        shown = [
            [(each.role, each.status, each.content) for each in history] for history in curious.histories
        ]
        one = [("user", "completed", "one"), ("assistant", "completed", "re: one")]
        two = [("user", "completed", "two"), ("assistant", "failed", "re: two")]
        assert shown == [[], [], one, [*one, *two]]
        found = await house.reads.list_messages(workspace="default", chat_id="h1", after=0, limit=4)
        assert curious.histories[-1] == found.rows
    assert_history(shared_database, settled=True)


async def test_history_is_bounded_and_keeps_the_newest(shared_database, curious, monkeypatch):
    """What does not fit is left out, the oldest first; the newest message is always there."""
    async with open_house(shared_database, agents={"act": curious.act}) as house:
        for word in ("one", "two", "x" * 1000):
            await house.perform("act", chat_id="h3", input=word)
        for most, expected in ((5, 1), (2200, 1), (4100, 2), (1 << 20, 6)):
            monkeypatch.setattr(past, "HISTORY_BYTES", most)
            messages = await past.read_history(house.supervisor.store.pool, "default", "h3", 7)
            assert [each.position for each in messages] == list(range(7 - expected, 7)), most


async def test_a_session_is_kept_for_the_next_turn(shared_database, curious):
    """What a program calls its conversation is given to the next turn of that chat and agent, and to no other."""
    agents = {"act": curious.act, "other": curious.act}
    async with open_house(shared_database, agents=agents) as house:
        await house.perform("act", chat_id="s1", metadata={"keep": ["a", {"used": 1}]})
        await house.perform("act", chat_id="s1", metadata={"fail": True, "keep": ["b"]})
        await house.perform("other", chat_id="s1")
        await house.perform("act", chat_id="s2")
        await house.perform("act", chat_id="s1")
        assert curious.sessions == [None, Session("a", {"used": 1}), None, None, Session("b")]
    assert_history(shared_database, settled=True)


async def test_a_session_is_forgotten(shared_database, curious):
    """A program whose conversation is gone begins a new one in the next turn."""
    async with open_house(shared_database, agents={"act": curious.act}) as house:
        for keep in (["a"], None, ["b"]):
            await house.perform("act", chat_id="s3", metadata={"keep": keep})
        await house.perform("act", chat_id="s3")
        assert curious.sessions == [None, Session("a"), None, Session("b")]


async def test_a_session_belongs_to_its_host(shared_database, curious):
    """On another host the program has no such conversation: there the turn begins a new one."""
    async with open_house(shared_database, agents={"act": curious.act}) as house:
        await house.perform("act", chat_id="s4", metadata={"keep": ["a"]})
        await ask(
            shared_database,
            "UPDATE outlived.sessions SET host = 'elsewhere' WHERE chat_id = 's4' RETURNING 1",
        )
        await house.perform("act", chat_id="s4")
        assert curious.sessions == [None, None]
