"""The scenes of the fault tests, and their figures."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.effort import Effort
from tests.support.figures import NAME, Figures
from tests.support.scene import Scene

USUAL_SEED = 5


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


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    database: str,
    make_daemon: Callable[..., Daemon],
    figures: Figures,
    seed: int,
) -> Iterator[Scene]:
    """An audited database without daemons."""
    name = request.node.name.removeprefix("test_").replace("[", "-").replace("]", "").replace(" ", "-")
    yield Scene(name, seed, database, figures, make_daemon)
    print(f"seed {seed}")
