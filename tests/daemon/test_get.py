"""``run/get``, ``run/latest``, ``run/list``: what is so, as anyone may read it."""

import pytest

from tests.support.daemon import Daemon
from tests.support.runs import (
    ENDLESS,
    NO_RUN,
    TIME,
    perform,
    start,
    start_endless,
    start_shell,
    stop,
    wait_text,
)
from tests.support.wire import Json, Wire

MESSAGE_FIELDS = {
    "id", "chat_id", "run_id", "position", "role", "status", "content", "truncated", "parts", "created_at", "updated_at",
}  # fmt: skip
MALFORMED_IDS = [
    "",
    "x",
    NO_RUN.upper(),
    NO_RUN.replace("-", ""),
    NO_RUN + "\n",
    f"{{{NO_RUN}}}",
    7,
    None,
    [NO_RUN],
]


def list_ids(wire: Wire, **params) -> list[str]:
    return [run["id"] for run in wire.call("run/list", **params)["runs"]]


def list_all(wire: Wire, **params) -> list[Json]:
    """Every run, page by page."""
    page = wire.call("run/list", **params)
    runs = page["runs"]
    while page["next_cursor"] is not None:
        page = wire.call("run/list", cursor=page["next_cursor"], **params)
        runs += page["runs"]
    return runs


# ---------------------------------------------------------------- run/get


def test_get_returns_run_and_message(wire: Wire):
    """A settled run comes with its assistant message, complete."""
    run = perform(wire, input="hello world", chat_id="complete")
    answer = wire.call("run/get", run_id=run["id"])
    message = answer["message"]
    assert answer["run"] == run
    assert message.keys() >= MESSAGE_FIELDS
    assert (message["id"], message["run_id"], message["chat_id"]) == (
        run["message_id"],
        run["id"],
        "complete",
    )
    assert (message["role"], message["status"], message["truncated"]) == ("assistant", "completed", False)
    assert message["content"] == "hello world"
    assert message["parts"] == [{"type": "text", "text": "hello world"}]
    assert message["position"] > run["position"]
    assert TIME.fullmatch(message["created_at"])


def test_get_shows_what_was_said_so_far(wire: Wire):
    """While a run speaks its message is streaming and holds what was said up to the run's last event."""
    run = start_endless(wire, input="first second")
    answer = wire.call("run/get", run_id=run["id"])
    assert answer["run"]["status"] == "running"
    assert TIME.fullmatch(answer["run"]["started_at"])
    assert (answer["message"]["status"], answer["message"]["content"]) == ("streaming", "first ")


def test_get_of_a_run_that_is_not_there(wire: Wire):
    """A well-formed id that nobody has is not found."""
    error = wire.refuse("run/get", run_id=NO_RUN)
    assert (error.code, error.type, error.data["retryable"]) == (404, "not_found", False)


@pytest.mark.parametrize("method", ["run/get", "run/stop", "run/wait", "run/tail"])
@pytest.mark.parametrize("run_id", MALFORMED_IDS)
def test_a_malformed_id_is_refused(wire: Wire, method, run_id):
    """An id that is no lower-case UUID is an invalid parameter, for every method that takes one."""
    error = wire.refuse(method, run_id=run_id)
    assert (error.code, error.type, error.data["path"]) == (-32602, "invalid_params", "$.run_id")


@pytest.mark.parametrize(("script", "run_status", "message_status"), [
    ("echo fine", "succeeded", "completed"), ("echo broken; exit 3", "failed", "failed"),
])  # fmt: skip
def test_the_message_ends_as_its_run(wire: Wire, script, run_status, message_status):
    """A message's status agrees with its run's."""
    run = perform(wire, command=["sh", "-c", script])
    message = wire.call("run/get", run_id=run["id"])["message"]
    assert (run["status"], message["status"]) == (run_status, message_status)


# ---------------------------------------------------------------- run/latest


def test_latest_of_a_chat_without_runs(wire: Wire):
    """A chat that is not there, or that has no run, answers nulls."""
    wire.call("chat/create", chat_id="no-runs")
    for chat_id in ("no-runs", "no-such-chat"):
        assert wire.call("run/latest", chat_id=chat_id) == {"run": None, "message": None}


def test_latest_is_the_newest_run(wire: Wire):
    """The newest run of a chat is shown with its message, settled or not."""
    perform(wire, chat_id="newest", input="old")
    run = start_endless(wire, chat_id="newest", input="first second")
    answer = wire.call("run/latest", chat_id="newest")
    assert answer["run"]["id"] == run["id"]
    assert (answer["message"]["run_id"], answer["message"]["content"]) == (run["id"], "first ")


# ---------------------------------------------------------------- run/list


def test_list_is_newest_first(wire: Wire):
    """Runs come newest first."""
    ids = [perform(wire, chat_id="listed")["id"] for _ in range(4)]
    answer = wire.call("run/list", chat_id="listed")
    assert [run["id"] for run in answer["runs"]] == ids[::-1]
    assert answer["next_cursor"] is None
    assert answer["runs"][0] == wire.call("run/get", run_id=ids[-1])["run"]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 200])
def test_pages_hold_every_run_once(wire: Wire, limit):
    """Page by page every run comes exactly once, in order, whatever the page's size."""
    workspace = f"paged-{limit}"
    ids = [start(wire, workspace=workspace)["id"] for _ in range(5)]
    assert [run["id"] for run in list_all(wire, workspace=workspace, limit=limit)] == ids[::-1]


def test_a_page_is_full_and_the_last_one_says_so(wire: Wire):
    """next_cursor is null exactly when nothing follows, also where the last page is full."""
    for _ in range(4):
        start(wire, workspace="full")
    first = wire.call("run/list", workspace="full", limit=2)
    second = wire.call("run/list", workspace="full", limit=2, cursor=first["next_cursor"])
    assert (len(first["runs"]), len(second["runs"]), second["next_cursor"]) == (2, 2, None)


def test_new_runs_do_not_shift_a_page(wire: Wire):
    """Runs that start while somebody pages neither repeat nor hide an older one."""
    ids = [start(wire, workspace="shifted")["id"] for _ in range(4)]
    page = wire.call("run/list", workspace="shifted", limit=2)
    start(wire, workspace="shifted")
    rest = wire.call("run/list", workspace="shifted", limit=2, cursor=page["next_cursor"])
    assert [run["id"] for run in page["runs"] + rest["runs"]] == ids[::-1]


def test_a_page_has_fifty_by_default(wire: Wire):
    """Without a limit a page has 50 runs."""
    waiting = [wire.send("run/start", {"agent": "demo", "workspace": "fifty"}) for _ in range(51)]
    for request_id in waiting:
        wire.wait_reply(request_id)
    assert len(wire.call("run/list", workspace="fifty")["runs"]) == 50
    assert len(list_all(wire, workspace="fifty")) == 51


def test_filters_are_combined(wire: Wire):
    """workspace, chat, status and agent each leave out the others, and together all of them."""
    done = perform(wire, workspace="filters", chat_id="a", input="x")["id"]
    failed = perform(wire, workspace="filters", chat_id="a", command=["false"])["id"]
    active = start_endless(wire, workspace="filters", chat_id="b")["id"]

    def found(**params) -> list[str]:
        return list_ids(wire, workspace="filters", **params)

    assert found() == [active, failed, done]
    assert found(chat_id="a") == [failed, done]
    assert found(status=["succeeded"]) == [done]
    assert found(status=["failed", "running"]) == [active, failed]
    assert found(agent="demo") == [active, done]
    assert found(agent="demo", status=["succeeded", "failed"], chat_id="a") == [done]
    assert found(chat_id="b", status=["failed"]) == []
    assert found(agent="nobody") == []
    assert found(status=["queued", "pending", "waiting", "aborted"]) == []
    assert found(status=[]) == []


def test_a_chat_without_workspace_is_the_default_ones(wire: Wire):
    """A list by chat_id alone looks into the workspace default; without chat_id, into all."""
    here = perform(wire, chat_id="twin")["id"]
    there = perform(wire, chat_id="twin", workspace="elsewhere")["id"]
    assert list_ids(wire, chat_id="twin") == [here]
    assert list_ids(wire, limit=2) == [there, here]


def test_the_list_of_an_unknown_chat_is_empty(wire: Wire):
    """A chat that is not there has no runs: that is no error."""
    assert wire.call("run/list", chat_id="no-such-chat") == {"runs": [], "next_cursor": None}


@pytest.mark.parametrize("cursor", ["", "x", "%%%", "ü", "W10", "WzFd", "WyJhIl0", "bnVsbA", "x" * 5000])
@pytest.mark.parametrize("method", ["run/list", "chat/list"])
def test_a_cursor_of_nobodys_is_refused(wire: Wire, method, cursor):
    """A cursor that this method has not given out is an invalid parameter."""
    error = wire.refuse(method, cursor=cursor)
    assert (error.code, error.type, error.data["path"]) == (-32602, "invalid_params", "$.cursor")


def test_a_cursor_of_another_method_is_refused(wire: Wire):
    """A page of runs does not go on as a page of chats, nor the other way round."""
    for _ in range(2):
        start(wire, workspace="cursors")
    runs = wire.call("run/list", workspace="cursors", limit=1)["next_cursor"]
    chats = wire.call("chat/list", workspace="cursors", limit=1)["next_cursor"]
    assert wire.refuse("chat/list", cursor=runs).data["path"] == "$.cursor"
    assert wire.refuse("run/list", cursor=chats).data["path"] == "$.cursor"


def test_a_stopped_run_is_found_as_aborted(shared_daemon: Daemon, wire: Wire):
    """What one connection stopped another one reads as aborted, the text kept."""
    run = start_shell(wire, "echo kept; sleep 60", workspace="aborted")
    wait_text(wire, run["id"], "kept\n")
    stop(wire, run["id"])
    with shared_daemon.connect() as other:
        assert list_ids(other, workspace="aborted", status=["aborted"]) == [run["id"]]
        message = other.call("run/get", run_id=run["id"])["message"]
    assert (message["status"], message["content"]) == ("aborted", "kept\n")


def test_metadata_is_kept_as_it_was_sent(wire: Wire):
    """Any JSON object comes back equal, from each of the methods."""
    metadata = {
        "demo": ENDLESS["demo"],
        "a": [1, 1.5, -0.0, 1e300, None, True, {"ü\u2028": "\x7f😀"}],
        "b": {},
    }
    run = start(wire, chat_id="kept", metadata=metadata)
    assert wire.call("run/get", run_id=run["id"])["run"]["metadata"] == metadata
    assert wire.call("run/latest", chat_id="kept")["run"]["metadata"] == metadata
    assert wire.call("run/list", chat_id="kept")["runs"][0]["metadata"] == metadata


@pytest.mark.parametrize("method", ["run/list", "chat/list", "chat/messages"])
def test_a_damaged_cursor_does_no_harm(wire: Wire, method):
    """A cursor with one character changed gives a page or is refused under its path, and nothing else."""
    for _ in range(2):
        perform(wire, workspace="damaged", chat_id="same")
        perform(wire, workspace="damaged", chat_id="other")
    params = {
        "workspace": "damaged",
        "limit": 1,
        **({"chat_id": "same"} if method == "chat/messages" else {}),
    }
    cursor = wire.call(method, **params)["next_cursor"]
    for place in range(len(cursor)):
        for sign in "Aaz9_":
            damaged = cursor[:place] + sign + cursor[place + 1 :]
            answer = wire.wait_line(wire.send(method, {**params, "cursor": damaged}))
            if "error" in answer:
                data = answer["error"]["data"]
                assert (data["type"], data["path"]) == ("invalid_params", "$.cursor"), damaged
