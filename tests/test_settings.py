"""The configuration: read once, checked once; what is wrong is said with file, key and reason."""

import math
import string
import tomllib
from datetime import UTC, date, datetime, time
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.settings import Settings, SettingsRefused, _check, read_settings

examples = settings(derandomize=True, deadline=None)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "outlived.toml"


def read(file, text):
    file.write_text(text)
    return read_settings(file)


# ---------------------------------------------------------------- what is accepted


def test_no_file_and_an_empty_file_are_the_defaults(file):
    """Nothing need be configured: the defaults are those of the contract."""
    settings = read_settings(None)
    assert settings == read(file, "") == read(file, "# only a comment\n") == Settings()
    assert (settings.owner.lease_seconds, settings.owner.heartbeat_seconds) == (60, 10)
    assert settings.sweep.interval_seconds == 15
    assert (settings.run.grace_seconds, settings.run.drain_seconds, settings.run.on_stop) == (10, 5, None)
    assert (settings.run.adopt, settings.run.adopt_seconds) == (True, 120)
    assert (settings.run.max_spool_bytes, settings.run.on_full_spool) == (64 << 20, "slow")
    assert settings.events.retention_days == 7
    assert settings.agents == {}


AGENT = {
    "description": "", "command": None, "format": "text", "target": None, "flavour": None, "isolation": "none",
    "permissions": "allow_reads", "model": None, "instructions": None, "base_url": None, "api_key_env": None,
    "cwd": None, "env": {}, "inherit_env": [], "wall_seconds": None, "idle_seconds": None, "max_memory": None,
    "max_pids": None,
}  # fmt: skip
"""What an agent is that nothing is said of."""


def test_everything_can_be_set(file):
    """Every key of every table is read into its place."""
    settings = read(
        file,
        """
        [server]
        socket = "/run/s"
        socket_mode = "0660"
        socket_group = "staff"
        max_connections = 7
        [store]
        database = "host=/tmp"
        state_dir = "/var/lib/x"
        max_message_bytes = 2048
        [owner]
        lease_seconds = 9
        heartbeat_seconds = 1.5
        [sweep]
        interval_seconds = 2
        backstop_seconds = 3
        [run]
        grace_seconds = 0
        drain_seconds = 0.5
        on_stop = "drain"
        adopt = false
        adopt_seconds = 0
        max_spool_bytes = 65536
        on_full_spool = "fail"
        max_attempts = 7
        wall_seconds = 3600
        idle_seconds = 60
        cgroups = "off"
        inherit_env = ["A_*"]
        [events]
        retention_days = 0
        [agents.a-1_b]
        kind = "command"
        command = ["sh", "-c", "true"]
        description = "d"
        format = "text"
        cwd = "/"
        env = { A = "1" }
        inherit_env = ["B"]
        wall_seconds = 0
        idle_seconds = 1.5
        max_memory = "512M"
        max_pids = 100
        [agents.p]
        kind = "python"
        target = "package.module:name.attribute"
        flavour = "asyncio"
        isolation = "process"
        max_memory = 1073741824
        [agents.e]
        kind = "acp"
        command = ["agent"]
        permissions = "deny"
        [agents.m]
        kind = "pydantic-ai"
        model = "m"
        instructions = "i"
        base_url = "http://127.0.0.1:1/v1"
        api_key_env = "K"
        [workspaces.team-a]
        users = ["root", 1000]
        groups = [0]
        """,
    )
    assert attrs.asdict(settings) == {
        "server": {"socket": "/run/s", "socket_mode": "0660", "socket_group": "staff", "max_connections": 7},
        "store": {"database": "host=/tmp", "state_dir": "/var/lib/x", "max_message_bytes": 2048},
        "owner": {"lease_seconds": 9.0, "heartbeat_seconds": 1.5},
        "sweep": {"interval_seconds": 2.0, "backstop_seconds": 3.0},
        "run": {
            "grace_seconds": 0.0,
            "drain_seconds": 0.5,
            "on_stop": "drain",
            "adopt": False,
            "adopt_seconds": 0.0,
            "max_spool_bytes": 65536,
            "on_full_spool": "fail",
            "max_attempts": 7,
            "wall_seconds": 3600.0,
            "idle_seconds": 60.0,
            "cgroups": "off",
            "inherit_env": ["A_*"],
        },
        "events": {"retention_days": 0.0},
        "agents": {
            "a-1_b": {
                **AGENT,
                "kind": "command",
                "description": "d",
                "command": ["sh", "-c", "true"],
                "cwd": "/",
                "env": {"A": "1"},
                "inherit_env": ["A_*", "B"],
                "wall_seconds": 0.0,
                "idle_seconds": 1.5,
                "max_memory": "512M",
                "max_pids": 100,
            },
            "p": {
                **AGENT,
                "kind": "python",
                "target": "package.module:name.attribute",
                "flavour": "asyncio",
                "isolation": "process",
                "inherit_env": ["A_*"],
                "max_memory": 1073741824,
            },
            "e": {
                **AGENT,
                "kind": "acp",
                "command": ["agent"],
                "permissions": "deny",
                "inherit_env": ["A_*"],
            },
            "m": {
                **AGENT,
                "kind": "pydantic-ai",
                "model": "m",
                "instructions": "i",
                "base_url": "http://127.0.0.1:1/v1",
                "api_key_env": "K",
                "inherit_env": ["A_*"],
            },
        },
        "workspaces": {"team-a": {"users": ["root", 1000], "groups": [0]}},
    }


# ---------------------------------------------------------------- what is refused

LONG_NAME = "n" * 129

REFUSED = {
    "an unknown table": ("[servers]\nx = 1", "servers", "no such key"),
    "an unknown key at the top": ("x = 1", "x", "no such key"),
    "an unknown key": ("[server]\nsockets = 1", "server.sockets", "no such field"),
    "an unknown key of an agent": (
        '[agents.a]\nkind = "command"\ncommand = ["x"]\nshell = 1',
        "agents.a.shell",
        "no such field",
    ),
    "a table that is none": ("server = 3", "server", "expected a table"),
    "a list of tables": ("[[server]]", "server", "expected a table"),
    "agents that are no table": ("agents = []", "agents", "expected tables"),
    "an agent that is no table": ("[agents]\na = 1", "agents.a", "expected a table"),
    "a wrong type": ("[server]\nsocket = 3", "server.socket", "Expected `str"),
    "a date for a text": ("[server]\nsocket = 2024-01-01", "server.socket", "Expected `str"),
    "a bool for a number": ("[owner]\nlease_seconds = true", "owner.lease_seconds", "Expected `float`"),
    "a text for a number": ('[owner]\nlease_seconds = "3"', "owner.lease_seconds", "Expected `float`"),
    "a number that is none": ("[owner]\nlease_seconds = nan", "owner.lease_seconds", "> 0"),
    "an endless lease": ("[owner]\nlease_seconds = inf", "owner.lease_seconds", "<= 86400"),
    "a negative time": ("[run]\ngrace_seconds = -1", "run.grace_seconds", ">= 0"),
    "nothing for a lease": ("[owner]\nlease_seconds = 0", "owner.lease_seconds", "> 0"),
    "a retention that is no number": ("[events]\nretention_days = nan", "events.retention_days", ">= 0"),
    "an endless retention": ("[events]\nretention_days = inf", "events.retention_days", "<= "),
    "a fraction of a connection": (
        "[server]\nmax_connections = 1.5",
        "server.max_connections",
        "Expected `int`",
    ),
    "a huge number": (
        "[server]\nmax_connections = 99999999999999999999",
        "server.max_connections",
        "<= 100000",
    ),
    "a mode that is none": ('[server]\nsocket_mode = "999"', "server.socket_mode", "regex"),
    "a mode with a line break": ('[server]\nsocket_mode = "600\\n"', "server.socket_mode", "regex"),
    "a choice that is none": ('[run]\non_stop = "kill"', "run.on_stop", "Invalid enum value 'kill'"),
    "another choice that is none": ('[run]\ncgroups = "on"', "run.cgroups", "Invalid enum value 'on'"),
    "a limit that is none": ("[run]\nwall_seconds = -1", "run.wall_seconds", ">= 0"),
    "a memory of another unit": (
        '[agents.a]\nkind = "command"\ncommand = ["x"]\nmax_memory = "5T"',
        "agents.a.max_memory",
        "regex",
    ),
    "a memory that no shell would fit in": (
        '[agents.a]\nkind = "command"\ncommand = ["x"]\nmax_memory = "16383K"',
        "agents.a.max_memory",
        "less than 16M",
    ),
    "a memory for what lives in the daemon": (
        '[agents.a]\nkind = "python"\ntarget = "a:b"\nmax_memory = "1G"',
        "agents.a.max_memory",
        "own process",
    ),
    "no processes": (
        '[agents.a]\nkind = "command"\ncommand = ["x"]\nmax_pids = 1',
        "agents.a.max_pids",
        ">= 2",
    ),
    "an inherited variable with a value": ('[run]\ninherit_env = ["A=1"]', "run.inherit_env[0]", "regex"),
    "an inherited variable with a star inside": (
        '[agents.a]\nkind = "command"\ncommand = ["x"]\ninherit_env = ["A*B"]',
        "agents.a.inherit_env[0]",
        "regex",
    ),
    "a slow heart": (
        "[owner]\nlease_seconds = 10\nheartbeat_seconds = 6",
        "owner.heartbeat_seconds",
        "6 is more than half of owner.lease_seconds (10)",
    ),
    "an agent without a kind": ("[agents.a]", "agents.a.kind", "required"),
    "an agent of an unknown kind": (
        '[agents.a]\nkind = "magic"',
        "agents.a.kind",
        "Invalid enum value 'magic'",
    ),
    "a command without a command": ('[agents.a]\nkind = "command"', "agents.a.command", "needs it"),
    "an empty command": ('[agents.a]\nkind = "command"\ncommand = []', "agents.a.command", "length >= 1"),
    "a command that is text": (
        '[agents.a]\nkind = "command"\ncommand = "ls"',
        "agents.a.command",
        "Expected `array",
    ),
    "a command with a number": (
        '[agents.a]\nkind = "command"\ncommand = ["x", 1]',
        "agents.a.command[1]",
        "Expected `str`",
    ),
    "a command with a target": (
        '[agents.a]\nkind = "command"\ncommand = ["x"]\ntarget = "a:b"',
        "agents.a.target",
        "no use for it",
    ),
    "an agent of a model and a target": (
        '[agents.a]\nkind = "pydantic-ai"\ntarget = "a:b"\nmodel = "m"',
        "agents.a.model",
        "an agent by its target has its own",
    ),
    "an agent of no model": ('[agents.a]\nkind = "pydantic-ai"', "agents.a.model", "needs it"),
    "a model at no address": (
        '[agents.a]\nkind = "pydantic-ai"\nmodel = "m"\nbase_url = "localhost"',
        "agents.a.base_url",
        "",
    ),
    "permissions of a command": (
        '[agents.a]\nkind = "command"\ncommand = ["x"]\npermissions = "allow"',
        "agents.a.permissions",
        "no use for it",
    ),
    "a format that nobody knows": (
        '[agents.a]\nkind = "command"\ncommand = ["x"]\nformat = "xml"',
        "agents.a.format",
        "Invalid enum value 'xml'",
    ),
    "a flavour of an ACP agent": (
        '[agents.a]\nkind = "acp"\ncommand = ["x"]\nflavour = "trio"',
        "agents.a.flavour",
        "no use for it",
    ),
    "a python without a target": ('[agents.a]\nkind = "python"', "agents.a.target", "needs it"),
    "a python with a command": (
        '[agents.a]\nkind = "python"\ntarget = "a:b"\ncommand = ["x"]',
        "agents.a.command",
        "no use for it",
    ),
    "a target that is none": ('[agents.a]\nkind = "python"\ntarget = "a.b"', "agents.a.target", "regex"),
    "an environment with a number": (
        '[agents.a]\nkind = "command"\ncommand = ["x"]\nenv = { A = 1 }',
        "agents.a.env[...]",
        "Expected `str`",
    ),
    "an agent with the name of the built-in one": (
        '[agents.demo]\nkind = "command"',
        "agents.demo",
        "is not demo",
    ),
    "an agent with a name that is none": ('[agents."a b"]\nkind = "command"', "agents.a b", "a name has"),
    "an agent with letters of elsewhere": ('[agents."é"]\nkind = "command"', "agents.é", "a name has"),
    "an agent with no name": ('[agents.""]\nkind = "command"', "agents.", "a name has"),
    "an agent with a long name": (
        f'[agents.{LONG_NAME}]\nkind = "command"',
        f"agents.{LONG_NAME}",
        "a name has",
    ),
    "a NUL in a command": (
        '[agents.a]\nkind = "command"\ncommand = ["a\\u0000"]',
        "agents.a.command",
        "NUL",
    ),
    "a NUL in a path": ('[store]\nstate_dir = "a\\u0000"', "store.state_dir", "NUL"),
    "an environment that no program takes": (
        '[agents.a]\nkind = "command"\ncommand = ["x"]\nenv = { "A=B" = "1" }',
        "agents.a.env",
        "=",
    ),
}


@pytest.mark.parametrize(("text", "key", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_refused_with_file_key_and_reason(file, text, key, reason):
    """One line that says which file, which key, and why."""
    with pytest.raises(SettingsRefused) as refused:
        read(file, text)
    message = str(refused.value)
    assert message.startswith(f"cannot accept {file}: {key}: ")
    assert reason in message.removeprefix(f"cannot accept {file}: {key}: ")
    assert "\n" not in message
    assert "\0" not in message


BROKEN = {
    "no TOML": b"[server",
    "a key twice": b"[server]\n[server]",
    "no UTF-8": b"\xff\xfe",
    "a date that is none": b"x = 2024-13-45",
    "a number without end": b"x = " + b"9" * 5000,
    "nesting without end": b"x = " + b"[" * 50_000,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_be_read_is_refused_with_the_file(file, data):
    """A file that is no TOML is refused by name, whatever is wrong with it."""
    file.write_bytes(data)
    with pytest.raises(SettingsRefused, match=f"cannot read {file}: "):
        read_settings(file)


def test_a_file_that_is_not_there_is_refused(file, tmp_path):
    """A missing file, and a directory, are refused by name."""
    for path in (file, tmp_path):
        with pytest.raises(SettingsRefused, match=f"cannot read {path}: "):
            read_settings(path)


# ---------------------------------------------------------------- properties

texts = st.text(max_size=8)
numbers = st.integers() | st.floats() | st.booleans()
times = st.datetimes(timezones=st.just(UTC)) | st.datetimes() | st.dates() | st.times()
leaves = texts | numbers | times
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
keys = st.sampled_from([
    *(field.name for kind in Settings.__attrs_attrs__ for field in getattr(kind.default, "__attrs_attrs__", ())),
    *["kind", "command", "target", "env", "cwd", "format", "description", "a", "demo"],
])  # fmt: skip
plausible = (
    leaves
    | st.sampled_from(["command", "python", "a:b", "600", "drain", "leave", "text"])
    | st.lists(texts, max_size=2)
    | st.dictionaries(texts, texts, max_size=2)
)
tables = st.dictionaries(keys | texts, plausible | values, max_size=5)
sections = st.sampled_from([field.name for field in attrs.fields(Settings)])
documents = st.dictionaries(
    sections | texts, tables | values | st.dictionaries(texts | st.just("a"), tables, max_size=2), max_size=4
)


def write_toml(value):
    """A TOML value on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{write_toml(str(name))} = {write_toml(item)}" for name, item in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(write_toml, value)) + "]"
    if isinstance(value, str):
        safe = set(string.ascii_letters + string.digits + " -_.:/")
        return '"' + "".join(c if c in safe else f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, float):
        return "nan" if math.isnan(value) else str(value)
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


@examples
@given(documents)
def test_any_document_is_accepted_or_refused(document):
    """Whatever a file may say, the answer is settings or one clear refusal, never anything else."""
    text = "\n".join(f"{write_toml(name)} = {write_toml(value)}" for name, value in document.items())
    path = Path("/etc/outlived.toml")
    try:
        settings = _check(path, tomllib.loads(text))
    except SettingsRefused as refused:
        message = str(refused)
        assert message.startswith(f"cannot accept {path}: ")
        assert "\n" not in message
    else:
        assert isinstance(settings, Settings)
        assert settings.owner.heartbeat_seconds * 2 <= settings.owner.lease_seconds


@examples
@given(
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_file_is_accepted_or_refused(tmp_path_factory, data):
    """Whatever bytes a file holds, the answer is settings or one clear refusal."""
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(data)
    try:
        read_settings(file)
    except SettingsRefused as refused:
        message = str(refused)
    else:
        message = str(file)
    assert str(file) in message
