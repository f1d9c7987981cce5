"""The command line against a scripted daemon: what is printed where, and the exit codes."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from outlive import errors, wire
from tests.support.command_line import CommandLine
from tests.support.scripted_daemon import (
    RUN_ID,
    ScriptedDaemon,
    a_message,
    a_run,
    an_info,
    playing,
    script,
    some_stats,
    telling,
)

SHORT = RUN_ID[-8:]


def settled(status, error=None):
    return ("run.settled", {"status": status, "error": error, "stop_requested_at": None, "stop_reason": None})


HELLO = [
    ("run.created", {}),
    ("text.delta", {"text": "hello "}),
    ("log", {"stream": "stderr", "text": "a log\n"}),
    ("text.delta", {"text": "wörld"}),
    settled("succeeded"),
]


@pytest.fixture
def outlive(tmp_path):
    return CommandLine(tmp_path)


def started(created=True):
    return wire.RunStarted(a_run(), created)


def daemon(outlive, **answers):
    return ScriptedDaemon(outlive.socket, script(**answers))


def test_run_follows_to_the_end(outlive):
    """A run's text goes to stdout as it is, its log to stderr, and its end is the exit code."""
    with daemon(outlive, run_start=started(), run_tail=telling(HELLO)) as there:
        done = outlive.run("run", "--agent", "demo", "hi")
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello wörld", "a log\n")
        (params,) = there.asked("run/start")
        assert len(params.pop("idempotency_key")) > 20
        assert params == {"agent": "demo", "input": "hi"}


def test_command_is_sent_with_its_place(outlive, tmp_path):
    """A command is sent as it was typed, with the current directory and the options given."""
    with daemon(outlive, run_start=started(), run_tail=telling(HELLO)) as there:
        outlive.run(
            *("run", "--chat", "c1", "--workspace", "w", "--on-active", "join", "--key", "k", "--attached"),
            *("--metadata", '{"a":1}', "--env", "A=b=c", "--env", "HOME", "--", "sh", "-c", "--json", "--"),
            cwd=tmp_path,
        )
        assert there.asked("run/start") == [
            {
                "command": ["sh", "-c", "--json", "--"],
                "cwd": str(tmp_path),
                "chat_id": "c1",
                "workspace": "w",
                "on_active": "join",
                "idempotency_key": "k",
                "detached": False,
                "metadata": {"a": 1},
                "env": {"A": "b=c", "HOME": str(tmp_path)},
            }
        ]


def test_resume_is_asked_for(outlive):
    """With --resume the run is started as one that goes on after its daemon."""
    with daemon(outlive, run_start=started()) as there:
        assert outlive.run("run", "-d", "--resume", "--agent", "demo").returncode == 0
        assert there.asked("run/start")[0]["on_owner_loss"] == "resume"


@pytest.mark.parametrize(
    ("arguments", "piped", "sent"),
    [
        (["--agent", "demo"], "from a pipe\n", "from a pipe\n"),
        (["--agent", "demo", "-"], "from a pipe\n", "from a pipe\n"),
        (["--agent", "demo", "words"], "from a pipe\n", "words"),
        (["--agent", "demo", ""], "from a pipe\n", ""),
        (["--agent", "demo"], None, ""),
        (["--", "cat"], "from a pipe\n", "from a pipe\n"),
        (["words", "--", "cat"], "from a pipe\n", "words"),
    ],
)
def test_input_is_the_argument_or_a_pipe(outlive, arguments, piped, sent):
    """The input is the argument if there is one, else a pipe's content, else nothing."""
    with daemon(outlive, run_start=started()) as there:
        assert outlive.run("run", "-d", *arguments, text=piped).returncode == 0
        assert there.asked("run/start")[0].get("input", "") == sent


def test_open_socket_as_stdin_is_not_waited_for(outlive):
    """A stdin that may never end because it is a socket is not read."""
    ours, theirs = socket.socketpair()
    with daemon(outlive, run_start=started()), ours, theirs:
        assert outlive.run("run", "-d", "--agent", "demo", stdin=ours).returncode == 0


def test_detached_run_prints_its_id(outlive):
    """With --detach stdout holds the id alone, for a script to keep."""
    with daemon(outlive, run_start=started()):
        done = outlive.run("run", "-d", "--agent", "demo")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{RUN_ID}\n", "")


@pytest.mark.parametrize(
    ("status", "code", "error", "said"),
    [
        ("succeeded", 0, None, ""),
        (
            "failed",
            1,
            {"code": "exit_status", "message": "exit status 3"},
            f"run {SHORT} failed: exit status 3",
        ),
        ("aborted", 3, None, f"run {SHORT} was stopped"),
        (
            "aborted",
            3,
            {"code": "owner_lost", "message": "its daemon died"},
            f"run {SHORT} aborted: its daemon died",
        ),
    ],
)
def test_end_of_a_run_is_the_exit_code(outlive, status, code, error, said):
    """Following a run ends with the code of how it ended, and says what went wrong."""
    with daemon(outlive, run_tail=telling([settled(status, error)])):
        done = outlive.run("tail", RUN_ID)
        assert done.returncode == code
        assert done.stderr == (f"outlive: {said}\n" if said else "")


def test_tail_after_the_end_asks_how_it_ended(outlive):
    """Where run.settled lies before the cursor, the run itself says how it ended."""
    found = wire.RunFound(a_run(status="failed", error={"code": "signal", "message": "killed"}), a_message())
    with daemon(outlive, run_tail=telling(HELLO), run_get=found):
        done = outlive.run("tail", RUN_ID, "--after", str(len(HELLO)))
        assert (done.returncode, done.stdout) == (1, "")


def test_tail_without_following_ends_when_it_has_caught_up(outlive):
    """--no-follow ends a tail of a run that goes on, without an error."""
    with daemon(
        outlive, run_tail=telling(HELLO[:2], "caught_up"), run_get=wire.RunFound(a_run(), a_message())
    ) as there:
        done = outlive.run("tail", "--no-follow", RUN_ID)
        assert (done.returncode, done.stdout) == (0, "hello ")
        assert there.asked("run/tail") == [{"run_id": RUN_ID, "after_seq": 0, "follow": False}]


def test_json_is_one_value_per_line(outlive):
    """With --json every line of stdout is a JSON value, whatever the text in it."""
    with daemon(outlive, run_start=started(), run_tail=telling(HELLO)):
        done = outlive.run("run", "--json", "--agent", "demo")
        first, *events = map(json.loads, done.stdout.splitlines())
        assert (first["run"]["id"], first["created"]) == (RUN_ID, True)
        assert [(event["seq"], event["type"]) for event in events] == [
            (seq, kind) for seq, (kind, _) in enumerate(HELLO, start=1)
        ]


def test_interrupt_leaves_the_run_alone(outlive):
    """Ctrl-C ends the following with status 0, says how to return, and stops nothing."""

    def endless(conversation, request):
        conversation.reply(request, wire.RunTailed("s1", a_run(), None, 0))
        conversation.event(1, "text.delta", {"text": "begun\n"})

    with daemon(outlive, run_start=started(), run_tail=endless) as there:
        with outlive.start("run", "--agent", "demo") as process:
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        assert process.returncode == 0
        assert out == ""
        assert err == f"outlive: detached, the run goes on; return with: outlive tail {SHORT}\n"
        assert there.asked("run/stop") == []


def test_reader_that_goes_away_ends_quietly(outlive):
    """| head -1 ends the command without a word."""

    def endless(conversation, request):
        conversation.reply(request, wire.RunTailed("s1", a_run(), None, 0))
        for seq in range(1, 100_000):
            conversation.event(seq, "text.delta", {"text": f"line {seq}\n"})

    with daemon(outlive, run_tail=endless), outlive.start("tail", RUN_ID) as process:
        assert process.stdout.readline() == "line 1\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 141


def test_terminal_gets_whole_lines(outlive):
    """At a terminal a text without a last newline is ended before the last word; nothing is added in a pipe."""
    main, terminal = pty.openpty()
    outlive.environment["TERM"] = "dumb"
    with daemon(outlive, run_tail=telling(HELLO)):
        process = outlive.start("tail", RUN_ID, stdout=terminal, stderr=terminal)
        os.close(terminal)
        text = b""
        while chunk := read(main):
            text += chunk
        assert process.wait(20) == 0
    os.close(main)
    assert text.decode() == f"hello a log\r\nwörld\r\noutlive: run {SHORT} succeeded\r\n"


def read(descriptor):
    """The next bytes of a terminal; none when its other side is closed."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_lost_daemon_is_said_and_survived(outlive):
    """A tail that loses its daemon says so on stderr and goes on without repeating."""

    def once(conversation, request):
        answers["run_tail"] = telling(HELLO)
        conversation.reply(request, wire.RunTailed("s1", a_run(), None, 0))
        for seq, (kind, data) in enumerate(HELLO[:2], start=1):
            conversation.event(seq, kind, data)
        conversation.close()

    answers = {"run_tail": once}
    with ScriptedDaemon(outlive.socket, playing(answers)):
        done = outlive.run("tail", RUN_ID)
    assert (done.returncode, done.stdout) == (0, "hello wörld")
    lost, again, log = done.stderr.splitlines()
    assert "lost the connection" in lost
    assert again == "outlive: connected again, going on after event 2"
    assert log == "a log"


@pytest.mark.parametrize(
    "arguments",
    [["stop"], ["wait"], ["show"], ["list"], ["chats"], ["messages"], ["info"], ["info", "--stats"]],
)
def test_every_command_has_json(outlive, arguments):
    """Each command prints JSON lines and nothing else when asked to."""
    chat = wire.Chat("c1", "default", None, {}, None, None, a_run().created_at, a_run().created_at)
    run, message = a_run(status="succeeded"), a_message()
    answers = {
        "run_stop": wire.RunStopped("stopped", run),
        "run_wait": wire.RunWaited(run, message, True),
        "run_get": wire.RunFound(run, message),
        "run_list": wire.RunPage([run], None),
        "chat_list": wire.ChatPage([chat], None),
        "chat_messages": wire.MessagePage([message], None),
        "server_info": an_info(),
        "server_stats": some_stats(),
    }
    operands = {"messages": ["c1"], "stop": [RUN_ID], "wait": [RUN_ID], "show": ["@last"]}.get(
        arguments[0], []
    )
    with daemon(outlive, **answers):
        done = outlive.run(*arguments, *operands, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert [isinstance(json.loads(line), dict) for line in done.stdout.splitlines()] == [True]
        plain = outlive.run(*arguments, *operands)
        assert plain.returncode == 0
        assert "{" not in plain.stdout.splitlines()[0]


def test_older_daemon_has_no_figures(outlive):
    """``info`` of a daemon that keeps no figures shows the rest; only --stats fails, and says why."""
    with daemon(outlive, server_info=an_info(), server_stats=errors.MethodNotFound("cannot find it")):
        done = outlive.run("info")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1].startswith("demo")
        assert outlive.run("info", "--stats").returncode == 1


def test_wait_for_several_runs(outlive):
    """``wait`` prints each run as it settles and ends with the worst code; --any ends with the first."""
    ids = [RUN_ID[:-1] + digit for digit in "012"]
    statuses = dict(zip(ids, ["succeeded", "aborted", "failed"], strict=True))

    def answer(conversation, request):
        run_id = request["params"]["run_id"]
        conversation.reply(request, wire.RunWaited(a_run(run_id, status=statuses[run_id]), a_message(), True))

    def only_the_second(conversation, request):
        if request["params"]["run_id"] == ids[1]:
            answer(conversation, request)

    def the_second_after_a_timeout(conversation, request):
        if request["params"]["run_id"] == ids[0]:
            conversation.reply(request, wire.RunWaited(a_run(ids[0]), a_message(), False))
        only_the_second(conversation, request)

    with daemon(outlive, run_wait=answer):
        done = outlive.run("wait", *ids)
        assert done.returncode == 1
        assert sorted(done.stdout.splitlines()) == [f"{run_id} {statuses[run_id]}" for run_id in ids]
    with daemon(outlive, run_wait=only_the_second):
        done = outlive.run("wait", "--any", *ids)
        assert (done.returncode, done.stdout) == (3, f"{ids[1]} aborted\n")
    with daemon(outlive, run_wait=the_second_after_a_timeout):
        done = outlive.run("wait", "--any", "--timeout", "9", *ids)
        assert (done.returncode, done.stdout) == (3, f"{ids[1]} aborted\n")


@pytest.mark.parametrize(("status", "code"), [("running", 124), ("waiting", 4)])
def test_wait_that_times_out_says_why(outlive, status, code):
    """A wait that ends too early is 124, or 4 for a run that waits for a person."""
    with daemon(outlive, run_wait=wire.RunWaited(a_run(status=status), a_message(), False)) as there:
        assert outlive.run("wait", RUN_ID, "--timeout", "0.5").returncode == code
        assert 0 <= there.asked("run/wait")[0]["timeout_seconds"] <= 0.5


@pytest.mark.parametrize("name", ["@last", "2B7D10", "1f3a", "0190c5a2", "0190c5a2-7b", RUN_ID.upper()])
def test_run_is_found_by_a_piece_of_its_id(outlive, name):
    """@last, the front, the end, and the start of the random group all mean the run."""
    others = [a_run(f"0190b{number:03x}-7b1e-7cc3-9a54-0000000{number:05x}") for number in range(300)]
    pages = {None: wire.RunPage([a_run(), *others[:199]], "p2"), "p2": wire.RunPage(others[199:], None)}

    def page(conversation, request):
        conversation.reply(request, pages[request["params"].get("cursor")])

    with daemon(outlive, run_list=page, run_get=wire.RunFound(a_run(), a_message())) as there:
        assert outlive.run("show", name).returncode == 0
        assert there.asked("run/get") == [{"run_id": RUN_ID}]


@pytest.mark.parametrize(
    ("name", "said"),
    [("abc", "4 or more"), ("run1", "4 or more"), ("ffff", "among the 1000 newest"), ("0190", "2 match")],
)
def test_unclear_run_is_refused(outlive, name, said):
    """A piece that is too short, fits nothing or fits several is a usage error that says so."""
    page = wire.RunPage([a_run(), a_run(RUN_ID[:-1] + "1")], None)
    with daemon(outlive, run_list=page):
        done = outlive.run("stop", name)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run"],
        ["run", "--agent", "a", "--", "b"],
        ["run", "--"],
        ["run", "--agent", "a", "--metadata", "{"],
        ["run", "--agent", "a", "--metadata", "[]"],
        ["run", "--agent", "a", "--env", "NO_SUCH_VARIABLE"],
        ["run", "--agent", "a", "--env", "=x"],
        ["run", "--agent", "a", "--detach", "--attached"],
        ["run", "--agent", "a", "--resume", "--attached"],
        ["run", "--ag", "a"],
        ["tail"],
        ["tail", RUN_ID, "--after", "-1"],
        ["wait", RUN_ID, "--timeout", "nan"],
        ["stop"],
        ["list", "--limit", "0"],
        ["list", "--status", "lost"],
        ["list", "--socket", "/" + "x" * 200],
        ["daemon"],
    ],
)
def test_wrong_use_is_one_line_and_status_2(outlive, arguments):
    """A command line that makes no sense is answered by one line on stderr and status 2."""
    with daemon(outlive):
        done = outlive.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("outlive: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.RunActive("cannot start: chat c1 is busy", active_run_id=RUN_ID), 1, "--on-active join"),
        (errors.InvalidParams("cannot find agent", path="$.agent"), 2, "cannot find agent"),
        (errors.Forbidden("cannot run commands"), 2, "cannot run commands"),
        (errors.AgentUnavailable("cannot start demo"), 1, "cannot start demo"),
        (errors.MethodNotFound("cannot do that"), 1, "outlive info"),
        (errors.InternalError("cannot go on\nTraceback"), 1, "cannot go on Traceback"),
    ],
)
def test_daemons_errors_are_one_line(outlive, error, code, said):
    """What the daemon refuses is one line that says what to do."""
    with daemon(outlive, run_start=error):
        done = outlive.run("run", "--agent", "demo")
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["run", "--agent", "a"], ["list"], ["daemon", "status"], ["daemon", "stop"]]
)
def test_unreachable_daemon_is_69(outlive, arguments):
    """Where nobody is, one line says so, and how to start a daemon."""
    done = outlive.run(*arguments)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == (
        f"outlive: cannot reach a daemon at {outlive.socket}: No such file or directory; "
        "start one with: outlive daemon start\n"
    )


@pytest.mark.parametrize("argument", [b"\xff", b"a\x01b"])
def test_arguments_that_cannot_be_sent_are_refused_or_sent(outlive, argument):
    """A byte that is no UTF-8 is refused in one line; a control character is no trouble."""
    with daemon(outlive, run_start=started()):
        done = outlive.run("run", "-d", "--agent", "demo", os.fsdecode(argument))
    assert done.returncode == (2 if argument == b"\xff" else 0)
    assert "Traceback" not in done.stderr


def test_closed_streams_do_no_harm(outlive):
    """A caller that closed stdout and stderr gets the exit code all the same."""
    with daemon(outlive, run_tail=telling([*HELLO[:-1], settled("failed", {"code": "x", "message": "y"})])):
        shell = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *outlive.argv, "tail", RUN_ID]
        assert subprocess.run(shell, env=outlive.environment, check=False, timeout=20).returncode == 1


def test_full_disk_is_one_line(outlive):
    """A stdout that takes nothing more is an error, not a traceback."""
    with daemon(outlive, run_tail=telling(HELLO)), Path("/dev/full").open("w") as full:
        done = outlive.run("tail", RUN_ID, stdout=full)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_list_pages_up_to_the_limit(outlive):
    """``list`` fetches as many pages as its limit needs, and no more."""
    runs = [a_run(f"0190b{number:03x}-7b1e-7cc3-9a54-0000000{number:05x}") for number in range(300)]

    def page(conversation, request):
        start = int(request["params"].get("cursor", 0))
        stop = start + request["params"].get("limit", 50)
        conversation.reply(request, wire.RunPage(runs[start:stop], str(stop) if stop < 300 else None))

    with daemon(outlive, run_list=page):
        done = outlive.run("list", "--limit", "250")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [run.id[-8:] for run in runs[:250]]
