"""The history tables: stores states of Kubernetes objects and remakes the periods from all of them.

Topology is small; remaking it whole keeps one rule for states that arrive late, twice or out of order.
"""

from collections.abc import Sequence

import pyarrow as pa

from meshobs import sqlfiles
from meshobs.collector.topology import RelayNode, Sighting
from meshobs.store import Store

_SIGHTINGS = pa.schema(
    [
        *((name, pa.string()) for name in ("cluster", "kind", "namespace", "name", "uid", "created", "state")),
        ("valid_from", pa.int64()),
        ("known_from", pa.int64()),
        ("deleted", pa.bool_()),
    ]
)
_NODES = pa.schema(
    [
        ("time", pa.int64()),
        *((name, pa.string()) for name in ("node_name", "state", "version", "address")),
        *((name, pa.uint64()) for name in ("uptime_ns", "num_flows", "max_flows", "seen_flows")),
    ]
)


def add_sightings(store: Store, sightings: Sequence[Sighting]) -> None:
    """Store states; the same one again changes nothing."""
    rows = [
        {
            "cluster": seen.cluster,
            "kind": seen.state.kind,
            "namespace": seen.state.namespace,
            "name": seen.state.name,
            "uid": seen.state.uid,
            "created": seen.state.created,
            "state": seen.state.state,
            "valid_from": seen.valid_from,
            "known_from": seen.known_from,
            "deleted": seen.deleted,
        }
        for seen in sightings
    ]
    with store.relation("sightings", pa.Table.from_pylist(rows, _SIGHTINGS)):
        store.run(sqlfiles.read("ingest/insert_sightings.sql"))


def add_relay_nodes(store: Store, reader: str, nodes: Sequence[RelayNode]) -> None:
    """Store what a Relay said of its nodes; the same again changes nothing."""
    rows = [{name: getattr(node, name) for name in _NODES.names} for node in nodes]
    with store.relation("seen_nodes", pa.Table.from_pylist(rows, _NODES)):
        store.run("set variable reader = ?", [reader])
        store.run(sqlfiles.read("ingest/insert_relay_nodes.sql"))


def remake(store: Store) -> None:
    """Make the history tables from all stored states, in one transaction."""
    with store.transaction():
        for name in sqlfiles.names("history"):
            store.run(sqlfiles.read(name))
