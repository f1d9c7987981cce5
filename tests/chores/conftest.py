"""The chores' fixtures are those of every room above the journal."""

from tests.support.rooms import proxy, quick, shared_database

__all__ = ["proxy", "quick", "shared_database"]
