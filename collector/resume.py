"""How far each reader got, and which requests fetch what is missing. Pure but where the store is asked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshobs import sqlfiles
from meshobs.store import Store
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


def positions_of(store: Store, asked: str) -> dict[str, int]:
    """Return until where each node is stored by readers that asked for the same."""
    rows = store.rows(sqlfiles.read("collector/sql/resume/read.sql"), {"asked": asked})
    return {str(node): int(str(until)) for node, until in rows}


def save_positions(store: Store, reader: str, asked: str, positions: Mapping[str, int]) -> None:
    """Store positions inside the running transaction."""
    if positions:
        parameters = {"reader": reader, "asked": asked, "nodes": list(positions), "times": list(positions.values())}
        store.run(sqlfiles.read("collector/sql/resume/save.sql"), parameters)


def stored_until(store: Store, node: str, before: int) -> int | None:
    """Return the last stored flow of a node before a moment of its own clock."""
    cluster, _, name = node.partition("/")
    parameters = {"cluster": cluster, "node": name, "before": before}
    found = store.value(sqlfiles.read("collector/sql/resume/stored_until.sql"), parameters)
    return int(str(found)) if found is not None else None
