"""The scenes of the fault tests, and their figures."""

import re
from collections.abc import Callable, Generator, Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.figures import NAME, Figures
from tests.support.scene import Scene

USUAL_SEED = 5
FAILURE = pytest.StashKey[str]()


@pytest.fixture
def seed(effort: Effort) -> int:
    """The usual one, or that of ``--long``."""
    return USUAL_SEED if effort.seed is None else effort.seed


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """What the test counts; told at the end of a long session."""
    figures = Figures()
    request.node.user_properties.append((NAME, figures.counts))
    return figures


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the fixtures know that a test has failed, and how."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[FAILURE] = report.longreprtext
    return report


@pytest.fixture
def make_scene(
    request: pytest.FixtureRequest, make_daemon: Callable[..., Daemon], figures: Figures, seed: int
) -> Iterator[Callable[[str], Scene]]:
    """Make the scenes of a test, each of a database. If it fails, the last one's history is kept."""
    scenes: list[Scene] = []
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")

    def make(database: str) -> Scene:
        scenes.append(Scene(name, seed, database, figures, make_daemon))
        return scenes[-1]

    yield make
    print(f"seed {seed}")
    if scenes and (failure := request.node.stash.get(FAILURE, None)) is not None:
        print(f"kept in {scenes[-1].keep_evidence([failure])}")


@pytest.fixture
def scene(make_scene: Callable[[str], Scene], database: str) -> Scene:
    """An audited database without daemons."""
    return make_scene(database)
