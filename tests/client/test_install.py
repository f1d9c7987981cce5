"""What ``pip install outlive`` brings: the client and the command line, and not much else."""

from importlib.metadata import requires

from packaging.requirements import Requirement

FEW = 12


def list_required(name, found):
    """Every distribution that ``name`` needs here, without extras, into ``found``."""
    for line in requires(name) or []:
        requirement = Requirement(line)
        if requirement.name.lower() not in found and (
            requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ):
            found.add(requirement.name.lower())
            list_required(requirement.name, found)
    return found


def test_the_base_install_is_light():
    """Without extras it is fewer than twelve packages, and none of them is a server's."""
    found = list_required("outlive", {"outlive"})
    assert len(found) < FEW, found
    assert not found & {"trio", "psycopg", "structlog"}
