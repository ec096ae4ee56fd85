"""How far each reader got, and which requests fetch what is missing. Pure but where the store is asked."""

from collections.abc import Mapping

from meshobs import sqlfiles
from meshobs.collector.node_name import NodeName
from meshobs.store import Writer


def positions_of(store: Writer, asked: str) -> dict[str, int]:
    """Return until where each node is stored by readers that asked for the same."""
    rows = store.rows(sqlfiles.read("collector/write/sql/resume/read.sql"), {"asked": asked})
    return {str(node): int(str(until)) for node, until in rows}


def save_positions(store: Writer, reader: str, asked: str, positions: Mapping[str, int]) -> None:
    """Store positions inside the running transaction."""
    if positions:
        parameters = {"reader": reader, "asked": asked, "nodes": list(positions), "times": list(positions.values())}
        store.run(sqlfiles.read("collector/write/sql/resume/save.sql"), parameters)


def find_stored_until(store: Writer, node: str, before: int) -> int | None:
    """Return the last stored flow of a node before a moment of its own clock."""
    cluster, name = NodeName.parse(node)
    parameters = {"cluster": cluster, "node": name, "before": before}
    found = store.value(sqlfiles.read("collector/write/sql/resume/stored_until.sql"), parameters)
    return int(str(found)) if found is not None else None
