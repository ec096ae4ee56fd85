"""What a report says of a window, and which of several answers counts."""

from collections.abc import Iterable
from enum import Enum


class Verdict(Enum):
    """Everything is as it should be, the data do not tell, or something is not; from the best to the worst."""

    OK = "ok"
    INSUFFICIENT = "insufficient"
    VIOLATION = "violation"

    def at_least(self, other: "Verdict") -> bool:
        """Tell whether this one is as bad as another, or worse."""
        return _rank(self) >= _rank(other)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst; of none it is insufficient: nothing was seen that could have gone wrong."""
    return max(verdicts, key=_rank, default=Verdict.INSUFFICIENT)


def _rank(verdict: Verdict) -> int:
    return list(Verdict).index(verdict)
