"""First and last flow of a source, a recording or a run."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """First and last flow of a source, a recording or a run."""

    first: int
    last: int

    @staticmethod
    def around(spans: "Iterable[Span | None]") -> "Span | None":
        """Return the span that covers all of them, None if there is none."""
        known = [span for span in spans if span]
        return Span(min(span.first for span in known), max(span.last for span in known)) if known else None
