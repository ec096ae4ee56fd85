"""A stretch of a node's flows that could not be had."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gap:
    """A stretch of which nothing could be had, from `first` to `end` in nanoseconds."""

    reader: str
    node: str
    first: int
    end: int
    reason: str
