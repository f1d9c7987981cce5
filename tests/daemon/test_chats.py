"""``chat/create``, ``chat/get``, ``chat/list``, ``chat/messages``."""

import pytest

from tests.support.daemon import Daemon
from tests.support.runs import TIME, UUID7, perform, settle, start, start_endless, stop
from tests.support.wire import Json, Wire

CHAT_FIELDS = {
    "id", "workspace", "title", "metadata", "active_run_id", "last_run_id", "created_at", "updated_at",
}  # fmt: skip


def list_all(wire: Wire, method: str, field: str, **params) -> list[Json]:
    """Every row, page by page."""
    page = wire.call(method, **params)
    rows = page[field]
    while page["next_cursor"] is not None:
        page = wire.call(method, cursor=page["next_cursor"], **params)
        rows += page[field]
    return rows


# ---------------------------------------------------------------- chat/create, chat/get


def test_a_chat_is_made_as_asked(wire: Wire):
    """A new chat has the id, title, workspace and metadata it was asked for, and no run."""
    given = {"chat_id": "new", "workspace": "made", "title": "Übung 😀", "metadata": {"a": [1, None]}}
    answer = wire.call("chat/create", **given)
    chat = answer["chat"]
    assert answer["created"] is True
    assert chat.keys() >= CHAT_FIELDS
    assert (chat["id"], chat["workspace"], chat["title"]) == ("new", "made", "Übung 😀")
    assert (chat["metadata"], chat["active_run_id"], chat["last_run_id"]) == ({"a": [1, None]}, None, None)
    assert TIME.fullmatch(chat["created_at"])
    assert wire.call("chat/get", chat_id="new", workspace="made") == {"chat": chat}


def test_a_chat_without_a_name_gets_one(wire: Wire):
    """An absent chat_id is made by the daemon: a UUIDv7, in the workspace default, without title and metadata."""
    chat = wire.call("chat/create")["chat"]
    assert UUID7.fullmatch(chat["id"])
    assert (chat["workspace"], chat["title"], chat["metadata"]) == ("default", None, {})
    assert wire.call("chat/create")["chat"]["id"] != chat["id"]


def test_an_existing_chat_is_returned_as_it_is(wire: Wire):
    """Creating a chat that is there changes nothing of it, and says created false."""
    chat = wire.call("chat/create", chat_id="there", title="old", metadata={"a": 1})["chat"]
    assert wire.call("chat/create", chat_id="there", title="new", metadata={}) == {
        "chat": chat,
        "created": False,
    }


def test_a_start_makes_its_chat(wire: Wire):
    """run/start creates the chat it names; creating it afterwards finds it."""
    run = perform(wire, chat_id="by-start")
    answer = wire.call("chat/create", chat_id="by-start", title="too late")
    assert (answer["created"], answer["chat"]["title"], answer["chat"]["last_run_id"]) == (
        False,
        None,
        run["id"],
    )


def test_a_run_goes_into_a_chat_that_is_there(wire: Wire):
    """A start in a chat that was created keeps its title and metadata."""
    wire.call("chat/create", chat_id="titled", title="kept", metadata={"a": 1})
    perform(wire, chat_id="titled")
    chat = wire.call("chat/get", chat_id="titled")["chat"]
    assert (chat["title"], chat["metadata"]) == ("kept", {"a": 1})


def test_many_creators_make_one_chat(shared_daemon: Daemon):
    """Of many connections that create the same chat at once, one does."""
    others = [shared_daemon.connect() for _ in range(6)]
    waiting = [other.send("chat/create", {"chat_id": "contested"}) for other in others]
    answers = [other.wait_reply(number) for other, number in zip(others, waiting, strict=True)]
    for other in others:
        other.close()
    assert [answer["created"] for answer in answers].count(True) == 1
    assert {answer["chat"]["id"] for answer in answers} == {"contested"}


def test_a_chat_names_its_runs(wire: Wire):
    """active_run_id is the chat's active run or null, last_run_id its newest."""
    run = start_endless(wire, chat_id="named")
    chat = wire.call("chat/get", chat_id="named")["chat"]
    assert (chat["active_run_id"], chat["last_run_id"]) == (run["id"], run["id"])
    stop(wire, run["id"])
    chat = wire.call("chat/get", chat_id="named")["chat"]
    assert (chat["active_run_id"], chat["last_run_id"]) == (None, run["id"])


@pytest.mark.parametrize("method", ["chat/get", "chat/messages"])
def test_a_chat_that_is_not_there(wire: Wire, method):
    """A chat that nobody made is not found."""
    error = wire.refuse(method, chat_id="no-such-chat")
    assert (error.code, error.type) == (404, "not_found")


@pytest.mark.parametrize(("params", "code", "path"), [
    ({"chat_id": "a b"}, -32602, "$.chat_id"), ({"workspace": ""}, -32602, "$.workspace"),
    ({"workspace": "x" * 65}, -32602, "$.workspace"), ({"title": 1}, -32602, "$.title"),
    ({"title": "x" * 5000}, -32602, "$.title"), ({"metadata": []}, -32602, "$.metadata"),
    ({"metadata": {"a": "x" * 20_000}}, 413, "$.metadata"),
])  # fmt: skip
def test_a_faulty_chat_is_refused(wire: Wire, params, code, path):
    """A wrong id, workspace, title or metadata is refused under its path, and no chat is made."""
    error = wire.refuse("chat/create", **{"chat_id": "faulty", **params})
    assert (error.code, error.data["path"]) == (code, path)
    assert wire.refuse("chat/get", chat_id="faulty").type == "not_found"


# ---------------------------------------------------------------- chat/list


def test_the_most_recently_active_comes_first(wire: Wire):
    """Chats are listed by their last start, and a start moves its chat to the front."""
    for chat_id in ("a", "b", "c"):
        perform(wire, workspace="recent", chat_id=chat_id)
    perform(wire, workspace="recent", chat_id="a")
    chats = wire.call("chat/list", workspace="recent")["chats"]
    assert [chat["id"] for chat in chats] == ["a", "c", "b"]
    assert chats[0] == wire.call("chat/get", workspace="recent", chat_id="a")["chat"]


@pytest.mark.parametrize("limit", [1, 2, 5, 7])
def test_pages_hold_every_chat_once(wire: Wire, limit):
    """Page by page every chat comes once, in order."""
    workspace = f"pages-{limit}"
    for number in range(5):
        wire.call("chat/create", workspace=workspace, chat_id=f"c{number}")
    chats = list_all(wire, "chat/list", "chats", workspace=workspace, limit=limit)
    assert [chat["id"] for chat in chats] == ["c4", "c3", "c2", "c1", "c0"]


def test_chats_of_all_workspaces(wire: Wire):
    """Without a workspace the chats of all that the peer may use are listed, the same id once for each."""
    wire.call("chat/create", chat_id="twin", workspace="one")
    wire.call("chat/create", chat_id="twin", workspace="two")
    chats = wire.call("chat/list", limit=2)["chats"]
    assert [(chat["workspace"], chat["id"]) for chat in chats] == [("two", "twin"), ("one", "twin")]


@pytest.mark.parametrize("method", ["chat/list", "chat/messages", "run/list"])
@pytest.mark.parametrize("limit", [0, -1, 201, "5", 1.5, True])
def test_a_page_has_1_to_200_rows(wire: Wire, method, limit):
    """A limit out of range, or of another type, is refused under its path."""
    params = {"chat_id": "any"} if method == "chat/messages" else {}
    error = wire.refuse(method, limit=limit, **params)
    assert (error.code, error.data["path"]) == (-32602, "$.limit")


# ---------------------------------------------------------------- chat/messages


def test_messages_come_oldest_first(wire: Wire):
    """A chat's messages are in the order in which they were said, with rising positions."""
    runs = [perform(wire, chat_id="talk", input=f"say {number}") for number in range(3)]
    messages = wire.call("chat/messages", chat_id="talk")["messages"]
    positions = [message["position"] for message in messages]
    assert positions == sorted(set(positions))
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3
    assert [message["run_id"] for message in messages] == [run["id"] for run in runs for _ in range(2)]
    assert {message["status"] for message in messages} == {"completed"}


@pytest.mark.parametrize("limit", [1, 3, 6])
def test_pages_hold_every_message_once(wire: Wire, limit):
    """Page by page every message comes once, in order."""
    chat_id = f"pages-{limit}"
    for number in range(3):
        perform(wire, chat_id=chat_id, input=str(number))
    messages = list_all(wire, "chat/messages", "messages", chat_id=chat_id, limit=limit)
    assert [message["content"] for message in messages] == ["0", "0", "1", "1", "2", "2"]


def test_a_message_that_is_being_written(wire: Wire):
    """The users message is completed at once, the assistant's shows what was said so far, as run/get does."""
    run = start_endless(wire, chat_id="written", input="first second")
    user, assistant = wire.call("chat/messages", chat_id="written")["messages"]
    assert (user["role"], user["status"], user["content"]) == ("user", "completed", "first second")
    assert user["parts"] == [{"type": "text", "text": "first second"}]
    assert (assistant["status"], assistant["content"]) == ("streaming", "first ")
    assert assistant["id"] == run["message_id"]
    assert assistant == wire.call("run/get", run_id=run["id"])["message"]


def test_a_chat_without_messages(wire: Wire):
    """A chat in which nothing was said has an empty page."""
    wire.call("chat/create", chat_id="silent")
    assert wire.call("chat/messages", chat_id="silent") == {"messages": [], "next_cursor": None}


def test_messages_of_a_start_are_there_with_its_reply(wire: Wire):
    """At the moment of the reply to run/start both of its messages can be read."""
    run = start(wire, chat_id="both")
    assert len(wire.call("chat/messages", chat_id="both")["messages"]) == 2
    settle(wire, run["id"])
