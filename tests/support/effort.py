"""How much a test of many examples does: the same little in every usual session, much with ``--long``."""

import attrs


@attrs.frozen
class Effort:
    """``seed`` is None in a usual session, in which chance draws the same each time. ``share``: of the long form."""

    seed: int | None
    share: float = 1.0

    def choose(self, usual: int, long: int) -> int:
        """A number of examples, steps or crashes."""
        return usual if self.seed is None else max(usual, round(long * self.share))
