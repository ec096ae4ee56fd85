"""Which requests fetch what is missing. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshobs.times import SECOND

# What is asked for again: within a node, flows come sorted but for milliseconds.
OVERLAP = 5 * SECOND
# Nodes whose positions lie this close are asked for together.
TOGETHER = 60 * SECOND


@dataclass(frozen=True)
class Backfill:
    """One request for what is missing.

    Attributes:
        since: nanoseconds.
        positions: node -> until where it is stored; a flow not later than that proves that nothing is missing.
    """

    since: int
    positions: Mapping[str, int]


def backfills(positions: Mapping[str, int], nodes: Iterable[str]) -> list[Backfill]:
    """Return the requests that fetch what is missing of some nodes.

    Args:
        positions: node -> until where it is stored.
        nodes: which nodes; those without a position have nothing to go on from.
    """
    known = sorted((positions[node], node) for node in set(nodes) if node in positions)
    groups: list[list[tuple[int, str]]] = []
    for position, node in known:
        if groups and position - groups[-1][-1][0] <= TOGETHER:
            groups[-1].append((position, node))
        else:
            groups.append([(position, node)])
    return [Backfill(max(1, group[0][0] - OVERLAP), {node: position for position, node in group}) for group in groups]
