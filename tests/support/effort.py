"""How much a test of many examples does: the same little in every usual session, much with ``--long``."""

import attrs


@attrs.frozen
class Effort:
    """``seed`` is None in a usual session, in which chance draws the same each time."""

    seed: int | None

    def choose(self, usual: int, long: int) -> int:
        """A number of examples, steps or crashes."""
        return usual if self.seed is None else long
