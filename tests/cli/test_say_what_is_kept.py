"""The command line and runs whose events are no longer kept: what is gone is said, what is kept is shown."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.daemon import FAST, Daemon
from tests.support.homes import end_cleanly, make_home
from tests.support.postgres import Postgres
from tests.support.runs import perform
from tests.support.waits import wait_until
from tests.support.wire import Json


@pytest.fixture(scope="module")
def forgetful(postgres: Postgres, short_dir: Path) -> Iterator[Daemon]:
    """A daemon that keeps events for about a second."""
    config = FAST + "[events]\nretention_days = 0.00001\n"
    daemon = Daemon(make_home(short_dir), database=postgres.create_database(), config=config).start()
    yield daemon
    end_cleanly(daemon)


@pytest.fixture(scope="module")
def pruned(forgetful: Daemon) -> Json:
    """A run without events."""
    with forgetful.connect() as wire:
        run = perform(wire, input="what it said", chat_id="talk")

        def look() -> Json | None:
            now = wire.call("run/get", run_id=run["id"])["run"]
            return now if now["first_seq"] > now["last_seq"] else None

        return wait_until(look, 20, "it is pruned")


@pytest.fixture
def line(forgetful: Daemon, sit_at: Callable[..., CommandLine]) -> CommandLine:
    """The command line, at that daemon."""
    return sit_at(forgetful)


@pytest.mark.parametrize("arguments", [[], ["--no-follow"], ["--after", "2"], ["--json"]])
def test_tail_says_that_the_events_are_gone(line: CommandLine, pruned: Json, arguments: list[str]):
    """A tail that begins among events that are gone shows nothing, says so and what is kept, and ends with 1."""
    done = line.run("tail", pruned["id"], *arguments)
    after = arguments[1] if len(arguments) > 1 else 0
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"outlive: cannot tail run {pruned['id']} after {after}: its events are no longer kept; "
        "the run and its message stay: outlive show RUN\n"
    )


def test_tail_from_the_end_says_how_it_ended(line: CommandLine, pruned: Json):
    """A tail from the last event, which needs no other, ends as the run did."""
    done = line.run("tail", "@last", "--after", str(pruned["last_seq"]))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_show_has_the_run_and_what_it_said(line: CommandLine, pruned: Json):
    """The page of a pruned run has everything, its message too, and says that its events are gone."""
    done = line.run("show", pruned["id"])
    assert done.returncode == 0
    assert ["events", f"{pruned['last_seq']},", "no", "longer", "kept"] in [
        each.split() for each in done.stdout.splitlines()
    ]
    assert done.stdout.endswith("what it said\n")
    shown = json.loads(line.run("show", "--json", pruned["id"]).stdout)
    assert shown["run"]["first_seq"] == pruned["last_seq"] + 1


def test_lists_and_messages_are_as_ever(line: CommandLine, pruned: Json):
    """Runs, chats and messages are listed whether events are kept or not."""
    assert pruned["id"][-8:] in line.run("list").stdout
    assert "talk" in line.run("chats").stdout
    said = line.run("messages", "talk")
    assert (said.returncode, said.stdout.count("what it said")) == (0, 2)
    assert line.run("wait", pruned["id"]).returncode == 0
