"""``python`` agents: a callable of the user's, imported when it is first needed."""

import sys

import pytest

from outlived.agents import AgentBroken, Assignment
from outlived.agents.python import PythonAgent
from tests.support.desk import make_desk, perform

MODULE = """
import functools, sys

loaded = getattr(sys, "_loaded_here", 0) + 1
sys._loaded_here = loaded

async def answer(desk):
    await desk.emit_text(f"you said {desk.assignment.input}")

async def fail(desk):
    raise ValueError("no")

class Agents:
    @staticmethod
    async def nested(desk):
        await desk.emit_text("nested")

    async def __call__(self, desk):
        await desk.emit_text("called")

instance = Agents()

async def _half(prefix, desk):
    await desk.emit_text(prefix)

half = functools.partial(_half, "half")

def not_async(desk):
    pass

async def generator(desk):
    yield 1

number = 5
"""
BROKEN = {
    "raises": "raise ValueError('at import')",
    "exits": "raise SystemExit(3)",
    "is_no_python": "def (",
    "imports_what_is_not_there": "import no_such_module_anywhere",
    "stops": "raise GeneratorExit",
    "says_strange_things": "class Odd(Exception):\n    def __str__(self):\n        raise TypeError('odd')\nraise Odd",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A directory of modules that can be imported while the test lasts."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "agents_of_mine.py").write_text(MODULE)
    for name, text in BROKEN.items():
        (tmp_path / f"broken_{name}.py").write_text(text)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("agents_of_mine", "broken_"))]:
        del sys.modules[name]
    vars(sys).pop("_loaded_here", None)


@pytest.mark.parametrize(
    ("name", "said"),
    [("answer", "you said hi"), ("Agents.nested", "nested"), ("instance", "called"), ("half", "half")],
)
async def test_an_async_callable_performs(modules, name, said):
    """Any async callable that a module offers, however nested or wrapped, gets the desk and does the turn."""
    desk = make_desk("hi")
    agent = PythonAgent(f"agents_of_mine:{name}")
    agent.check()
    seen = await perform(agent, desk)
    assert (seen.raised, desk.text) == (None, said)


async def test_what_it_raises_comes_out(modules):
    """The exception of the callable is the exception of the turn."""
    seen = await perform(PythonAgent("agents_of_mine:fail"), make_desk())
    assert isinstance(seen.raised, ValueError)


async def test_a_module_is_imported_when_it_is_needed_and_once(modules):
    """Making the agent imports nothing; its check does; later turns do not import again."""
    agent = PythonAgent("agents_of_mine:answer")
    assert "agents_of_mine" not in sys.modules
    agent.check()
    del sys.modules["agents_of_mine"]
    await perform(agent, make_desk())
    assert "agents_of_mine" not in sys.modules
    assert sys._loaded_here == 1


@pytest.mark.parametrize("name", BROKEN)
def test_a_module_that_cannot_be_imported_is_the_agents_fault(modules, name):
    """Whatever a module does while it is imported - SystemExit too - is one clear error that names the target."""
    with pytest.raises(AgentBroken, match=f"cannot import broken_{name}:answer"):
        PythonAgent(f"broken_{name}:answer").check()


@pytest.mark.parametrize(
    "target", ["no_such_module:x", "agents_of_mine:absent", "agents_of_mine:Agents.absent", ".:x"]
)
def test_a_target_that_is_not_there_is_said(modules, target):
    """A missing module, a missing name and a name that is no name are one clear error."""
    with pytest.raises(AgentBroken, match="cannot import"):
        PythonAgent(target).check()


@pytest.mark.parametrize("name", ["not_async", "number", "generator", "Agents"])
def test_what_is_not_async_is_refused_before_the_run(modules, name):
    """A plain function would block every run of the daemon: it is refused, with its name."""
    agent = PythonAgent(f"agents_of_mine:{name}")
    with pytest.raises(AgentBroken, match=f"cannot use agents_of_mine:{name}: it is not an async function"):
        agent.check_assignment(Assignment("run", "default", "chat", 1, "", {}))


def test_a_module_may_be_mended(modules):
    """A failed import is not remembered: once the module is mended the agent works, without a restart."""
    agent = PythonAgent("broken_raises:answer")
    with pytest.raises(AgentBroken):
        agent.check()
    (modules / "broken_raises.py").write_text("async def answer(desk): pass  # mended, of another size")
    agent.check()
