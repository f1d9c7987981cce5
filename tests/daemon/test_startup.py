"""Starting: what a daemon refuses, and in what words; where it finds its places; the socket it opens and leaves."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from outlived.__main__ import main
from outlived.store.migrate import SQL
from tests.support.daemon import FAST, Daemon
from tests.support.locks import open_session
from tests.support.processes import is_alive
from tests.support.waits import wait_until
from tests.support.wire import Wire

MakeDaemon = Callable[..., Daemon]

PLACES = {"OUTLIVE_SOCKET", "OUTLIVED_CONFIG", "OUTLIVED_STATE_DIR", "OUTLIVED_DATABASE", "XDG_RUNTIME_DIR"}
CLEAN = {name: value for name, value in os.environ.items() if name not in PLACES}


@pytest.fixture
def place(short_dir: Path) -> Iterator[Path]:
    """A directory with a short name."""
    directory = Path(tempfile.mkdtemp(prefix="s-", dir=short_dir))
    yield directory
    shutil.rmtree(directory)


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``outlived`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "outlived", *map(str, arguments)],
        env={**CLEAN, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refuse(*arguments: str | Path, status: int = 1, **environment: str) -> str:
    """What ``outlived`` complains about: one line on stderr, nothing on stdout, and the status."""
    done = run(*arguments, **environment)
    assert done.returncode == status, done.stderr
    assert not done.stdout
    [line] = done.stderr.splitlines()
    assert line.startswith("outlived: ")
    return line


def refuse_here(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 1) -> str:
    """The same without a process of its own, where nothing is started: many cases cost nothing."""
    try:
        found = main(list(map(str, arguments)))
    except SystemExit as usage:
        found = usage.code
    said = capsys.readouterr()
    assert found == status, said.err
    assert not said.out
    [line] = said.err.splitlines()
    assert line.startswith("outlived: ")
    return line


def serve(place: Path, *arguments: str | Path) -> list[str | Path]:
    """The arguments of a daemon that would live in ``place``."""
    return ["serve", "--socket", place / "s", "--state-dir", place / "state", *arguments]


def write_config(place: Path, text: str) -> Path:
    file = place / "outlived.toml"
    file.write_text(text)
    return file


# ---------------------------------------------------------------- configuration

FAULTS = {
    "[owner\n": ["line 1"],
    "[owner]\nlease_second = 5": ["owner.lease_second"],
    "[ownr]\nlease_seconds = 5": ["ownr"],
    "lease_seconds = 5": ["lease_seconds"],
    "owner = 5": ["owner", "[owner]"],
    '[owner]\nlease_seconds = "5"': ["owner.lease_seconds", "str"],
    "[owner]\nlease_seconds = -5": ["owner.lease_seconds", "0"],
    "[owner]\nlease_seconds = nan": ["owner.lease_seconds"],
    "[owner]\nlease_seconds = 10\nheartbeat_seconds = 8": ["owner.heartbeat_seconds", "8", "10"],
    '[run]\non_stop = "wait"': ["run.on_stop", "wait"],
    '[server]\nsocket_mode = "rwx"': ["server.socket_mode"],
    '[agents.a]\nkind = "command"': ["agents.a.command"],
    '[agents.a]\nkind = "python"': ["agents.a.target"],
    '[agents.a]\nkind = "python"\ntarget = "m:f"\ncommand = ["x"]': ["agents.a.command"],
    '[agents.a]\nkind = "magic"': ["agents.a.kind", "magic"],
    '[agents.a]\nkind = "command"\ncommand = []': ["agents.a.command"],
    '[agents.a]\nkind = "command"\ncommand = "ls"': ["agents.a.command", "array"],
    '[agents.a]\nkind = "command"\ncommand = ["ls"]\ncolour = 1': ["agents.a.colour"],
    '[agents.demo]\nkind = "command"\ncommand = ["ls"]': ["agents.demo"],
    '[agents."a b"]\nkind = "command"\ncommand = ["ls"]': ["agents.a b"],
    "agents = 5": ["agents"],
}
"""A faulty file, and what the complaint names beside the file."""


@pytest.mark.parametrize("text", FAULTS, ids=lambda text: text.replace("\n", " ").strip())
def test_check_config_names_what_is_wrong(place: Path, text: str, capsys: pytest.CaptureFixture[str]):
    """A faulty configuration is refused in one line that names the file, the key and the reason."""
    config = write_config(place, text)
    line = refuse_here(capsys, "check-config", "--config", config)
    for name in [str(config), *FAULTS[text]]:
        assert name in line


def test_a_faulty_configuration_is_refused_at_the_start(place: Path):
    """``serve`` refuses what ``check-config`` refuses, in the same words, before it makes anything."""
    config = write_config(place, "[owner]\nlease_second = 5")
    assert refuse(*serve(place, "--config", config)) == refuse("check-config", "--config", config)
    assert list(place.iterdir()) == [config]


def test_a_configuration_that_cannot_be_read_is_refused(place: Path, capsys: pytest.CaptureFixture[str]):
    """A missing file, a directory, and bytes that are no text: one line that names the file."""
    binary = place / "binary"
    binary.write_bytes(b"\xff\xfe")
    for config in (place / "missing", place, binary):
        assert str(config) in refuse_here(capsys, "check-config", "--config", config)


def test_check_config_tries_the_agents(place: Path):
    """``check-config`` names a program that is not on PATH and a module that cannot be imported, each in its line."""
    (place / "broken_module.py").write_text("import no_such_module_either\n")
    config = write_config(
        place,
        '[agents.one]\nkind = "command"\ncommand = ["no-such-program"]\n'
        '[agents.two]\nkind = "python"\ntarget = "broken_module:act"\n'
        '[agents.three]\nkind = "python"\ntarget = "json:dumps"\n'
        '[agents.good]\nkind = "command"\ncommand = ["sh"]\n',
    )
    done = run("check-config", "--config", config, PYTHONPATH=str(place))
    assert done.returncode == 1
    assert not done.stdout
    [one, two, three] = done.stderr.splitlines()
    assert "agents.one" in one
    assert "no-such-program" in one
    assert "agents.two" in two
    assert "no_such_module_either" in two
    assert "agents.three" in three
    assert "json:dumps" in three


def test_check_config_accepts_what_is_right(place: Path):
    """A valid file is said to be valid, an empty one too, and nothing is started."""
    for text in ("", "# nothing\n", FAST, '[agents.a]\nkind = "command"\ncommand = ["sh"]'):
        config = write_config(place, text)
        done = run("check-config", "--config", config)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{config} is valid\n"
        assert list(place.iterdir()) == [config]


def test_check_config_needs_no_file():
    """Without a file the defaults are checked; the environment may name one."""
    assert run("check-config").returncode == 0
    assert "/nowhere.toml" in refuse("check-config", OUTLIVED_CONFIG="/nowhere.toml")


# ---------------------------------------------------------------- usage


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--colour", "red"],
        ["serve", "--socket"],
        ["surf"],
        [],
        ["check-config", "a", "b"],
        ["serve", "--sock", "/s"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """An unknown command, option or argument: one line that says where help is, and status 2."""
    monkeypatch.setenv("OUTLIVED_CONFIG", "/nowhere.toml")  # a daemon that would start after all could not
    assert "--help" in refuse_here(capsys, *arguments, status=2)


# ---------------------------------------------------------------- places


def test_a_socket_path_that_is_too_long_is_refused(place: Path):
    """A path no socket can have is refused with its length and the limit."""
    line = refuse("serve", "--socket", place / ("s" * 100), "--state-dir", place / "state")
    assert "s" * 100 in line
    assert "107" in line
    assert not (place / "state").exists()


@pytest.mark.parametrize("directory", ["file/state", "/proc/no/state", "file"])
def test_a_state_directory_that_cannot_be_written_is_refused(place: Path, directory: str):
    """A state directory below or in place of a file, or where nobody can write, is named; root is told so too."""
    (place / "file").write_text("")
    state = place / directory
    line = refuse("serve", "--socket", place / "s", "--state-dir", state)
    assert str(state) in line
    assert not (place / "s").exists()


def test_a_damaged_state_directory_is_refused(place: Path):
    """A state directory whose identity cannot be read, or not be made, is named."""
    home_id = place / "state" / "home_id"
    home_id.parent.mkdir()
    home_id.write_text("not an id\n")
    assert str(home_id) in refuse(*serve(place))
    home_id.unlink()
    (place / "state" / "home_id.new").mkdir()
    assert str(place / "state") in refuse(*serve(place))


@pytest.mark.parametrize("directory", ["file/s", "/proc/no/s"])
def test_a_socket_that_cannot_be_made_is_refused(place: Path, directory: str):
    """A socket below a file, or where nobody can write, is named."""
    (place / "file").write_text("")
    assert str(place / directory) in refuse(
        "serve", "--socket", place / directory, "--state-dir", place / "state"
    )


def test_a_socket_path_with_something_else_there_is_refused(place: Path):
    """A directory in the socket's place is named, and left alone."""
    (place / "s").mkdir()
    assert str(place / "s") in refuse(*serve(place, "--database", "host=/nowhere"))
    assert (place / "s").is_dir()


def test_a_socket_that_another_program_serves_is_refused(place: Path):
    """A socket on which something else answers is not taken away."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place / "s"))
        other.listen()
        assert str(place / "s") in refuse(*serve(place))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place / "s"))


def test_a_second_daemon_is_refused(place: Path, make_daemon: MakeDaemon):
    """A second daemon on the same socket, or on the same state directory, is refused; the first goes on serving."""
    first = make_daemon().start()
    pid = first.process.pid
    assert first.database is not None
    elsewhere = ["--database", first.database]
    line = refuse("serve", "--socket", first.socket, "--state-dir", place / "state", *elsewhere)
    assert str(first.socket) in line
    line = refuse("serve", "--socket", place / "s", "--state-dir", first.state, *elsewhere)
    assert str(first.state) in line
    assert str(pid) in line
    with first.connect() as wire:
        assert wire.call("server/info")["pid"] == pid
    assert first.stop() == 0


# ---------------------------------------------------------------- the database


def test_a_database_that_is_not_there_is_refused(place: Path):
    """A server that does not answer, and words that are no DSN: one line; no socket is left behind."""
    line = refuse(*serve(place, "--database", f"host={place} dbname=nothing"))
    assert str(place) in line
    assert "socket" not in line.partition("cannot connect to the database")[0]
    assert "database" in refuse(*serve(place, "--database", "no DSN at all"))
    assert not (place / "s").exists()


def test_a_schema_from_the_future_is_refused(place: Path, make_daemon: MakeDaemon):
    """A database that only a newer daemon may read is left alone, and the versions are named."""
    daemon = make_daemon().start()
    assert daemon.stop() == 0
    with psycopg.connect(daemon.dsn) as connection:
        connection.execute("INSERT INTO outlived.schema_version (version, min_reader) VALUES (1001, 1000)")
    line = refuse(*serve(place, "--database", daemon.dsn))
    assert "1001" in line
    assert "1000" in line
    with psycopg.connect(daemon.dsn) as connection:
        connection.execute("UPDATE outlived.schema_version SET min_reader = 1 WHERE version = 1001")
    daemon.start()  # newer, and it may be read


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_can_be_given_up(make_daemon: MakeDaemon, number: signal.Signals):
    """A daemon that is told to stop, or hears Ctrl-C, while it waits for another one's migration leaves nothing behind."""
    daemon = make_daemon()
    with open_session(daemon.dsn) as session:
        session.ask(SQL["lock"].replace("xact_", ""))
        daemon.start(wait=False)
        wait_until(lambda: session.ask("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        daemon.signal(number)
        assert daemon.process.wait(20) == 0
    assert not daemon.socket.exists()
    assert "Traceback" not in daemon.read_log()


def test_a_start_that_is_given_up_stops_its_postgres(make_daemon: MakeDaemon):
    """SIGTERM while the embedded Postgres comes up: it is stopped, not left to itself."""
    daemon = make_daemon(database=None).start(wait=False)
    daemon.wait_logged("starting postgres")
    [started] = [
        line for line in map(json.loads, daemon.read_log().splitlines()) if "starting" in line["event"]
    ]
    assert daemon.stop(seconds=20) == 0, daemon.read_log()
    assert not is_alive(started["pid"])


# ---------------------------------------------------------------- where things are


def test_places_come_from_the_environment_and_options_win(place: Path, database: str):
    """OUTLIVE_SOCKET, OUTLIVED_CONFIG, OUTLIVED_STATE_DIR and OUTLIVED_DATABASE are heard; an option beats its variable."""
    heard, meant = place / "heard", place / "meant"
    heard.mkdir()
    config = write_config(heard, '[agents.heard]\nkind = "command"\ncommand = ["sh"]')
    environment = {
        "OUTLIVE_SOCKET": str(heard / "s"),
        "OUTLIVED_CONFIG": str(config),
        "OUTLIVED_STATE_DIR": str(heard / "state"),
        "OUTLIVED_DATABASE": database,
    }
    with started(environment, heard / "s") as wire:
        assert "heard" in {agent["name"] for agent in wire.call("server/info")["agents"]}
        assert (heard / "state" / "home_id").exists()
        assert not (heard / "state" / "postgres").exists()
    meant.mkdir()
    options = serve(meant, "--config", write_config(meant, ""), "--database", database)
    nowhere = dict.fromkeys(environment, "/nowhere/x")
    with started(nowhere, meant / "s", *options[1:]) as wire:
        assert "heard" not in {agent["name"] for agent in wire.call("server/info")["agents"]}
        assert (meant / "state" / "home_id").exists()


class started:  # noqa: N801 - used as a context manager
    """A daemon with an environment of its own; a connection to it while it lives."""

    def __init__(self, environment: dict[str, str], path: Path, *options: str | Path) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-m", "outlived", "serve", *map(str, options)],
            env={**CLEAN, **environment},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Wire:
        wait_until(lambda: self.path.exists() or self.process.poll() is not None)
        self.wire = Wire(self.path)
        return self.wire

    def __exit__(self, *_: object) -> None:
        self.wire.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0


# ---------------------------------------------------------------- the socket


def test_the_socket_is_private(make_daemon: MakeDaemon):
    """Socket 0600, the directories that the daemon makes 0700; the configuration may open the socket to a group."""
    daemon = make_daemon()
    daemon.socket = daemon.directory / "made" / "s"
    daemon.start()
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(daemon.state.stat().st_mode) == 0o700
    assert daemon.stop() == 0
    daemon.config.write_text(f'[server]\nsocket_mode = "0660"\nsocket_group = "{group_of_ours()}"')
    daemon.start()
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660


def group_of_ours() -> str:
    import grp

    return grp.getgrgid(os.getegid()).gr_name


def test_the_socket_of_a_killed_daemon_is_replaced(make_daemon: MakeDaemon):
    """A socket file that nobody serves any more is in nobody's way."""
    daemon = make_daemon().start()
    left = daemon.socket.stat().st_ino
    daemon.kill()
    assert daemon.socket.stat().st_ino == left
    daemon.start()
    assert daemon.stop() == 0


def test_the_socket_is_removed_only_if_it_is_ours(make_daemon: MakeDaemon):
    """A clean stop removes the daemon's socket, and leaves what somebody has put in its place."""
    daemon = make_daemon().start()
    assert daemon.stop() == 0
    assert not daemon.socket.exists()
    daemon.start()
    daemon.socket.rename(daemon.directory / "moved")
    daemon.socket.write_text("somebody's")
    assert daemon.stop() == 0
    assert daemon.socket.read_text() == "somebody's"


HEAVY = {"rich", "trio_asyncio", "outlive.events", "outlive.client"}
IMPORT = f"""
import sys
from outlived.__main__ import _left_out
with _left_out("rich"):
    import outlived.house
print(*sorted({HEAVY} & sys.modules.keys()))
import rich.console
"""


def test_a_start_imports_only_what_it_needs():
    """What no first request needs is not imported at the start, and can be imported later."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")
