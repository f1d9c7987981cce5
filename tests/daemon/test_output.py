"""What a command says, and what it is given: stdin, stdout, stderr, environment, directory, exit."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.daemon import Daemon
from tests.support.history import assert_history
from tests.support.homes import CONFIG, end_cleanly, make_home
from tests.support.processes import is_alive
from tests.support.runs import perform, read_logged, read_text, settle, start, start_shell, wait_text
from tests.support.wire import Json, Wire

MAX_DATA = 256 << 10
SMALL = 1024

STRANGE_BYTES = {
    "a NUL": b"a\0b",
    "only NULs": b"\0" * 5000,
    "no UTF-8 at all": b"\xff\xfe\xfd",
    "a lone continuation": b"x\x80y",
    "an overlong slash": b"x\xc0\xafy",
    "a surrogate": b"x\xed\xa0\x80y",
    "beyond Unicode": b"x\xf4\x90\x80\x80y",
    "a character cut by another": b"x\xe2\x82y",
    "a character cut at the end": b"x\xf0\x9f\x98",
    "every byte": bytes(range(256)),
    "noise": random.Random(7).randbytes(20_000),
}
STRANGE_TEXTS = {
    "nothing": "",
    "no newline": "x",
    "line ends": "a\r\nb\rc\n\n",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "a byte order mark": "\ufeffx\ufeff",
    "no characters": "\ufffd\ufffe\uffff\U0010ffff",
    "JSON": '{"a": "\\u0000\\n"}\\',
    "every width": "aä€😀" * 1000,
    "separators": "\u2028\u2029\u0085",
}


def clean(data: bytes) -> str:
    """What the contract makes of bytes: UTF-8, with U+FFFD for what is none and for NUL."""
    return data.decode(errors="replace").replace("\0", "\ufffd")


def say(*writes: tuple[int, bytes]) -> list[str]:
    """A program that writes these bytes to these descriptors, one write after another."""
    script = "import os\n" + "\n".join(
        f"os.write({fd}, bytes.fromhex('{data.hex()}'))" for fd, data in writes
    )
    return [sys.executable, "-I", "-S", "-c", script]


def read_all(wire: Wire, run_id: str) -> tuple[Json, Json, list[Json]]:
    """A settled run, its message, its log."""
    answer = wire.call("run/wait", run_id=run_id)
    return answer["run"], answer["message"], wire.tail(run_id)[0]


# ---------------------------------------------------------------- stdout, stderr


@pytest.mark.parametrize("text", STRANGE_TEXTS.values(), ids=STRANGE_TEXTS)
def test_text_goes_through_unchanged(wire: Wire, text):
    """Any text given to a program that repeats it comes back byte for byte, in the log and in the message."""
    run, message, events = read_all(wire, start(wire, command=["cat"], input=text)["id"])
    assert run["status"] == "succeeded"
    assert read_text(events) == message["content"] == text
    assert message["parts"] == ([{"type": "text", "text": text}] if text else [])


@pytest.mark.parametrize("data", STRANGE_BYTES.values(), ids=STRANGE_BYTES)
def test_bytes_that_are_no_text_are_replaced(wire: Wire, data):
    """Invalid UTF-8 and NUL become U+FFFD, on stdout and on stderr, and nothing else changes."""
    _, message, events = read_all(wire, start(wire, command=say((1, data), (2, data)))["id"])
    assert read_text(events) == message["content"] == clean(data)
    assert read_logged(events) == clean(data)


def test_a_character_in_two_writes_is_one(wire: Wire, tmp_path: Path):
    """A character whose bytes come one by one, each read on its own, is that character."""
    go = tmp_path / "go"
    script = (
        "import os, sys, time\n"
        "def wait(number):\n"
        "    while not os.path.exists(f'{sys.argv[1]}{number}'): time.sleep(0.005)\n"
        "for number, byte in enumerate('😀'.encode()):\n"
        "    os.write(1, str(number).encode() * (number == 0) + bytes([byte]))\n"
        "    os.write(2, b'.')\n"
        "    wait(number)\n"
    )
    run = start(wire, command=[sys.executable, "-I", "-S", "-c", script, str(go)])
    subscription = wire.call("run/tail", run_id=run["id"], after_seq=0)["subscription"]
    heard = 0
    while heard < 4:  # each dot says that the byte before it was written
        [event], _ = wire.read_tail(subscription, until=1)
        for _ in read_logged([event]):
            Path(f"{go}{heard}").touch()
            heard += 1
    _, message, events = read_all(wire, run["id"])
    assert read_text(events) == message["content"] == "0😀"


def test_output_is_live(wire: Wire, tmp_path: Path):
    """What a program has written is delivered while it goes on."""
    go = tmp_path / "go"
    run = start_shell(wire, f"echo early; while [ ! -e {go} ]; do sleep 0.01; done; echo late")
    wait_text(wire, run["id"], "early\n")
    go.touch()
    assert read_all(wire, run["id"])[1]["content"] == "early\nlate\n"


def test_stderr_is_logged(wire: Wire):
    """What goes to stderr becomes log events of the stream stderr, in order, and is no part of the message."""
    run = start_shell(wire, "echo answer; for i in 1 2 3; do echo complaint $i >&2; done")
    _, message, events = read_all(wire, run["id"])
    logged = [event for event in events if event["type"] == "log"]
    assert {event["data"]["stream"] for event in logged} == {"stderr"}
    assert read_logged(events) == "complaint 1\ncomplaint 2\ncomplaint 3\n"
    assert message["content"] == "answer\n"


# ---------------------------------------------------------------- sizes


def test_megabytes_are_whole(wire: Wire):
    """Some megabytes of output are whole in the log and, up to its cap, in the message."""
    run, message, events = read_all(wire, start_shell(wire, "seq 300000")["id"])
    expected = "".join(f"{number}\n" for number in range(1, 300_001))
    assert run["status"] == "succeeded"
    assert read_text(events) == expected
    assert (message["content"] == expected, message["truncated"]) == (True, False)


@pytest.mark.parametrize("sign", ["\x01", '"', "😀"])
def test_no_event_is_larger_than_256_kib(shared_daemon: Daemon, wire: Wire, sign):
    """However text has to be written down, no event's data is larger than 256 KiB, on stdout and on stderr."""
    size = 100_000
    script = f"import sys; t = {sign!r} * {size}; sys.stderr.write(t); sys.stdout.write(t)"
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", script]
    run, _, events = read_all(wire, start(wire, command=command)["id"])
    assert run["status"] == "succeeded"
    assert read_text(events) == read_logged(events) == sign * size
    assert shared_daemon.database is not None
    with psycopg.connect(shared_daemon.database) as connection:
        [largest] = connection.execute("SELECT max(octet_length(data)) FROM outlived.events").fetchone() or [
            0
        ]
    assert largest <= MAX_DATA


@pytest.fixture(scope="module")
def small_daemon(postgres, short_dir: Path) -> Iterator[Daemon]:
    """A daemon whose messages hold a kibibyte."""
    config = f"{CONFIG}\n[store]\nmax_message_bytes = {SMALL}\n"
    daemon = Daemon(make_home(short_dir), database=postgres.create_database(), config=config).start()
    yield daemon
    end_cleanly(daemon)
    assert daemon.database is not None
    assert_history(daemon.database, settled=True)


@pytest.mark.parametrize(("text", "kept", "truncated"), [
    ("x" * SMALL, "x" * SMALL, False), ("x" * (SMALL + 1), "x" * SMALL, True), ("ä" * 512, "ä" * 512, False),
    ("x" + "ä" * 512, "x" + "ä" * 511, True), ("€" * 500, "€" * 341, True), ("😀" * 20_000, "😀" * 256, True),
])  # fmt: skip
def test_a_message_is_cut_at_a_character(small_daemon: Daemon, text, kept, truncated):
    """Beyond its cap in bytes a message is cut at a character and says truncated; the log keeps all of it."""
    with small_daemon.connect() as wire:
        run, message, events = read_all(wire, start(wire, command=["cat"], input=text)["id"])
        assert (message["content"], message["truncated"]) == (kept, truncated)
        assert message["parts"] == [{"type": "text", "text": kept}]
        assert (message["status"], run["status"]) == ("completed", "succeeded")
        assert read_text(events) == text
        assert wire.call("chat/messages", chat_id=run["chat_id"])["messages"][1] == message


def test_a_long_message_is_cut_while_it_is_written(small_daemon: Daemon):
    """A snapshot of a run that has said too much is cut and says so, and so is its end."""
    with small_daemon.connect() as wire:
        run = start_shell(wire, "seq 1000; sleep 600")
        wait_text(wire, run["id"], "".join(f"{number}\n" for number in range(1, 1001)))
        message = wire.call("run/get", run_id=run["id"])["message"]
        assert (len(message["content"]), message["truncated"], message["status"]) == (
            SMALL,
            True,
            "streaming",
        )
        wire.call("run/stop", run_id=run["id"], wait_seconds=20)
        end = wire.call("run/get", run_id=run["id"])["message"]
        assert (end["content"], end["truncated"], end["status"]) == (message["content"], True, "aborted")


# ---------------------------------------------------------------- input


def test_stdin_is_the_input_and_then_its_end(wire: Wire):
    """A program reads the input as it was sent, then end of file."""
    run = start_shell(wire, "cat; echo '<end>'", input="line\nhalf a line")
    assert read_all(wire, run["id"])[1]["content"] == "line\nhalf a line<end>\n"


def test_no_input_is_end_of_file_at_once(wire: Wire):
    """Without an input a program that reads finds the end."""
    assert read_all(wire, start(wire, command=["wc", "-c"])["id"])[1]["content"].strip() == "0"


def test_a_large_input_arrives_whole(wire: Wire):
    """An input as large as a line allows is read whole, also while the program is answering."""
    text = "".join(f"{number}\n" for number in range(130_000))
    assert read_all(wire, start(wire, command=["cat"], input=text)["id"])[1]["content"] == text


def test_a_program_need_not_read(wire: Wire):
    """A program that ends without reading its large input has succeeded."""
    run = perform(wire, command=["true"], input="x" * 900_000)
    assert (run["status"], run["error"]) == ("succeeded", None)


# ---------------------------------------------------------------- environment, directory


def test_a_program_knows_its_run(wire: Wire):
    """Run, chat, workspace and attempt are in the environment, and nobody can set them otherwise."""
    names = ("OUTLIVE_RUN_ID", "OUTLIVE_CHAT_ID", "OUTLIVE_WORKSPACE", "OUTLIVE_ATTEMPT")
    script = "; ".join(f'echo "${name}"' for name in names)
    run = start_shell(wire, script, workspace="env", chat_id="a/b", env=dict.fromkeys(names, "forged"))
    assert read_all(wire, run["id"])[1]["content"].split() == [run["id"], "a/b", "env", "1"]


def test_given_variables_are_set(wire: Wire):
    """The variables of env add to and replace what the daemon has in its own environment."""
    given = {"GIVEN": "a b\n=ü😀'\"", "HOME": "/elsewhere", "EMPTY": ""}
    run = start_shell(wire, 'printf "%s|" "$GIVEN" "$HOME" "${EMPTY-unset}"; test -n "$PATH"', env=given)
    settled, message, _ = read_all(wire, run["id"])
    assert message["content"] == f"{given['GIVEN']}|/elsewhere||"
    assert settled["status"] == "succeeded"


def test_the_daemons_own_variables_are_its_own(wire: Wire):
    """A program sees no variable that is meant for the daemon, and no descriptor but its three."""
    _, message, _ = read_all(wire, start_shell(wire, "env; ls /proc/self/fd")["id"])
    names = {line.partition("=")[0] for line in message["content"].splitlines() if "=" in line}
    assert not {name for name in names if name.startswith(("OUTLIVED_", "PG", "LISTEN_", "NOTIFY_"))}
    assert {line for line in message["content"].splitlines() if line.isdigit()} <= {"0", "1", "2", "3"}


def test_a_program_runs_where_it_is_told(wire: Wire, tmp_path: Path):
    """A cwd is the program's directory, and a relative program is looked for there."""
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\npwd\n")
    tool.chmod(0o755)
    run = start(wire, command=["./tool"], cwd=str(tmp_path))
    assert read_all(wire, run["id"])[1]["content"] == f"{tmp_path}\n"


def test_a_configured_agent_has_its_place(wire: Wire):
    """A configured command has its directory and environment; what a start gives goes before that."""
    _, message, _ = read_all(wire, start(wire, agent="placed")["id"])
    assert message["content"] == "/\nby the file by the file"
    _, message, _ = read_all(wire, start(wire, agent="placed", env={"GIVEN": "by hand"}, cwd="/tmp")["id"])
    assert message["content"] == "/tmp\nby the file by hand"


# ---------------------------------------------------------------- how it ends


def test_a_command_is_one_step(wire: Wire):
    """A command that ended by itself has made one step, and its run says which argv it was."""
    run, _, events = read_all(wire, start(wire, command=["echo", "x"])["id"])
    assert (run["command"], run["agent"], run["step_count"]) == (["echo", "x"], None, 1)
    steps = [event["type"] for event in events if event["type"].startswith("step.")]
    assert steps == ["step.started", "step.finished"]


@pytest.mark.parametrize("status", [1, 2, 127, 255])
def test_an_exit_status_is_told(wire: Wire, status):
    """Another status than 0 fails the run, and is told."""
    run = perform(wire, command=["sh", "-c", f"echo said; exit {status}"])
    assert (run["status"], run["error"]["code"], run["error"]["exit_status"]) == (
        "failed",
        "exit_status",
        status,
    )
    assert isinstance(run["error"]["message"], str)


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_a_signal_is_told(wire: Wire, name):
    """A program that a signal ended, one not of ours, has failed, and the signal is told."""
    run = perform(wire, command=["sh", "-c", f"ulimit -c 0; kill -{name} $$"])
    assert (run["status"], run["error"]["code"], run["error"]["signal"]) == ("failed", "signal", f"SIG{name}")


def test_a_program_that_cannot_be_executed_fails_its_run(wire: Wire, tmp_path: Path):
    """A program that is there but cannot be executed fails its run as agent_unavailable."""
    tool = tmp_path / "tool"
    tool.write_text("#!/no/such/interpreter\n")
    tool.chmod(0o755)
    run = perform(wire, command=[str(tool)])
    assert (run["status"], run["error"]["code"]) == ("failed", "agent_unavailable")


def test_the_first_process_is_the_command(wire: Wire):
    """A command ends with its first process; what that left behind is killed before run.settled, its output kept."""
    run = start_shell(wire, "sleep 600 & echo $!; setsid sleep 600 & echo $!; echo last")
    settled, message, _ = read_all(wire, run["id"])
    *pids, last = message["content"].split()
    assert (settled["status"], last) == ("succeeded", "last")
    assert not any(is_alive(int(pid)) for pid in pids)


def test_commands_run_beside_each_other(wire: Wire):
    """Ten commands at once each say their own and all of it."""
    runs = [start_shell(wire, f"for i in 1 2 3; do echo {number} $i; done") for number in range(10)]
    for number, run in enumerate(runs):
        assert settle(wire, run["id"])["status"] == "succeeded"
        content = wire.call("run/get", run_id=run["id"])["message"]["content"]
        assert content == "".join(f"{number} {i}\n" for i in (1, 2, 3))


def test_programs_do_not_get_the_daemons_terminal(wire: Wire):
    """A command runs in a session of its own: that of its wrapper."""
    script = "import os; print(os.getsid(0) == os.getppid())"
    _, message, _ = read_all(wire, start(wire, command=[sys.executable, "-I", "-S", "-c", script])["id"])
    assert message["content"] == "True\n"
