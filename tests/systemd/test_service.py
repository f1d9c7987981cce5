"""The service under a real systemd: installed as the README says, started, starved, hung, killed, reloaded, drained."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.docs.pages import ROOT, read_blocks
from tests.support.container import Container, find_obstacle
from tests.support.daemon import FAST
from tests.support.effort import Effort
from tests.support.runs import perform, settle, start, start_endless, start_shell, wait_text
from tests.support.service import (
    DROP_INS,
    IMPATIENT,
    PROGRAMS,
    UNIT,
    Service,
    install,
    pip_environment,
    read_now,
)
from tests.support.waits import wait_until
from tests.support.wire import Wire

LINES = """
python3 -m venv /opt/outlive && /opt/outlive/bin/pip install -q '.[daemon]'
/opt/outlive/bin/outlived install-units
systemctl enable --now outlived
""".lstrip()
WATCHED = f"{IMPATIENT}WatchdogSec=2\n"
BLOCKING = """
import time

async def block(desk):
    await desk.emit_text("blocking")
    await desk.step("say so", say_so)
    time.sleep(600)

async def say_so():
    return None
"""

pytestmark = [
    pytest.mark.skipif(find_obstacle() is not None, reason=f"no container: {find_obstacle()}"),
    pytest.mark.timeout(300),  # the first of them installs
]


@pytest.fixture(scope="module")
def machine() -> Iterator[Container]:
    """A machine on which somebody has typed the README's lines."""
    with Container() as machine:
        install(machine, LINES)
        yield machine


@pytest.fixture
def service(machine: Container) -> Iterator[Service]:
    """The service, active, with the tests' settings and no drop-ins."""
    service = Service(machine)
    service.configure()
    machine.run(f"systemctl reset-failed; systemctl start {UNIT}")
    yield service
    machine.try_run("systemctl start outlived.socket")


def test_the_lines_are_those_of_the_readme():
    """What is carried out here is what stands there."""
    texts = [block.text for block in read_blocks(ROOT / "README.md") if "test_service.py" in str(block.notes)]
    assert texts == [LINES]


def test_the_lines_do_what_the_readme_says(machine: Container):
    """After them the service is active and will be after a boot, and root's command line reaches it without being told where."""
    assert machine.run("systemctl is-active outlived.service outlived.socket").split() == ["active", "active"]
    assert machine.run("systemctl is-enabled outlived.service outlived.socket").split() == [
        "enabled",
        "enabled",
    ]
    assert machine.run(f"{PROGRAMS}/outlive run -- sh -c 'echo $((6*7))'") == "42\n"
    assert machine.run("stat -c '%a %U %G' /run/outlived/outlived.sock").split() == [
        "660",
        "root",
        "outlived",
    ]
    machine.run(
        f"diff -r /src/systemd {PROGRAMS}/../share/outlived/systemd"
    )  # the wheel has brought all of it
    refused = machine.try_run(f"{PROGRAMS}/outlive daemon stop")
    assert (refused.returncode, "systemctl stop outlived" in refused.stderr) == (2, True), refused.stderr


# ---------------------------------------------------------------- the socket


def test_the_first_connect_starts_it(service: Service):
    """With nothing but the socket active, whoever connects is served by the daemon that this starts."""
    service.systemctl("stop")
    assert service.state == "inactive"
    with service.connect() as wire:
        assert wire.call("server/info")["state"] == "serving"
    assert service.state == "active"


def test_two_starts_at_once(service: Service):
    """Many that connect and start at the same moment get one daemon; another one by hand is refused, and takes nothing away."""
    service.systemctl("stop")
    starts = [service.machine.start(f"systemctl start {UNIT}") for _ in range(3)]
    pids: list[int] = []

    def call() -> None:
        with service.connect() as wire:
            pids.append(wire.call("server/info")["pid"])

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [each.wait(30) for each in starts] == [0, 0, 0]
    assert pids == [service.pid] * 8
    before = service.socket.stat()
    second = service.machine.try_run(f"{PROGRAMS}/outlived serve --state-dir /var/lib/second")
    assert (second.returncode, "another program answers there" in second.stderr) == (1, True), second.stderr
    third = service.machine.try_run(f"{PROGRAMS}/outlived serve --socket /run/third")
    assert (third.returncode, "another daemon" in third.stderr) == (1, True), third.stderr
    after = service.socket.stat()
    assert (before.st_ino, before.st_mode, before.st_gid) == (after.st_ino, after.st_mode, after.st_gid)


def test_nobody_is_refused_during_a_restart(service: Service, effort: Effort):
    """Whoever connects while the daemon is restarted waits and is served; the socket stays the same file with the same mode."""
    before = service.socket.stat()
    ended = threading.Event()
    served: list[float] = []
    failed: list[BaseException] = []

    def load() -> None:
        while not ended.is_set():
            began = time.monotonic()
            try:
                with service.connect() as wire:
                    wire.call("server/info")
            except (EOFError, ConnectionResetError, BrokenPipeError):
                continue  # it was connected to the daemon that ended
            except OSError as error:
                failed.append(error)
                return
            served.append(time.monotonic() - began)

    callers = [threading.Thread(target=load) for _ in range(3)]
    for caller in callers:
        caller.start()
    for _ in range(effort.choose(3, 100)):
        count = len(served)
        service.systemctl("restart")
        wait_until(lambda count=count: failed or len(served) > count + 10, 30, "clients are served")
    ended.set()
    for caller in callers:
        caller.join()
    after = service.socket.stat()
    assert failed == []
    assert (before.st_ino, before.st_mode, before.st_gid) == (after.st_ino, after.st_mode, after.st_gid)
    assert service.restarts == 0


# ---------------------------------------------------------------- ready, and alive


def test_ready_comes_last(service: Service):
    """The manager calls it started after the schema, the registration, the sweep and the listener, in that order."""
    began = read_now()
    service.systemctl("restart")
    said = service.wait_journal("Started outlived", began)
    places = [said.index(words) for words in ("registered", "serving", "Started outlived")]
    assert places == sorted(places)
    assert service.read("StatusText") == "serving, 0 runs active"
    assert service.machine.run("cat /proc/$(systemctl show outlived -p MainPID --value)/comm") == "outlived\n"


def test_a_killed_daemon_comes_back(service: Service):
    """After kill -9 it is started again, its run goes on as the next attempt, and the client that followed it sees the end."""
    with service.drop_in(IMPATIENT):
        pid = service.pid
        client = service.machine.start(
            f"{PROGRAMS}/outlive run --resume --agent demo --chat killed 'one two three four five six'",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_until(lambda: _read_latest(service, "killed"), 20, "the run has begun")
        service.kill(signal.SIGKILL)
        service.wait_replaced(pid)
        output, complaints = client.communicate(timeout=30)
        assert client.returncode == 0, complaints
        assert output.rstrip().endswith("one two three four five six")
        with service.connect() as wire:
            run = wire.call("run/latest", chat_id="killed")["run"]
        assert run["status"] == "succeeded"
        assert service.restarts == 1


def _read_latest(service: Service, chat: str) -> bool:
    with service.connect() as wire:
        message = wire.call("run/latest", chat_id=chat)["message"]
    return bool(message and message["content"])


def test_a_stopped_process_is_replaced(service: Service):
    """A daemon that does not turn its loop any more (SIGSTOP) is replaced by the watchdog."""
    with service.drop_in(WATCHED):
        pid, began = service.pid, read_now()
        service.kill(signal.SIGSTOP)
        service.wait_replaced(pid, 15)
        assert "Watchdog timeout" in service.read_journal(began)


def test_a_blocked_loop_is_replaced(service: Service):
    """An agent that holds the loop up for ever costs the daemon its life; the log names the place, and the next one serves."""
    places = service.machine.run(f"{PROGRAMS}/python -c 'import outlived; print(outlived.__file__)'").strip()
    service.machine.write(f"{places.rpartition('/outlived/')[0]}/blocking_agent.py", BLOCKING)
    service.configure(f'{FAST}\n[agents.block]\nkind = "python"\ntarget = "blocking_agent:block"\n')
    with service.drop_in(WATCHED):
        pid, began = service.pid, read_now()
        with service.connect() as wire:
            start(wire, agent="block")
        service.wait_replaced(pid, 15)
        said = service.read_journal(began)
        assert "Watchdog timeout" in said
        assert 'blocking_agent.py", line 7 in block' in said
        with service.connect() as wire:
            assert perform(wire)["status"] == "succeeded"


def test_a_starved_daemon_is_left_alone(service: Service, effort: Effort):
    """While two processes take all processors the watchdog finds a daemon that is slow, and not one that is dead."""
    with service.drop_in(WATCHED):
        pid = service.pid
        for name in ("spin-1", "spin-2"):
            service.machine.run(f"systemd-run -q --unit={name} sh -c 'while :; do :; done'")
        try:
            with service.connect() as wire:
                until = time.monotonic() + effort.choose(4, 120)
                while time.monotonic() < until:
                    assert perform(wire)["status"] == "succeeded"
        finally:
            service.machine.run("systemctl kill -s KILL spin-1 spin-2")
        assert (service.pid, service.restarts) == (pid, 0)


# ---------------------------------------------------------------- reload


def test_a_reload_takes_over_what_is_new(service: Service):
    """A reload brings a new agent and new limits, and touches no run that is active; the process stays the same."""
    pid = service.pid
    with service.connect() as wire:
        run = start_endless(wire)
        service.configure(
            f'{FAST}\n[agents.new]\nkind = "command"\ncommand = ["cat"]\n[server]\nmax_connections = 99\n'
        )
        service.systemctl("reload")
        info = wait_until(
            lambda: (found := wire.call("server/info"))["limits"]["connections"] == 99 and found,
            15,
            "it is reloaded",
        )
        assert [agent["name"] for agent in info["agents"]] == ["demo", "new"]
        assert perform(wire, agent="new", input="read")["status"] == "succeeded"
        assert wire.call("run/get", run_id=run["id"])["run"]["status"] == "running"
        assert service.pid == pid
        wire.call("run/stop", run_id=run["id"], wait_seconds=20)
        service.configure()
        service.systemctl("reload")
        wait_until(lambda: wire.call("server/info")["limits"]["connections"] == 4096, 15, "it is reloaded")
    wait_until(lambda: service.state == "active", 15, "the manager knows that it is ready again")


def test_a_wrong_file_changes_nothing(service: Service):
    """A reload with a wrong file fails, says which key it is, and what was in force stays, also if the signal is sent by hand."""
    began = read_now()
    service.configure(f"{FAST}\n[server]\nmax_connections = 0\n")
    failed = service.machine.try_run(f"systemctl reload {UNIT}")
    assert failed.returncode == 1
    assert "server.max_connections" in service.wait_journal("cannot accept", began)
    service.kill(signal.SIGHUP)
    service.wait_journal("configuration refused: what was in force stays", began)
    wait_until(lambda: "server.max_connections" in service.read("StatusText"), 15, "the status says so")
    with service.connect() as wire:
        assert wire.call("server/info")["limits"]["connections"] == 4096
    assert service.state == "active"
    service.configure()
    service.systemctl("reload")
    wait_until(lambda: service.read("StatusText") == "serving, 0 runs active", 15, "all is well again")


# ---------------------------------------------------------------- drain and stop


def test_a_drain_ends_runs_and_not_the_daemon(service: Service):
    """``outlive drain`` waits for runs that end in time, ends the others, and leaves a daemon that starts nothing until it is restarted."""
    pid = service.pid
    with service.connect() as wire:
        short = start(wire, input="a b c d e", metadata={"demo": {"delay_ms": 100}})
        endless = start_endless(wire)
        assert service.machine.run(f"{PROGRAMS}/outlive drain --grace 1") == "drained\n"
        assert wire.call("run/get", run_id=short["id"])["run"]["status"] == "succeeded"
        ended = wire.call("run/get", run_id=endless["id"])["run"]
        assert (ended["status"], ended["error"]["code"]) == ("aborted", "shutdown")
        assert wire.refuse("run/start", agent="demo").type == "draining"
        assert wire.call("server/info")["state"] == "draining"
    wait_until(lambda: service.read("StatusText") == "draining, 0 runs active", 15, "the status says so")
    assert service.pid == pid
    service.systemctl("restart")
    with service.connect() as wire:
        assert perform(wire)["status"] == "succeeded"


def test_a_stop_is_orderly(service: Service):
    """A stop with active runs ends them, then the daemon ends Postgres itself, all within the unit's time and with status 0."""
    began = read_now()
    with service.connect() as wire:
        run = start_shell(wire, "echo ready; exec sleep 1000")
        wait_text(wire, run["id"], "ready")
        service.systemctl("stop")
    said = service.read_journal(began)
    places = [said.index(words) for words in ("draining", "stopped postgres", "Deactivated successfully")]
    assert places == sorted(places)
    assert (service.read("Result"), service.read("ExecMainStatus")) == ("success", "0")
    assert "Killing process" not in said
    log = service.machine.run("tail -n 3 /var/lib/outlived/postgres/postgres.log")
    assert "database system is shut down" in log
    assert service.machine.try_run("pgrep -u outlived").stdout == ""
    with service.connect() as wire:
        assert wire.call("run/get", run_id=run["id"])["run"]["error"]["code"] == "shutdown"


def test_a_second_signal_skips_the_wait(service: Service):
    """A daemon that gives its runs an hour to end is given that, whatever the unit's timeout, and does not take it when it is
    told a second time; its status is 0 all the same.
    """
    patient = FAST.replace("drain_seconds = 0.2", "drain_seconds = 3600")
    service.configure(patient)
    with service.drop_in("[Service]\nTimeoutStopSec=2\n"), service.connect() as wire:
        run = start_endless(wire)
        service.systemctl("stop", "--no-block")
        told = time.monotonic()
        wait_until(lambda: wire.call("server/info")["state"] == "draining", 15, "it drains")
        wait_until(lambda: time.monotonic() > told + 3, 5)
        assert service.state == "deactivating"
        began = time.monotonic()
        service.kill(signal.SIGTERM)
        service.wait_state("inactive", 15)
        assert time.monotonic() - began < 10
        assert (service.read("Result"), service.read("ExecMainStatus")) == ("success", "0")
    service.configure()
    with service.connect() as wire:
        assert wire.call("run/get", run_id=run["id"])["run"]["error"]["code"] == "forced"


# ---------------------------------------------------------------- commands that outlive their daemon


def start_counting(wire: Wire, chat: str) -> str:
    """A command that counts to 40 and writes files of its own meanwhile; its run's id, once it has begun."""
    script = "for i in $(seq 40); do echo $i; echo $i >$(mktemp); sleep 0.1; done; grep -o 'run-[^/]*' /proc/self/cgroup"
    run = start_shell(wire, script, chat_id=chat)
    wait_text(wire, run["id"], "1\n")
    return run["id"]


def test_commands_survive_a_restart(service: Service):
    """With the drop-in for it, and on_stop = "leave", a command and its cgroup go on through a restart and a kill -9 of the
    daemon, and through a stop until the next start; the log has all it said, once.
    """
    counted = "".join(f"{number}\n" for number in range(1, 41))
    service.configure(FAST.replace("[run]", '[run]\non_stop = "leave"'))
    example = (ROOT / "systemd/drop-ins/survive-restarts.conf").read_text()
    with service.drop_in(f"{example}RestartSec=100ms\n"):
        with service.connect() as wire:
            runs = [start_counting(wire, "restarted"), start_counting(wire, "killed-daemon")]
        service.systemctl("restart")
        pid = service.pid
        service.kill(signal.SIGKILL)
        service.wait_replaced(pid)
        service.systemctl("stop")
        assert service.machine.run("pgrep -cx -u outlived seq; pgrep -c -u outlived sh || true") != "0\n0\n"
        with service.connect() as wire:  # which starts it
            for run_id in runs:
                run = settle(wire, run_id)
                assert (run["status"], run["attempt"], run["epoch"]) == ("succeeded", 1, 4)
                said = wire.call("run/get", run_id=run_id)["message"]["content"]
                assert said == f"{counted}run-{run_id}\n"
            events, _ = wire.tail(runs[0])
            assert [event["type"] for event in events].count("run.adopted") == 3
    service.configure()


def test_without_that_a_restart_is_honest(service: Service):
    """By default a restart ends commands and says so; a daemon that was killed takes them with it, and the next one says so."""
    with service.drop_in(IMPATIENT):
        with service.connect() as wire:
            first = start_counting(wire, "restarted-plainly")
            service.systemctl("restart")
        with service.connect() as wire:
            ended = settle(wire, first)
            assert (ended["status"], ended["error"]["code"]) == ("aborted", "shutdown")
            second = start_counting(wire, "killed-plainly")
            pid = service.pid
            service.kill(signal.SIGKILL)
            service.wait_replaced(pid)
        with service.connect() as wire:
            ended = settle(wire, second)
            assert (ended["status"], ended["error"]["code"]) in {
                ("aborted", "owner_lost"),
                ("failed", "process_lost"),
            }
        assert service.machine.try_run("pgrep -u outlived -x seq").returncode == 1


# ---------------------------------------------------------------- what runs see, and what they may


def test_runs_inherit_nothing_of_the_service(service: Service):
    """A command finds neither systemd's variables nor the daemon's descriptors, the socket least of all."""
    with service.connect() as wire:
        run = start_shell(wire, "env; for each in /proc/self/fd/*; do readlink $each; done")
        settle(wire, run["id"])
        seen = wire.call("run/get", run_id=run["id"])["message"]["content"]
    names = {line.partition("=")[0] for line in seen.splitlines()}
    ours = (
        "LISTEN_",
        "NOTIFY_SOCKET",
        "WATCHDOG_",
        "JOURNAL_STREAM",
        "CREDENTIALS_",
        "STATE_DIRECTORY",
        "CONFIGURATION_",
    )
    assert [name for name in names if name.startswith(ours)] == []
    assert "OUTLIVE_RUN_ID" in names
    assert "socket:" not in seen


def test_the_journal_finds_a_run(service: Service):
    """Entries have a run's id and chat as fields of their own and a priority; nothing of a run's input or output is in them."""
    with service.connect() as wire:
        run = perform(wire, input="a secret question", chat_id="confidential")
        failed = start_shell(
            wire, "echo a secret answer; echo a secret complaint >&2; exit 3", chat_id="confidential"
        )
        settle(wire, failed["id"])
    service.machine.run("journalctl --sync")
    found = service.machine.run(f"journalctl -q -o json RUN_ID={run['id']}").splitlines()
    entries = [json.loads(line) for line in found]
    assert {(entry["CHAT_ID"], entry["SYSLOG_IDENTIFIER"]) for entry in entries} == {
        ("confidential", "outlived")
    }
    assert {entry["PRIORITY"] for entry in entries} == {"6"}
    assert entries[0]["SENTENCE"] == "run started"
    assert f"run_id={run['id']}" in entries[0]["MESSAGE"]
    assert "secret" not in service.machine.run(f"journalctl -q -o verbose -u {UNIT}")


@pytest.mark.parametrize(("name", "most"), [(None, 20), ("sandboxing-agents", 30)])
def test_the_hardening(service: Service, name: str | None, most: int):
    """systemd has nothing to complain of in the units, and calls their exposure at most 2.0, with sandboxes 3.0."""
    machine = service.machine
    if name is not None:
        machine.run(f"{PROGRAMS}/outlived install-units --drop-in {name}")
    try:
        units = "outlived.service outlived.socket"
        checked = machine.try_run(f"systemd-analyze verify {units}")
        assert (checked.returncode, checked.stderr) == (0, "")
        judged = machine.try_run(f"systemd-analyze security --offline=true --threshold={most} {UNIT}")
        assert judged.returncode == 0, judged.stdout[-300:]
    finally:
        machine.run(f"rm -rf {DROP_INS}; systemctl daemon-reload")


def test_the_other_units_are_faultless(service: Service):
    """The units of a personal daemon, and each example of a drop-in, are as systemd wants them."""
    machine = service.machine
    source = machine.run(f"ls {PROGRAMS}/../share/outlived/systemd/drop-ins").split()
    names = [name.removesuffix(".conf") for name in source]
    assert {"dynamic-user", "sandboxing-agents", "survive-restarts", "database-credential"} <= set(names)
    try:
        wanted = " ".join(f"--drop-in {name}" for name in names)
        machine.run(f"{PROGRAMS}/outlived install-units {wanted}")
        assert len(machine.run(f"ls {DROP_INS}").split()) == len(names)
        checked = machine.try_run(f"systemd-analyze verify {UNIT}")
        assert (checked.returncode, checked.stderr) == (0, "")
        machine.run(f"{PROGRAMS}/outlived install-units --user --root /usr/units")
        units = "/usr/units/usr/local/lib/systemd/user"
        units = f"{units}/outlived.service {units}/outlived.socket"
        checked = machine.try_run(f"XDG_RUNTIME_DIR=/run/outlived systemd-analyze verify --user {units}")
        assert (checked.returncode, checked.stderr) == (0, "")
    finally:
        machine.run(f"rm -rf {DROP_INS}; systemctl daemon-reload")


def test_what_agents_need_is_left_open(service: Service):
    """Under the hardened unit programs that compile at run time live; sandboxes of namespaces need the drop-in, and work with it."""
    node = service.machine.try_run("command -v node").stdout.strip()
    sandbox = (
        "unshare --user --map-root-user --mount --pid --fork --net sh -c 'mount -t tmpfs t /mnt && echo in'"
    )
    with service.connect() as wire:
        if node:
            run = start(wire, command=[node, "-e", "console.log([1,2,3].map(n => n * 2).join())"])
            settle(wire, run["id"])
            assert wire.call("run/get", run_id=run["id"])["message"]["content"] == "2,4,6\n"
        run = start_shell(wire, sandbox)
        assert settle(wire, run["id"])["status"] == "failed"
    example = (ROOT / "systemd/drop-ins/sandboxing-agents.conf").read_text()
    with service.drop_in(example), service.connect() as wire:
        run = start_shell(wire, sandbox)
        settle(wire, run["id"])
        assert wire.call("run/get", run_id=run["id"])["message"]["content"] == "in\n"


# ---------------------------------------------------------------- other ways to be installed


def test_a_user_for_the_time_being(service: Service):
    """With DynamicUser= the daemon, its state and its embedded Postgres work, and find what was there before."""
    with service.connect() as wire:
        run = perform(wire)
    service.systemctl("stop")
    with (
        service.drop_in((ROOT / "systemd/drop-ins/dynamic-user.conf").read_text()),
        service.connect() as wire,
    ):
        assert wire.call("run/get", run_id=run["id"])["run"] == run
        assert perform(wire)["status"] == "succeeded"
        owner = service.machine.run("stat -c %U /var/lib/private/outlived/postgres/data").strip()
        assert owner == "outlived-dynamic"
    with service.connect() as wire:
        assert wire.call("run/get", run_id=run["id"])["run"] == run
    assert service.machine.run("stat -c %U /var/lib/outlived/").strip() == "outlived"


def test_a_dsn_that_nobody_sees(service: Service):
    """A DSN from a credential is used, and is in no environment, no command line and no journal."""
    machine, began = service.machine, read_now()
    machine.write("/etc/outlived/database", "host=/nowhere-at-all password=hidden\n", 0o600)
    example = (ROOT / "systemd/drop-ins/database-credential.conf").read_text()
    machine.write(f"{DROP_INS}/credential.conf", example + "Restart=no\n")
    try:
        machine.run("systemctl daemon-reload")
        failed = machine.try_run(f"systemctl restart {UNIT}")
        assert failed.returncode == 1
        said = service.wait_journal("nowhere-at-all", began)
        assert "hidden" not in said
    finally:
        machine.run(f"rm -rf {DROP_INS}; systemctl daemon-reload; systemctl reset-failed {UNIT}")


def test_a_personal_daemon(service: Service):
    """An ordinary user has a daemon of their own, of the user manager, at the usual place, beside the system's."""
    machine = service.machine
    machine.run("useradd --create-home ann && loginctl enable-linger ann")
    runtime = "/run/user/$(id -u ann)"
    wait_until(
        lambda: machine.try_run(f"test -S {runtime}/systemd/private").returncode == 0, 30, "ann has a manager"
    )

    def as_ann(script: str) -> str:
        return machine.run(
            f"setpriv --reuid=ann --regid=ann --init-groups env HOME=/home/ann XDG_RUNTIME_DIR={runtime} sh -ec '{script}'"
        )

    as_ann(f"{PROGRAMS}/outlived install-units --user && systemctl --user enable --now outlived")
    assert as_ann(f"{PROGRAMS}/outlive run --no-autostart -- id -un") == "ann\n"
    assert as_ann("systemctl --user is-active outlived.service outlived.socket").split() == [
        "active",
        "active",
    ]
    machine.run(f"rm -f {runtime}/outlived/outlived.sock.lock")
    before = machine.run(f"stat -c %i {runtime}/outlived/outlived.sock")
    as_ann("systemctl --user restart outlived && systemctl --user reload outlived")
    assert as_ann(f"{PROGRAMS}/outlive run --no-autostart -- id -un") == "ann\n"
    assert machine.run(f"stat -c %i {runtime}/outlived/outlived.sock") == before
    as_ann("systemctl --user disable --now outlived.service outlived.socket")
    assert machine.try_run(f"test -e {runtime}/outlived/outlived.sock").returncode == 1


# ---------------------------------------------------------------- the page


def test_the_page_about_operations(service: Service, effort: Effort):
    """Every command of docs/operations.md does what it is there for; the last of them removes the service."""
    machine = service.machine
    service.configure("")
    blocks = [block for block in read_blocks(ROOT / "docs/operations.md") if block.language == "sh"]
    assert blocks[0].text == LINES  # which has been carried out
    for block in blocks[1:]:
        if "not here" in block.notes or ("long" in block.notes and effort.seed is None):
            continue
        done = machine.try_run(f"cd /src && set -e\n{block.text}", 120, **pip_environment())
        assert done.returncode == 0, f"{block.where}: {done.stdout}{done.stderr}"
    assert machine.try_run("systemctl cat outlived").returncode == 1
    assert machine.run("pg_restore --list /var/backups/outlive.dump").count("TABLE DATA outlived") >= 5
    assert "outlived/postgres/data/PG_VERSION" in machine.run("tar tf /var/backups/outlive.tar")
