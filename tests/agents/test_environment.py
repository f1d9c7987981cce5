"""What a command finds in its environment, and what it never finds there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlived.agents import Assignment
from outlived.agents.environment import ALLOWED, WITHHELD, make_environment

examples = settings(derandomize=True, deadline=None)

OURS = {"OUTLIVE_RUN_ID": "r", "OUTLIVE_CHAT_ID": "c", "OUTLIVE_WORKSPACE": "w", "OUTLIVE_ATTEMPT": "2"}
SYSTEM = {
    "LISTEN_FDS": "1",
    "LISTEN_PID": "7",
    "LISTEN_FDNAMES": "x",
    "NOTIFY_SOCKET": "/run/x",
    "WATCHDOG_USEC": "3",
    "WATCHDOG_PID": "7",
    "CREDENTIALS_DIRECTORY": "/run/c",
    "PGHOST": "/tmp",
    "PGPASSWORD": "secret",
    "OUTLIVED_DATABASE": "secret",
    "OUTLIVE_SOCKET": "/run/s",
    "OUTLIVE_RUN_ID": "another",
    "INVOCATION_ID": "1",
    "STATE_DIRECTORY": "/var/lib/x",
}
names = st.sampled_from(
    [*SYSTEM, *(name.replace("*", "X") for name in (*ALLOWED, *WITHHELD)), "API_KEY", "API_BASE", "OTHER"]
) | st.text("ABPGLISTEN_*", min_size=1, max_size=8)
variables = st.dictionaries(names, st.text(max_size=3), max_size=12)


def make(daemon=None, inherit=(), configured=None, given=None):
    assignment = Assignment("r", "w", "c", 2, "", {}, env=given)
    return make_environment(daemon or {}, inherit, configured or {}, assignment)


def test_a_command_finds_its_way_and_nothing_else():
    """Paths, the user, language, time zone, proxies and certificates are handed on; all else is not."""
    way = {"PATH": "/bin", "HOME": "/h", "USER": "u", "LC_TIME": "C", "TZ": "UTC", "https_proxy": "p"}
    rest = {
        "OPENAI_API_KEY": "secret",
        "SSH_AUTH_SOCK": "/tmp/a",
        "TERM": "xterm",
        "LCX": "1",
        "PYTHONPATH": "/x",
    }
    assert make({**way, **rest}) == {**way, **OURS}


def test_the_configuration_may_name_more():
    """A name adds that variable, a beginning with a star all that begin so, a star all."""
    daemon = {"API_KEY": "1", "API_BASE": "2", "APIARY": "3", "OTHER": "4"}
    assert make(daemon, ["API_KEY"]) == {"API_KEY": "1", **OURS}
    assert make(daemon, ["API_*", "MISSING"]) == {"API_KEY": "1", "API_BASE": "2", **OURS}
    assert make(daemon, ["*"]) == {**daemon, **OURS}


@pytest.mark.parametrize("inherit", [[], ["*"], list(SYSTEM), ["PG*", "LISTEN_*", "OUTLIVED_*"]])
def test_what_is_the_daemons_own_never_leaks(inherit):
    """However much is named, sockets, credentials and settings that were given to the daemon stay with it."""
    assert make(SYSTEM, inherit) == OURS


def test_who_sets_a_variable_means_it():
    """The agent's settings beat what is inherited, the caller's beat those, and nobody's beat which run it is."""
    found = make(
        {"PATH": "/daemon", "LANG": "C"},
        configured={"PATH": "/agent", "PGHOST": "agent", "BOTH": "agent"},
        given={"BOTH": "caller", "OUTLIVE_RUN_ID": "forged", "NOTIFY_SOCKET": "caller"},
    )
    assert found == {
        "PATH": "/agent",
        "LANG": "C",
        "PGHOST": "agent",
        "BOTH": "caller",
        "NOTIFY_SOCKET": "caller",
        **OURS,
    }


@given(
    daemon=variables, inherit=st.lists(names, max_size=4), configured=variables, caller=st.none() | variables
)
@examples
def test_every_variable_has_its_reason(daemon, inherit, configured, caller):
    """Whatever is there was set by somebody who may, or is the daemon's and wanted and not its own."""
    found = make(daemon, inherit, configured, caller)
    assert found.items() >= OURS.items()
    for name, value in found.items():
        if name in OURS:
            continue
        if name in (caller or {}):
            assert value == caller[name]
        elif name in configured:
            assert value == configured[name]
        else:
            assert value == daemon[name]
            assert name not in SYSTEM
            assert not name.startswith(("PG", "LISTEN_", "WATCHDOG_", "OUTLIVE_", "OUTLIVED_"))
    assert found.keys() >= configured.keys() | (caller or {}).keys()
    assert make(daemon, [*inherit, "*"], configured, caller).items() >= found.items()
